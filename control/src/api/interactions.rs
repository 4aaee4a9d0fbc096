//! What came of calls with people, and what may come of them. Operators see what they noted, supervisors what their team did.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::contacts::NOTE_CHARS;
use super::extract::{Body, Fields, Page, Paging, Params, bad_place, given, if_match, lines, name, tagged, text};
use super::problem::Problem;
use super::{calls, contacts, do_not_call, records};
use crate::control::Control;
use crate::identity::Caller;
use crate::numbers;
use crate::store::contacts::Contact;
use crate::store::do_not_call::DoNotCall;
use crate::store::interactions::{Disposition, Interaction, InteractionFilter};
use crate::time::Moment;

/// Dispositions at most.
pub const DISPOSITIONS_LIMIT: i64 = 200;

/// What came of a call.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInteraction {
    /// The call, in progress or ended.
    pub call: Option<String>,
    /// Whom it was with; where it does not say, whoever of the contacts that one sees has the call's number, if only one does.
    pub contact: Option<String>,
    /// Their number, where no call or contact says it.
    pub number: Option<String>,
    /// What came of it: the name of a disposition.
    #[schema(example = "call_back")]
    pub disposition: String,
    /// What is to be known of it.
    pub note: Option<String>,
    /// When; now where it does not say.
    pub at: Option<Moment>,
    /// When they are to be called again.
    pub follow_up_at: Option<Moment>,
}

/// What of it changes; the rest stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeInteraction {
    /// What came of it.
    pub disposition: Option<String>,
    /// What is to be known of it, or null.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
    /// When they are to be called again, or null.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Moment>)]
    pub follow_up_at: Option<Option<Moment>>,
}

/// What a disposition is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDisposition {
    /// What people see.
    #[schema(example = "Wants to be called back")]
    pub label: String,
    /// Nothing more is to be done.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// They are to be called again.
    #[serde(default)]
    pub call_back: bool,
    /// They are not to be called any more: their number goes on the list.
    #[serde(default)]
    pub do_not_call: bool,
}

/// What may come of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dispositions {
    /// By label.
    pub items: Vec<Disposition>,
}

/// Which interactions, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InteractionQuery {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// With this contact.
    contact: Option<String>,
    /// With this number.
    number: Option<String>,
    /// Of this call.
    call: Option<String>,
    /// Noted by this user.
    user: Option<String>,
    /// This came of it.
    disposition: Option<String>,
    /// Then or later.
    from: Option<Moment>,
    /// Before then.
    until: Option<Moment>,
    /// To be followed up before then.
    follow_up_until: Option<Moment>,
}

/// List what came of calls
#[utoipa::path(get, path = "/api/v1/interactions", operation_id = "listInteractions", tag = "contacts", params(InteractionQuery),
    responses((status = 200, description = "Latest first", body = Page<Interaction>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<InteractionQuery>,
) -> Result<Json<Page<Interaction>>, Problem> {
    let paging = Paging { limit: query.limit, after: query.after };
    let (limit, place) = (paging.limit()?, paging.place()?);
    let after = place.as_deref().map(|place| {
        let (at, id) = place.split_once('/').ok_or_else(bad_place)?;
        Ok::<_, Problem>((at.parse::<i64>().map_err(|_| bad_place())?, id))
    });
    let id = |field: &str, id: Option<String>| id.map(|id| text(field, &id, 128)).transpose();
    let filter = InteractionFilter {
        contact: id("contact", query.contact)?,
        number: query.number.as_deref().map(|number| contacts::number(&control, "number", number)).transpose()?,
        call: id("call", query.call)?,
        user: id("user", query.user)?,
        disposition: id("disposition", query.disposition)?,
        from: query.from,
        until: query.until,
        follow_up_until: query.follow_up_until,
    };
    let items = control.store.interactions(&caller.whose(), &filter, after.transpose()?, limit + 1).await?;
    Ok(Json(Page::of(items, limit, |interaction| format!("{}/{}", interaction.at.0, interaction.id))))
}

/// Note what came of a call
///
/// Where the disposition says that they are not to be called, their number goes on the do-not-call list.
#[utoipa::path(post, path = "/api/v1/interactions", operation_id = "addInteraction", tag = "contacts", request_body = CreateInteraction,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is noted once")),
    responses((status = 201, description = "What was noted", body = Interaction)))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateInteraction>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    let disposition = fields.take(disposition(&control, &wanted.disposition).await);
    let note = wanted.note.as_deref().and_then(|note| fields.take(lines("note", note, NOTE_CHARS)));
    let of_call = match &wanted.call {
        Some(call) => fields.take(number_of_call(&control, &caller, call).await).flatten(),
        None => None,
    };
    let contact = match (&wanted.contact, &of_call) {
        (Some(id), _) => fields.take(find_contact(&control, &caller, id).await),
        (None, Some(number)) => only_contact(&control, &caller, number).await?,
        (None, None) => None,
    };
    let given = wanted.number.as_deref().and_then(|number| fields.take(contacts::number(&control, "number", number)));
    if wanted.call.is_none() && wanted.contact.is_none() && wanted.number.is_none() {
        fields.wrong("call", "say which call it was, or which contact or number");
    }
    fields.done()?;
    let Some(disposition) = disposition else { return Err(Problem::field("disposition", "name one")) };
    let new = Interaction {
        id: String::new(),
        call: wanted.call,
        number: given.or(of_call),
        contact: contact.as_ref().map(|contact| contact.id.clone()),
        user: Some(caller.user.id.clone()),
        team: caller.user.team.clone(),
        disposition: disposition.name.clone(),
        note,
        at: wanted.at.unwrap_or_else(Moment::now),
        follow_up_at: wanted.follow_up_at,
        version: 0,
    };
    let entries = not_to_call(&caller, &disposition, new.number.as_ref(), contact.as_ref())?;
    let interaction = control.store.add_interaction(new, &entries).await?;
    if !entries.is_empty() {
        control.apply_do_not_call().await?;
    }
    noted(&control, &caller, "interaction.create", &interaction, &entries).await;
    Ok(tagged(StatusCode::CREATED, interaction.version, interaction))
}

/// Show what came of a call
#[utoipa::path(get, path = "/api/v1/interactions/{id}", operation_id = "showInteraction", tag = "contacts", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "What came of it", body = Interaction), (status = 404, description = "No such interaction", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let interaction = find(&control, &caller, &id).await?;
    Ok(tagged(StatusCode::OK, interaction.version, interaction))
}

/// Change what came of a call
#[utoipa::path(patch, path = "/api/v1/interactions/{id}", operation_id = "changeInteraction", tag = "contacts", request_body = ChangeInteraction,
    params(("id" = String, Path, description = "Its id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "What came of it", body = Interaction),
              (status = 404, description = "No such interaction", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<ChangeInteraction>,
) -> Result<Response, Problem> {
    let mut changed = find(&control, &caller, &id).await?;
    let (mut fields, mut entries) = (Fields::default(), Vec::new());
    if let Some(Some(note)) = &wanted.note {
        changed.note = fields.take(lines("note", note, NOTE_CHARS));
    } else if wanted.note.is_some() {
        changed.note = None;
    }
    if let Some(name) = &wanted.disposition
        && let Some(disposition) = fields.take(disposition(&control, name).await)
    {
        let contact = match &changed.contact {
            Some(id) => control.store.contact(&caller.whose(), id).await?,
            None => None,
        };
        entries = not_to_call(&caller, &disposition, changed.number.as_ref(), contact.as_ref())?;
        changed.disposition = disposition.name;
    }
    fields.done()?;
    changed.follow_up_at = wanted.follow_up_at.unwrap_or(changed.follow_up_at);
    let interaction = control.store.change_interaction(&changed, if_match(&headers)?, &entries).await?;
    if !entries.is_empty() {
        control.apply_do_not_call().await?;
    }
    noted(&control, &caller, "interaction.change", &interaction, &entries).await;
    Ok(tagged(StatusCode::OK, interaction.version, interaction))
}

/// List dispositions
#[utoipa::path(get, path = "/api/v1/dispositions", operation_id = "listDispositions", tag = "contacts",
    responses((status = 200, description = "What may come of a call", body = Dispositions)))]
pub(crate) async fn dispositions(State(control): State<Arc<Control>>) -> Result<Json<Dispositions>, Problem> {
    Ok(Json(Dispositions { items: control.store.dispositions().await? }))
}

/// Set a disposition
///
/// Makes it where there is none of that name.
#[utoipa::path(put, path = "/api/v1/dispositions/{id}", operation_id = "setDisposition", tag = "contacts", request_body = SetDisposition,
    params(("id" = String, Path, description = "Its name: lower case letters, digits, `.`, `_`, `-`")),
    responses((status = 200, description = "The disposition", body = Disposition),
              (status = 409, description = "There are 200 already", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_disposition(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<SetDisposition>,
) -> Result<Json<Disposition>, Problem> {
    let disposition = Disposition {
        name: name("id", &id)?,
        label: text("label", &wanted.label, 100)?,
        is_final: wanted.is_final,
        call_back: wanted.call_back,
        do_not_call: wanted.do_not_call,
    };
    let before = control.store.disposition(&disposition.name).await?;
    if before.is_none() && control.store.count_dispositions().await? >= DISPOSITIONS_LIMIT {
        return Err(Problem::new(StatusCode::CONFLICT, format!("there are {DISPOSITIONS_LIMIT} dispositions already")));
    }
    control.store.set_disposition(&disposition).await?;
    let detail = json!({ "before": before, "after": &disposition });
    control.audit(&caller, "disposition.set", &disposition.name, detail).await;
    Ok(Json(disposition))
}

/// Take a disposition away
///
/// What it came of keeps its name.
#[utoipa::path(delete, path = "/api/v1/dispositions/{id}", operation_id = "removeDisposition", tag = "contacts", params(("id" = String, Path, description = "Its name")),
    responses((status = 204, description = "Gone"), (status = 404, description = "No such disposition", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove_disposition(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if id.contains('\0') || !control.store.remove_disposition(&id).await? {
        return Err(Problem::not_found("disposition"));
    }
    control.audit(&caller, "disposition.remove", &id, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Interaction, Problem> {
    let interaction = if id.contains('\0') { None } else { control.store.interaction(&caller.whose(), id).await? };
    interaction.ok_or_else(|| Problem::not_found("interaction"))
}

async fn disposition(control: &Control, name: &str) -> Result<Disposition, Problem> {
    let known = if name.contains('\0') { None } else { control.store.disposition(name).await? };
    known.ok_or_else(|| Problem::field("disposition", "name one of GET /api/v1/dispositions"))
}

async fn find_contact(control: &Control, caller: &Caller, id: &str) -> Result<Contact, Problem> {
    contacts::find(control, caller, id).await.map_err(|fault| match fault.status {
        404 => Problem::field("contact", "there is no such contact"),
        _ => fault,
    })
}

/// The other side's number of a call that the caller may see; in progress, or ended.
async fn number_of_call(control: &Control, caller: &Caller, id: &str) -> Result<Option<String>, Problem> {
    let devices = calls::devices(control, caller).await?;
    let live = control.calls.find(id).filter(|call| calls::sees(devices.as_deref(), &call.devices));
    let address = match live {
        Some(call) if call.direction == "inbound" => call.from,
        Some(call) => call.to,
        None => {
            let (call, _) = records::find(control, caller, id).await.map_err(|fault| match fault.status {
                404 => Problem::field("call", "there is no such call"),
                _ => fault,
            })?;
            if call.direction == "inbound" { call.caller } else { call.callee }
        }
    };
    Ok(numbers::meant(&address, control.options.country).into_iter().next())
}

/// The contact of this number, where there is one and no other.
async fn only_contact(control: &Control, caller: &Caller, number: &str) -> Result<Option<Contact>, Problem> {
    let filter = crate::store::contacts::ContactFilter { number: Some(number.to_owned()), ..Default::default() };
    let mut found = control.store.contacts(&caller.whose(), &filter, None, 2).await?;
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// What goes on the do-not-call list: the number of the call, or else every number of the contact.
fn not_to_call(
    caller: &Caller,
    disposition: &Disposition,
    number: Option<&String>,
    contact: Option<&Contact>,
) -> Result<Vec<DoNotCall>, Problem> {
    if !disposition.do_not_call {
        return Ok(Vec::new());
    }
    let numbers = match (number, contact) {
        (Some(number), _) => vec![number.clone()],
        (None, Some(contact)) => contact.numbers.clone(),
        (None, None) => Vec::new(),
    };
    if numbers.is_empty() {
        return Err(Problem::field("number", "it cannot be told which number is not to be called: write it here"));
    }
    let (why, now) = (Some(disposition.label.clone()), Moment::now());
    let entry = |number| do_not_call::of(caller, number, why.clone(), "interaction", now, None);
    Ok(numbers.into_iter().map(entry).collect())
}

async fn noted(control: &Control, caller: &Caller, action: &str, interaction: &Interaction, entries: &[DoNotCall]) {
    let detail =
        json!({ "call": interaction.call, "disposition": interaction.disposition, "not_to_call": entries.len() });
    control.audit(caller, action, &interaction.id, detail).await;
}

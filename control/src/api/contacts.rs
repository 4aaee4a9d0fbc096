//! Contacts: people who are called or call. Operators see and make their own, supervisors their team's too.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Fields, Page, Paging, Params, bad_place, given, if_match, lines, tagged, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Role};
use crate::numbers;
use crate::store::contacts::{Contact, ContactFilter, folded};
use crate::time::Moment;

/// Numbers of a contact at most.
pub const NUMBERS_LIMIT: usize = 10;
/// Attributes of a contact at most, characters of a name and of a value.
pub const ATTRIBUTES_LIMIT: usize = 32;
const KEY_CHARS: usize = 64;
const VALUE_CHARS: usize = 512;
const NAME_CHARS: usize = 200;
/// Characters of a note at most.
pub(super) const NOTE_CHARS: usize = 4_000;

/// A contact to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateContact {
    /// Their name.
    #[schema(example = "Grace Hopper")]
    pub name: String,
    /// Their numbers, the first to be called first; as people write them where `control.country` is set, with `+` and the country's code elsewhere.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Their address.
    pub email: Option<String>,
    /// Where they work.
    pub company: Option<String>,
    /// What is to be known of them.
    pub note: Option<String>,
    /// Whose contact it is: a user's id; one's own where it does not say.
    pub owner: Option<String>,
    /// The team that sees it; one's own where it does not say.
    pub team: Option<String>,
    /// Whatever else there is to keep: up to 32 texts of up to 512 characters.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// What of a contact changes; the rest stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeContact {
    /// Their name.
    pub name: Option<String>,
    /// All of their numbers.
    pub numbers: Option<Vec<String>>,
    /// Their address, or null for none.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub email: Option<Option<String>>,
    /// Where they work, or null.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub company: Option<Option<String>>,
    /// What is to be known of them, or null.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
    /// Whose contact it is, or null for nobody's.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<Option<String>>,
    /// The team that sees it, or null for none.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub team: Option<Option<String>>,
    /// All of the attributes.
    pub attributes: Option<BTreeMap<String, String>>,
}

/// Which contacts, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContactQuery {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// Has this number.
    number: Option<String>,
    /// A part of the name, whatever its case.
    q: Option<String>,
    /// Whose it is: a user's id.
    owner: Option<String>,
}

/// List contacts
#[utoipa::path(get, path = "/api/v1/contacts", operation_id = "listContacts", tag = "contacts", params(ContactQuery),
    responses((status = 200, description = "By name", body = Page<Contact>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<ContactQuery>,
) -> Result<Json<Page<Contact>>, Problem> {
    let paging = Paging { limit: query.limit, after: query.after };
    let (limit, place) = (paging.limit()?, paging.place()?);
    let after = place.as_deref().map(|place| place.rsplit_once('\n').ok_or_else(bad_place)).transpose()?;
    let filter = ContactFilter {
        number: query.number.as_deref().map(|number| self::number(&control, "number", number)).transpose()?,
        name: query.q.as_deref().map(|name| text("q", name, NAME_CHARS)).transpose()?,
        owner: query.owner.as_deref().map(|owner| text("owner", owner, 64)).transpose()?,
    };
    let contacts = control.store.contacts(&caller.whose(), &filter, after, limit + 1).await?;
    Ok(Json(Page::of(contacts, limit, |contact| format!("{}\n{}", folded(&contact.name), contact.id))))
}

/// Add a contact
#[utoipa::path(post, path = "/api/v1/contacts", operation_id = "addContact", tag = "contacts", request_body = CreateContact,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is added once")),
    responses((status = 201, description = "The contact", body = Contact)))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateContact>,
) -> Result<Response, Problem> {
    let wanted = Contact {
        id: String::new(),
        name: wanted.name,
        numbers: wanted.numbers,
        email: wanted.email,
        company: wanted.company,
        note: wanted.note,
        owner: Some(wanted.owner.unwrap_or_else(|| caller.user.id.clone())),
        team: wanted.team.or_else(|| caller.user.team.clone()),
        attributes: wanted.attributes,
        created_at: Moment::default(),
        updated_at: Moment::default(),
        version: 0,
    };
    let contact = control.store.add_contact(checked(&control, &caller, wanted).await?, Moment::now()).await?;
    control.audit(&caller, "contact.create", &contact.id, json!({})).await;
    Ok(tagged(StatusCode::CREATED, contact.version, contact))
}

/// Show a contact
#[utoipa::path(get, path = "/api/v1/contacts/{id}", operation_id = "showContact", tag = "contacts", params(("id" = String, Path, description = "The contact's id")),
    responses((status = 200, description = "The contact", body = Contact), (status = 404, description = "No such contact", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let contact = find(&control, &caller, &id).await?;
    Ok(tagged(StatusCode::OK, contact.version, contact))
}

/// Change a contact
#[utoipa::path(patch, path = "/api/v1/contacts/{id}", operation_id = "changeContact", tag = "contacts", request_body = ChangeContact,
    params(("id" = String, Path, description = "The contact's id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The contact", body = Contact),
              (status = 404, description = "No such contact", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<ChangeContact>,
) -> Result<Response, Problem> {
    let before = find(&control, &caller, &id).await?;
    let wanted = Contact {
        name: wanted.name.unwrap_or_else(|| before.name.clone()),
        numbers: wanted.numbers.unwrap_or_else(|| before.numbers.clone()),
        email: wanted.email.unwrap_or_else(|| before.email.clone()),
        company: wanted.company.unwrap_or_else(|| before.company.clone()),
        note: wanted.note.unwrap_or_else(|| before.note.clone()),
        owner: wanted.owner.unwrap_or_else(|| before.owner.clone()),
        team: wanted.team.unwrap_or_else(|| before.team.clone()),
        attributes: wanted.attributes.unwrap_or_else(|| before.attributes.clone()),
        ..before
    };
    let checked = checked(&control, &caller, wanted).await?;
    let contact = control.store.change_contact(&checked, if_match(&headers)?, Moment::now()).await?;
    control.audit(&caller, "contact.change", &id, json!({})).await;
    Ok(tagged(StatusCode::OK, contact.version, contact))
}

/// Take a contact away
///
/// What came of calls with them stays, without them.
#[utoipa::path(delete, path = "/api/v1/contacts/{id}", operation_id = "removeContact", tag = "contacts", params(("id" = String, Path, description = "The contact's id")),
    responses((status = 204, description = "Gone"), (status = 404, description = "No such contact", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    find(&control, &caller, &id).await?;
    control.store.remove_contact(&id).await?;
    // The log says that, not whom: it can not be changed, and people may want to be forgotten.
    control.audit(&caller, "contact.remove", &id, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A contact that the caller may see.
pub(super) async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Contact, Problem> {
    let contact = if id.contains('\0') { None } else { control.store.contact(&caller.whose(), id).await? };
    contact.ok_or_else(|| Problem::not_found("contact"))
}

/// A number in E.164.
pub(super) fn number(control: &Control, field: &str, number: &str) -> Result<String, Problem> {
    numbers::e164(number, control.options.country).ok_or_else(|| {
        let how = match control.options.country {
            Some(_) => "write a number of a public network, such as +4930123456",
            None => "write the number with + and its country's code, such as +4930123456, or set control.country",
        };
        Problem::field(field, how)
    })
}

async fn checked(control: &Control, caller: &Caller, wanted: Contact) -> Result<Contact, Problem> {
    let mut fields = Fields::default();
    let name = fields.take(text("name", &wanted.name, NAME_CHARS));
    let mut kept: Vec<String> = Vec::new();
    for (at, number) in wanted.numbers.iter().enumerate().take(NUMBERS_LIMIT) {
        let number = fields.take(self::number(control, &format!("numbers[{at}]"), number));
        kept.extend(number.filter(|number| !kept.contains(number)));
    }
    if wanted.numbers.len() > NUMBERS_LIMIT {
        fields.wrong("numbers", format!("write at most {NUMBERS_LIMIT}"));
    }
    let email = wanted.email.as_deref().and_then(|email| fields.take(address(email)));
    let company = wanted.company.as_deref().and_then(|company| fields.take(text("company", company, NAME_CHARS)));
    let note = wanted.note.as_deref().and_then(|note| fields.take(lines("note", note, NOTE_CHARS)));
    attributes(&mut fields, &wanted.attributes);
    belongs(control, caller, &mut fields, &wanted).await?;
    fields.done()?;
    Ok(Contact { name: name.unwrap_or_default(), numbers: kept, email, company, note, ..wanted })
}

/// Whoever is no administrator gives nothing out of sight.
async fn belongs(control: &Control, caller: &Caller, fields: &mut Fields, wanted: &Contact) -> Result<(), Problem> {
    for (field, id) in [("owner", &wanted.owner), ("team", &wanted.team)] {
        if id.as_ref().is_some_and(|id| id.contains('\0')) {
            fields.wrong(field, "there is none of that id");
            return Ok(());
        }
    }
    if caller.user.role == Role::Administrator {
        return Ok(());
    }
    let own_team = caller.user.team.as_ref();
    if wanted.team.is_some() && wanted.team.as_ref() != own_team {
        fields.wrong("team", "name your own team, or leave it out");
    }
    let Some(owner) = wanted.owner.as_ref().filter(|owner| **owner != caller.user.id) else {
        if wanted.owner.is_none() && caller.user.role == Role::Operator {
            fields.wrong("owner", "operators have contacts of their own: name yourself, or leave it out");
        }
        return Ok(());
    };
    let of = control.store.user(owner).await?;
    let is_ours = own_team.is_some() && of.is_some_and(|user| user.team.as_ref() == own_team);
    if caller.user.role == Role::Operator || !is_ours {
        fields.wrong("owner", "name yourself, or as supervisor a user of your team");
    }
    Ok(())
}

fn attributes(fields: &mut Fields, attributes: &BTreeMap<String, String>) {
    if attributes.len() > ATTRIBUTES_LIMIT {
        fields.wrong("attributes", format!("write at most {ATTRIBUTES_LIMIT}"));
        return;
    }
    for (key, value) in attributes {
        let is_name = |c: char| c.is_alphanumeric() || "._- ".contains(c);
        if key.is_empty() || key.chars().count() > KEY_CHARS || !key.chars().all(is_name) {
            fields.wrong("attributes", format!("a name has 1 to {KEY_CHARS} letters, digits, spaces, `.`, `_` or `-`"));
        } else if !value.is_empty() {
            fields.take(lines(&format!("attributes.{key}"), value, VALUE_CHARS));
        }
    }
}

fn address(email: &str) -> Result<String, Problem> {
    let email = text("email", email, 254)?;
    let is_one = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.contains('@') && !email.contains(char::is_whitespace)
    });
    if is_one { Ok(email) } else { Err(Problem::field("email", "write NAME@HOST")) }
}

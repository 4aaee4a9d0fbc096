//! What is known of one person, and forgetting them (GDPR, articles 15, 17 and 20).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::extract::{Body, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, secret};
use crate::journal;
use crate::numbers::Person;
use crate::retention::remove_recording;
use crate::store::contacts::{Contact, ContactFilter, Whose};
use crate::store::do_not_call::DoNotCall;
use crate::store::interactions::{Interaction, InteractionFilter};
use crate::store::records::{CallRecord, Turn, Visible};
use crate::time::Moment;

/// Calls, contacts and interactions of one person that are shown at most.
pub const SHOWN_LIMIT: usize = 5_000;
/// Calls looked at at once.
const BATCH: i64 = 200;

/// Everything that is kept of somebody.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonData {
    /// Their contacts.
    pub contacts: Vec<Contact>,
    /// What came of calls with them.
    pub interactions: Vec<Interaction>,
    /// They are not to be called.
    pub do_not_call: Option<DoNotCall>,
    /// Calls that they were in, or were named in.
    pub calls: Vec<PersonCall>,
    /// There is more than is shown.
    pub has_more: bool,
}

/// A call of somebody's.
#[derive(Debug, Serialize, ToSchema)]
pub struct PersonCall {
    /// What lists show of it; `recorded` says that there is a recording, at `/api/v1/call-records/{call}/recording`.
    #[serde(flatten)]
    pub call: CallRecord,
    /// What was said.
    pub transcript: Vec<Turn>,
    /// Everything that was noted.
    #[schema(value_type = Object)]
    pub record: Value,
}

/// Who is to be forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// Their number, or their whole address where they have none (`sip:alice@example.net`).
    #[schema(example = "+4930123456")]
    pub number: String,
    /// Take them off the do-not-call list too. Where it does not say they stay on it, since it is what keeps them from being called.
    #[serde(default)]
    pub do_not_call: bool,
}

/// What was erased, and what could not be.
#[derive(Debug, Serialize, ToSchema)]
pub struct Forgotten {
    /// Calls: what is left of them is that they were, when, how long, and how they ended.
    pub calls: u64,
    /// Recordings that were removed.
    pub recordings: u64,
    /// Contacts.
    pub contacts: u64,
    /// What came of calls with them.
    pub interactions: u64,
    /// Lines of the journal.
    pub journal_lines: u64,
    /// Events that were kept for those who watch.
    pub events: u64,
    /// What could not be reached from here, in words.
    pub not_reached: Vec<String>,
}

/// Show what is kept of somebody
///
/// By a number or an address: contacts, what came of calls, calls with what was said.
#[utoipa::path(get, path = "/api/v1/people/{id}/data", operation_id = "showPerson", tag = "contacts", params(("id" = String, Path, description = "A number, or an address")),
    responses((status = 200, description = "What is kept", body = PersonData)))]
pub(crate) async fn data(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<PersonData>, Problem> {
    let person = Person::new(&text("id", &id, 256)?, control.options.country);
    let store = &control.store;
    let limit = i64::try_from(SHOWN_LIMIT).unwrap_or(i64::MAX);
    let (mut contacts, mut interactions, mut entry) = (Vec::new(), Vec::new(), None);
    let mut seen = HashSet::new();
    if let Some(number) = &person.number {
        let filter = ContactFilter { number: Some(number.clone()), ..ContactFilter::default() };
        contacts = store.contacts(&Whose::All, &filter, None, limit).await?;
        entry = store.do_not_call(number).await?;
        let filter = InteractionFilter { number: Some(number.clone()), ..InteractionFilter::default() };
        interactions.extend(store.interactions(&Whose::All, &filter, None, limit).await?);
    }
    for contact in &contacts {
        let filter = InteractionFilter { contact: Some(contact.id.clone()), ..InteractionFilter::default() };
        interactions.extend(store.interactions(&Whose::All, &filter, None, limit).await?);
    }
    interactions.retain(|interaction: &Interaction| seen.insert(interaction.id.clone()));
    let (found, has_more) = calls_of(&control, &person, SHOWN_LIMIT).await?;
    let mut calls = Vec::new();
    for aged in found {
        let Some((call, record)) = store.record(&Visible::All, &aged.call).await? else { continue };
        let transcript = store.turns(&aged.call).await?;
        calls.push(PersonCall { call, transcript, record: serde_json::from_str(&record).unwrap_or_default() });
    }
    control.audit(&caller, "person.show", &hashed(&control, &person, &id), json!({ "calls": calls.len() })).await;
    let has_more = has_more || contacts.len() >= SHOWN_LIMIT || interactions.len() >= SHOWN_LIMIT;
    Ok(Json(PersonData { contacts, interactions, do_not_call: entry, calls, has_more }))
}

/// Forget somebody
///
/// Their contacts, what came of calls with them, what was said in their calls, recordings, and their number wherever we keep it. What cannot be reached is
/// said in the answer. SQLite's file is written anew for it: other changes wait meanwhile.
#[utoipa::path(post, path = "/api/v1/people/erasure", operation_id = "forgetPerson", tag = "contacts", request_body = Forget,
    responses((status = 200, description = "What was erased", body = Forgotten)))]
pub(crate) async fn erase(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<Forget>,
) -> Result<Json<Forgotten>, Problem> {
    let number = known_by(&control, &wanted.number)?;
    let person = Person::new(&number, control.options.country);
    // Begun is done to its end, also where the client goes meanwhile.
    let (control, caller) = (Arc::clone(&control), caller.clone());
    let task = tokio::spawn(async move { forget(&control, &caller, &person, &number, wanted.do_not_call).await });
    task.await.unwrap_or_else(|fault| Err(Problem::internal("an erasure", fault))).map(Json)
}

async fn forget(
    control: &Control,
    caller: &Caller,
    person: &Person,
    number: &str,
    erase_entry: bool,
) -> Result<Forgotten, Problem> {
    let fault = |fault| Problem::internal("an erasure", fault);
    // What has ended and is not in the database yet is erased with the rest.
    journal::Journal::of(control).catch_up().await.map_err(fault)?;
    let store = &control.store;
    let (calls, _) = calls_of(control, person, usize::MAX).await?;
    let (mut recordings, mut not_reached) = (0, Vec::new());
    for aged in &calls {
        match remove_recording(control, &aged.call, aged.recording.as_deref()) {
            true => recordings += u64::from(aged.recording.is_some()),
            false => not_reached.push(format!("the recording of {}: the log says why", aged.call)),
        }
    }
    let ids: Vec<String> = calls.iter().map(|aged| aged.call.clone()).collect();
    let known: Arc<HashSet<String>> = Arc::new(ids.iter().cloned().collect());
    let (theirs, of, erased) = (Arc::clone(&known), person.clone(), Arc::<Mutex<HashSet<u64>>>::default());
    let positions = Arc::clone(&erased);
    let lines = journal::rewrite(control, move |line| {
        let is_theirs = theirs.contains(line.call) || of.is_in(line.text);
        is_theirs.then(|| {
            positions.lock().unwrap_or_else(PoisonError::into_inner).insert(line.position);
            journal::ERASED.to_owned()
        })
    });
    let journal_lines = lines.await.map_err(fault)?;
    let erased = std::mem::take(&mut *erased.lock().unwrap_or_else(PoisonError::into_inner));
    let (gone, left) = forget_refused(control, &erased).await?;
    recordings += gone;
    not_reached.extend(left);
    for call in &ids {
        store.erase_call(call, &person.names, journal::ERASED, Moment::now()).await?;
    }
    let (contacts, interactions) = store.erase_person(number, &person.texts, &ids, erase_entry).await?;
    control.apply_do_not_call().await?;
    let events = control.live.forget(|event| known.contains(&event.call) || person.is_in(event.data.get()));
    not_reached.extend(store.scrub().await?.map(str::to_owned));
    for node in store.other_nodes(&control.options.node).await? {
        not_reached.push(format!("the journal, recordings and memory of the server {node}: ask there too"));
    }
    let in_progress =
        control.calls.list().into_iter().filter(|call| person.is_in(&format!("{} {}", call.from, call.to)));
    not_reached
        .extend(in_progress.map(|call| format!("the call {} in progress: ask again once it is over", call.call)));
    let audited = store.audit_with(&person.texts).await?;
    if audited > 0 {
        not_reached.push(format!("{audited} entries of the audit log, which cannot be changed"));
    }
    not_reached.push(
        "what is outside of this server: its log where log.personal is on, backups, webhooks' receivers; and the signalling of the latest calls in \
         memory ([trace]), which goes by itself"
            .to_owned(),
    );
    let done =
        Forgotten { calls: ids.len() as u64, recordings, contacts, interactions, journal_lines, events, not_reached };
    let detail =
        json!({ "calls": done.calls, "recordings": recordings, "contacts": contacts, "interactions": interactions });
    control.audit(caller, "person.erase", &secret::sign(&control.key, number), detail).await;
    Ok(done)
}

/// Forgets lines of the journal that were set aside, with their recordings, where those were erased that stand there. Returns how many
/// recordings were removed, and which were not.
async fn forget_refused(control: &Control, erased: &HashSet<u64>) -> Result<(u64, Vec<String>), Problem> {
    let (store, node) = (&control.store, &control.options.node);
    let mut lines = store.refused_before(node, Moment(i64::MAX), i64::MAX).await?;
    let head = store.journal(node).await?.head;
    lines.retain(|line| line.head == head && erased.contains(&line.position));
    let (mut recordings, mut not_reached) = (0, Vec::new());
    lines.retain(|line| {
        let is_gone = remove_recording(control, &line.call, line.recording.as_deref());
        if is_gone {
            recordings += u64::from(line.recording.is_some());
        } else {
            not_reached.push(format!("the recording of {}: the log says why", line.call));
        }
        is_gone
    });
    store.remove_refused(node, &lines).await?;
    Ok((recordings, not_reached))
}

/// The calls that somebody was in, or was named in, and whether there are more.
async fn calls_of(
    control: &Control,
    person: &Person,
    limit: usize,
) -> Result<(Vec<crate::store::removal::Aged>, bool), Problem> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let batch = control.store.records_with(&person.texts, after.as_deref(), BATCH).await?;
        let Some(last) = batch.last() else { return Ok((found, false)) };
        after = Some(last.call.clone());
        found.extend(batch.into_iter().filter(|aged| person.is_in(&aged.record)));
        if found.len() > limit {
            found.truncate(limit);
            return Ok((found, true));
        }
    }
}

/// What somebody is known by: a number in E.164, or a whole address, which is nobody else's.
fn known_by(control: &Control, id: &str) -> Result<String, Problem> {
    let has_host = id.split_once('@').is_some_and(|(user, host)| user.contains(':') && !host.is_empty());
    if !has_host || !crate::numbers::meant(id, control.options.country).is_empty() {
        return super::contacts::number(control, "number", &crate::address::user_part(id));
    }
    super::extract::text("number", id, 256)
}

/// Somebody in the audit log: whoever knows them can tell that it was they.
fn hashed(control: &Control, person: &Person, id: &str) -> String {
    secret::sign(&control.key, person.number.as_deref().unwrap_or(id))
}

//! Lists of ended calls, latest first, by any filter: what is read is about what is shown, however many calls there are.
//!
//! Calls that are alike in direction, target, class and reason are of one *kind*, and each kind is walked in order by an index. A filter
//! names some kinds: of each the place of the page's last entry is looked up, the latest of these places ends the page, and what lies
//! before it, a page of each kind at most, is put in order.

use super::{After, CallRecord, RecordFilter, Visible};
use crate::store::conditions::Conditions;
use crate::store::{Backend, Store, StoreError};

/// Kinds that are walked side by side at most; a filter that names more is looked for in every call.
pub const KINDS_LIMIT: usize = 2_000;
/// So many calls of somebody's are looked at one by one for a number; of more, theirs or the number's are looked at, latest first,
/// for whether they are the other's too.
const FEW: i64 = 2_000;

pub(super) const COLUMNS: &str = "r.call, r.started_at, r.answered_at, r.ended_at, r.duration_ms, r.direction, r.caller, r.callee, r.target, r.class, \
                       r.reason, r.codec, r.recording, r.recording_removed_at, r.transcript_removed_at, r.erased_at, r.mos_in, r.gap_ms, \
                       r.cost, r.currency, r.cost_partial";

/// Which kinds a filter names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kinds {
    /// Any.
    All,
    /// These.
    Some(Vec<i64>),
    /// More than are walked.
    Many,
}

/// What is walked: rows of a table that are equal in some columns, in the order of an index.
#[derive(Debug, Clone)]
struct Walk<'a> {
    table: &'static str,
    equal: Vec<(&'static str, &'a str)>,
    /// The index whose order begins after what is equal.
    index: &'static str,
    /// The same with the kind before the order.
    kind_index: Option<&'static str>,
}

/// What a page shall have.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    kinds: &'a Kinds,
    filter: &'a RecordFilter,
    after: Option<&'a After>,
    limit: i64,
}

impl Asked<'_> {
    /// The same of calls of any kind.
    fn of_any_kind(self) -> Self {
        Self { kinds: &Kinds::All, ..self }
    }
}

/// A statement of a list, and what it compares with.
#[derive(Debug)]
struct Statement {
    sql: String,
    wanted: Conditions,
}

impl Store {
    /// Ended calls that somebody may see, latest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn records(
        &self,
        visible: &Visible,
        filter: &RecordFilter,
        after: Option<&After>,
        limit: i64,
    ) -> Result<Vec<CallRecord>, StoreError> {
        if let Some(words) = &filter.words {
            return self.records_with_words(visible, filter, words, after, limit).await;
        }
        let Some(Statement { sql, wanted }) = self.list(visible, filter, after, limit).await? else {
            return Ok(Vec::new());
        };
        let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_all(self.reader()).await?)
    }

    /// How the database would read a list if it had many rows, in its own words.
    #[doc(hidden)]
    pub async fn explain_records(&self, visible: &Visible, filter: &RecordFilter) -> Result<String, StoreError> {
        match self.list(visible, filter, None, 50).await? {
            Some(Statement { sql, wanted }) => self.explain(&sql, &wanted).await,
            None => Ok(String::new()),
        }
    }

    /// The statement of a list; none where there can be no call.
    async fn list(
        &self,
        visible: &Visible,
        filter: &RecordFilter,
        after: Option<&After>,
        limit: i64,
    ) -> Result<Option<Statement>, StoreError> {
        let kinds = self.kinds(filter).await?;
        if kinds == Kinds::Some(Vec::new()) {
            return Ok(None);
        }
        let asked = Asked { kinds: &kinds, filter, after, limit };
        let by_number = Walk::by_number(filter);
        let walk = match (visible.owner(), &by_number) {
            (None, Some(walk)) => walk.clone(),
            (None, None) => Walk::of_all(),
            (Some(owner), Some(number)) => {
                let own = Walk::of_owner(&owner);
                if self.count(&own, asked).await? <= FEW {
                    return Ok(Some(self.gathered(&own, asked, None)));
                }
                // Of those that lie further apart most are wanted.
                let theirs = self.reach(&own, asked).await?;
                let (walk, other) = match self.reach(number, asked).await? {
                    Some(at) if theirs.is_some_and(|theirs| theirs < at) => (&own, number),
                    _ => (number, &own),
                };
                return Ok(Some(self.looked_for(walk, other, asked)));
            }
            (Some(owner), None) => {
                let owner = owner.as_str();
                let walk = Walk::of_owner(owner);
                return self.walked(&walk, asked).await.map(Some);
            }
        };
        self.walked(&walk, asked).await.map(Some)
    }

    async fn walked(&self, walk: &Walk<'_>, asked: Asked<'_>) -> Result<Statement, StoreError> {
        match (asked.kinds, walk.kind_index) {
            (Kinds::Some(some), Some(_)) if some.len() > 1 => {
                let end = self.page_end(walk, some, asked).await?;
                Ok(self.gathered(walk, asked, end))
            }
            _ => Ok(self.ordered(walk, asked)),
        }
    }

    /// Which kinds a filter names.
    pub(super) async fn kinds(&self, filter: &RecordFilter) -> Result<Kinds, StoreError> {
        let columns = kind_columns(filter);
        if columns.iter().all(|(_, value)| value.is_none()) {
            return Ok(Kinds::All);
        }
        let mut wanted = Conditions::default();
        columns.iter().for_each(|(column, value)| wanted.equals(column, *value));
        let sql = format!("SELECT id FROM call_kinds WHERE {} ORDER BY id LIMIT {}", wanted.wheres(), KINDS_LIMIT + 1);
        let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        let found: Vec<i64> = query.fetch_all(self.reader()).await?;
        Ok(if found.len() > KINDS_LIMIT { Kinds::Many } else { Kinds::Some(found) })
    }

    /// One walk in the order of an index, until there are enough.
    fn ordered(&self, walk: &Walk<'_>, asked: Asked<'_>) -> Statement {
        let Asked { kinds, filter, limit, .. } = asked;
        let mut wanted = walk.conditions(asked);
        let mut from = format!("{} x{}", walk.table, self.indexed(walk.index_of(kinds)));
        if *kinds == Kinds::Many {
            // Each call is looked at, in order.
            from.push_str(" CROSS JOIN call_records q");
            wanted.say("q.call = x.call".to_owned());
            for (column, value) in kind_columns(filter) {
                wanted.equals(&format!("q.{column}"), value);
            }
        }
        shown(format!("SELECT x.started_at, x.call FROM {from} WHERE {}", wanted.wheres()), None, wanted, limit)
    }

    /// Calls in the order of one walk that are on another too: whether one is is a look at a key.
    fn looked_for(&self, walk: &Walk<'_>, other: &Walk<'_>, asked: Asked<'_>) -> Statement {
        let Asked { kinds, filter, limit, .. } = asked;
        let mut wanted = walk.conditions(asked.of_any_kind());
        let from = format!("{} x{}", walk.table, self.indexed(walk.index));
        let mut there = wanted.take_values();
        other.equal.iter().for_each(|(column, value)| there.add(&format!("o.{column} = ?"), *value));
        there.say("o.started_at = x.started_at AND o.call = x.call".to_owned());
        match kinds {
            Kinds::All => {}
            Kinds::Some(some) => there.say(format!("o.kind IN ({})", numbers(some, false))),
            Kinds::Many => {
                let record = if other.table == "call_records" { "o" } else { "x" };
                kind_columns(filter)
                    .iter()
                    .for_each(|(column, value)| there.equals(&format!("{record}.{column}"), *value));
            }
        }
        // Where it says EXISTS, PostgreSQL may join all calls of both.
        let (table, indexed) = (other.table, self.indexed(other.index));
        let is_there = format!("(SELECT o.call FROM {table} o{indexed} WHERE {}) IS NOT NULL", there.wheres());
        wanted.continue_with(there);
        wanted.say(is_there);
        shown(format!("SELECT x.started_at, x.call FROM {from} WHERE {}", wanted.wheres()), None, wanted, limit)
    }

    /// All that there are up to the page's end, put in order.
    fn gathered(&self, walk: &Walk<'_>, asked: Asked<'_>, end: Option<i64>) -> Statement {
        let Asked { kinds, filter, limit, .. } = asked;
        let mut wanted = walk.conditions(asked);
        if let Some(end) = end {
            wanted.add("x.started_at >= ?", end);
        }
        let indexed = self.indexed(walk.index_of(kinds));
        let found = format!("SELECT x.started_at, x.call FROM {} x{indexed} WHERE {}", walk.table, wanted.wheres());
        // What the walk does not ask for.
        let mut rest = Conditions::continuing(wanted);
        let numbers = [("caller", filter.caller.as_ref()), ("callee", filter.callee.as_ref())];
        let numbers = numbers.into_iter().filter(|(column, _)| !walk.equal.iter().any(|(asked, _)| asked == column));
        let mut looked_at: Vec<(&str, Option<&String>)> = numbers.filter(|(_, value)| value.is_some()).collect();
        if *kinds == Kinds::Many {
            looked_at.extend(kind_columns(filter).into_iter().filter(|(_, value)| value.is_some()));
        }
        let page = if looked_at.is_empty() {
            "SELECT x.started_at, x.call FROM found x".to_owned()
        } else {
            // A look at each call by its key: joined, PostgreSQL may walk all calls of a number instead.
            looked_at.iter().for_each(|(column, value)| {
                rest.equals(&format!("(SELECT q.{column} FROM call_records q WHERE q.call = x.call)"), *value);
            });
            format!("SELECT x.started_at, x.call FROM found x WHERE {}", rest.wheres())
        };
        shown(page, Some(found), rest, limit)
    }

    /// Where a page ends at the latest: of each kind the place of its last entry, and of these the latest.
    async fn page_end(&self, walk: &Walk<'_>, kinds: &[i64], asked: Asked<'_>) -> Result<Option<i64>, StoreError> {
        let mut wanted = walk.conditions(asked.of_any_kind());
        wanted.say("x.kind = k.id".to_owned());
        let index = walk.kind_index.unwrap_or(walk.index);
        let (offset, wheres, indexed) = (wanted.value(asked.limit - 1), wanted.wheres(), self.indexed(index));
        let sql = format!(
            "WITH k (id) AS (VALUES {})
             SELECT MAX(ends.at) FROM (SELECT (SELECT x.started_at FROM {} x{indexed} WHERE {wheres}
             ORDER BY x.started_at DESC, x.call DESC LIMIT 1 OFFSET {offset}) AS at FROM k) AS ends",
            numbers(kinds, true),
            walk.table,
        );
        let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_one(self.reader()).await?)
    }

    /// How many calls a walk has, up to a few.
    async fn count(&self, walk: &Walk<'_>, asked: Asked<'_>) -> Result<i64, StoreError> {
        let wanted = walk.conditions(asked);
        let (wheres, indexed) = (wanted.wheres(), self.indexed(walk.index_of(asked.kinds)));
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {} x{indexed} WHERE {wheres} LIMIT {}) AS few",
            walk.table,
            FEW + 1
        );
        let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_one(self.reader()).await?)
    }

    /// When the last of so many of a walk's calls began, latest first; none where there are fewer.
    async fn reach(&self, walk: &Walk<'_>, asked: Asked<'_>) -> Result<Option<i64>, StoreError> {
        let wanted = walk.conditions(asked.of_any_kind());
        let (wheres, indexed) = (wanted.wheres(), self.indexed(walk.index));
        let sql = format!(
            "SELECT x.started_at FROM {} x{indexed} WHERE {wheres} ORDER BY x.started_at DESC, x.call DESC LIMIT 1 OFFSET {FEW}",
            walk.table
        );
        let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_optional(self.reader()).await?)
    }

    /// SQLite counts no rows before it plans: it is told which index.
    fn indexed(&self, index: &str) -> String {
        match self.backend() {
            Backend::Sqlite => format!(" INDEXED BY {index}"),
            Backend::Postgres => String::new(),
        }
    }
}

impl<'a> Walk<'a> {
    fn of_all() -> Self {
        Self {
            table: "call_records",
            equal: Vec::new(),
            index: "call_records_by_start",
            kind_index: Some("call_records_by_kind"),
        }
    }

    /// Somebody's calls, walked alone: the order is in their table too.
    fn of_owner(owner: &'a str) -> Self {
        Self {
            table: "call_owners",
            equal: vec![("owner", owner)],
            // SQLite's name for its primary key.
            index: "sqlite_autoindex_call_owners_1",
            kind_index: Some("call_owners_by_kind"),
        }
    }

    /// Those from or to a number.
    fn by_number(filter: &'a RecordFilter) -> Option<Self> {
        let table = "call_records";
        match (filter.caller.as_deref(), filter.callee.as_deref()) {
            (None, None) => None,
            (Some(caller), None) => Some(Self {
                table,
                equal: vec![("caller", caller)],
                index: "call_records_by_caller",
                kind_index: Some("call_records_by_caller_kind"),
            }),
            (None, Some(callee)) => Some(Self {
                table,
                equal: vec![("callee", callee)],
                index: "call_records_by_callee",
                kind_index: Some("call_records_by_callee_kind"),
            }),
            // The index has the kind at its end: what does not fit is passed over there.
            (Some(caller), Some(callee)) => Some(Self {
                table,
                equal: vec![("caller", caller), ("callee", callee)],
                index: "call_records_by_pair",
                kind_index: None,
            }),
        }
    }

    fn index_of(&self, kinds: &Kinds) -> &'static str {
        match (kinds, self.kind_index) {
            (Kinds::Some(_), Some(index)) => index,
            _ => self.index,
        }
    }

    fn conditions(&self, asked: Asked<'_>) -> Conditions {
        let Asked { kinds, filter, after, .. } = asked;
        let mut wanted = Conditions::default();
        for (column, value) in &self.equal {
            wanted.add(&format!("x.{column} = ?"), *value);
        }
        if let Kinds::Some(some) = kinds {
            // Numbers of ours: they stand in the statement.
            wanted.say(match some.as_slice() {
                [one] => format!("x.kind = {one}"),
                some => format!("x.kind IN ({})", numbers(some, false)),
            });
        }
        if let Some(from) = filter.from {
            wanted.add("x.started_at >= ?", from.0);
        }
        if let Some(until) = filter.until {
            wanted.add("x.started_at < ?", until.0);
        }
        if let Some(after) = after {
            let (at, call) = (wanted.value(after.started_at), wanted.value(after.call.as_str()));
            wanted.say(format!("(x.started_at, x.call) < ({at}, {call})"));
        }
        wanted
    }
}

/// The columns that a kind is made of.
pub(super) fn kind_columns(filter: &RecordFilter) -> [(&'static str, Option<&String>); 4] {
    [
        ("direction", filter.direction.as_ref()),
        ("target", filter.target.as_ref()),
        ("class", filter.class.as_ref()),
        ("reason", filter.reason.as_ref()),
    ]
}

fn numbers(numbers: &[i64], in_rows: bool) -> String {
    let each = numbers.iter().map(|number| if in_rows { format!("({number})") } else { number.to_string() });
    each.collect::<Vec<_>>().join(", ")
}

/// What a page of calls shows: `page` finds them, in `found` where that is to be made first.
fn shown(page: String, found: Option<String>, mut wanted: Conditions, limit: i64) -> Statement {
    let limit = wanted.value(limit);
    let with = found.map(|found| format!("WITH found AS MATERIALIZED ({found}) ")).unwrap_or_default();
    let sql = format!(
        "{with}SELECT {COLUMNS} FROM ({page} ORDER BY x.started_at DESC, x.call DESC LIMIT {limit}) AS p
         CROSS JOIN call_records r WHERE r.call = p.call ORDER BY p.started_at DESC, p.call DESC"
    );
    Statement { sql, wanted }
}

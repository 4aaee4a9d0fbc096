//! Words that were said, latest calls first. The index of words also has what lists filter by ([`super::facets`]) and when, so that it is
//! read from its end: SQLite's in the order of turns, which is that of their calls; PostgreSQL's, which has no order, in a span of time that
//! should hold a page by what the database knows of the words, and in longer ones where it does not.
//!
//! SQLite's index reads a list for each word, side by side, to where they meet. Two things that many calls have and few have together would
//! be two long lists for a short page: they are looked for by the kinds of call that have both ([`super::list`]).

use super::facets;
use super::insert::WITHIN_BITS;
use super::list::{COLUMNS, Kinds, kind_columns};
use super::{After, CallRecord, RecordFilter, Visible};
use crate::store::conditions::Conditions;
use crate::store::{Backend, Store, StoreError};
use sqlx::Row;

/// Words of a search that count.
const WORDS_LIMIT: usize = 16;
/// Turns read at most at once to see how far back a page goes: at first twice as many as the page has calls, then more.
const TURNS_AT_ONCE: i64 = 2_000;
/// So many turns are expected to hold a call of the page: a word that is usual is said several times in a call.
const TURNS_OF_A_CALL: usize = 2;
/// Kinds that SQLite's index is asked for at most, a list each; where a filter names more, what it names is asked for.
const KINDS_AT_ONCE: usize = 64;
/// The shortest time that is searched at once by PostgreSQL.
const LEAST_WINDOW_MS: i64 = 600_000;
/// The latest time that a turn's number can tell of.
const LATEST_MS: i64 = i64::MAX >> WITHIN_BITS;
/// What PostgreSQL's index is over, as its migration has it.
const VECTOR: &str = "(to_tsvector('simple', t.text) || array_to_tsvector(string_to_array(t.facets, ' ')))";

/// A search: its words, those of the filter, and the times between which calls began, both of them among them.
#[derive(Debug)]
struct Search<'a> {
    words: Vec<&'a str>,
    facets: Vec<String>,
    owner: Option<String>,
    filter: &'a RecordFilter,
    after: Option<&'a After>,
    first_ms: i64,
    last_ms: i64,
    limit: i64,
}

/// Turns that may be wanted.
#[derive(Debug)]
enum Hits<'a> {
    /// These.
    Turns(&'a [i64]),
    /// Those with the words, of calls that began then or later, by PostgreSQL's index.
    Words {
        /// What else the index shall have of them.
        facets: &'a str,
        first_ms: i64,
    },
}

impl Store {
    /// Calls in which these words were said in one turn.
    pub(super) async fn records_with_words(
        &self,
        visible: &Visible,
        filter: &RecordFilter,
        words: &str,
        after: Option<&After>,
        limit: i64,
    ) -> Result<Vec<CallRecord>, StoreError> {
        let Some(search) = Search::new(visible, filter, words, after, limit) else { return Ok(Vec::new()) };
        let kinds = match if search.is_by_kinds() { self.kinds(filter).await? } else { Kinds::All } {
            // What there are many of each for itself, and together never was.
            Kinds::Some(kinds) if kinds.is_empty() => return Ok(Vec::new()),
            Kinds::Some(kinds) if kinds.len() <= KINDS_AT_ONCE => kinds,
            _ => Vec::new(),
        };
        match self.backend() {
            Backend::Sqlite => self.search_sqlite(&search, kinds).await,
            Backend::Postgres => self.search_postgres(&search).await,
        }
    }

    async fn search_sqlite(&self, search: &Search<'_>, kinds: Vec<i64>) -> Result<Vec<CallRecord>, StoreError> {
        let words = search.sqlite_words(&kinds);
        // Of a direction that is not looked for there is one in four, or more.
        let passes_over = kinds.is_empty() && search.passes_over_directions();
        let mut enough = search.enough() * if passes_over { 4 } else { 1 };
        loop {
            let (turns, is_all) = self.latest_turns(search, &words, enough).await?;
            let page = self.found(search, &Hits::Turns(&turns)).await?;
            if page.len() >= search.enough() || is_all {
                return Ok(page);
            }
            // Some did not fit after all.
            enough *= 4;
        }
    }

    /// The latest turns that have the words, of calls enough for a page, and whether there are no more.
    async fn latest_turns(
        &self,
        search: &Search<'_>,
        words: &str,
        enough: usize,
    ) -> Result<(Vec<i64>, bool), StoreError> {
        let sql = "SELECT rowid FROM turn_words WHERE turn_words MATCH $1 AND rowid >= $2 AND rowid <= $3 ORDER BY rowid DESC LIMIT $4";
        let (first, mut last) = (first_turn(search.first_ms), last_turn(search.last_ms));
        let (mut turns, mut moments, mut before) = (Vec::new(), 0, None);
        let mut at_once = i64::try_from(enough).unwrap_or(TURNS_AT_ONCE).saturating_mul(2).min(TURNS_AT_ONCE);
        loop {
            let query = sqlx::query_scalar::<_, i64>(sql).bind(words).bind(first).bind(last).bind(at_once);
            let some = query.fetch_all(self.reader()).await?;
            for turn in &some {
                let began = turn >> WITHIN_BITS;
                if before != Some(began) {
                    before = Some(began);
                    moments += 1;
                }
                // The calls of the first millisecond may have been on the page before, and the last one is not read to its end.
                if moments > enough + 1 {
                    return Ok((turns, false));
                }
                turns.push(*turn);
            }
            match some.last() {
                Some(turn) if some.len() >= usize::try_from(at_once).unwrap_or_default() => last = turn - 1,
                _ => return Ok((turns, true)),
            }
            at_once = (at_once * 2).min(TURNS_AT_ONCE);
        }
    }

    async fn search_postgres(&self, search: &Search<'_>) -> Result<Vec<CallRecord>, StoreError> {
        // Where there are calls at all: nights and holidays are passed over.
        let mut wanted = Conditions::default();
        wanted.add("started_at <= ?", search.last_ms);
        let table = match &search.owner {
            Some(owner) => {
                wanted.add("owner = ?", owner.as_str());
                "call_owners"
            }
            None => "call_records",
        };
        let sql = sqlx::AssertSqlSafe(format!("SELECT MAX(started_at) FROM {table} WHERE {}", wanted.wheres()));
        let query = sqlx::query_scalar_with(sql, wanted.arguments()?);
        let Some(latest) = query.fetch_one::<_>(self.reader()).await? else { return Ok(Vec::new()) };
        let latest: i64 = latest;
        let (first, last): (i64, i64) = self.all_of_time().await?;
        let (enough, begin) = (search.enough(), search.first_ms.max(first));
        let turns = enough.saturating_mul(TURNS_OF_A_CALL);
        // How many there are of all times, as far as the database knows: how far back a page goes follows from it.
        let there = self.about_so_many(search).await?.max(1);
        let mut window = share_of(last.saturating_sub(first), turns, there).max(LEAST_WINDOW_MS);
        loop {
            let first_ms = latest.saturating_sub(window).max(begin);
            let is_all = first_ms <= begin || there <= turns.saturating_mul(2);
            let first_ms = if is_all { begin } else { first_ms };
            // Of few, or of most of the time, the spans would only be more to read.
            let bare = is_all && (there <= turns.saturating_mul(2) || latest - first_ms >= (last - first) / 2);
            let spans = (!bare).then(|| facets::spans(first_ms, latest));
            let page = self.found(search, &Hits::Words { facets: &search.postgres_facets(spans), first_ms }).await?;
            if page.len() >= enough || is_all {
                return Ok(page);
            }
            // As much longer as was missing, and half as much again.
            let longer = (enough * 3 / 2).checked_div(page.len()).unwrap_or(usize::MAX).clamp(2, 16);
            window = window.saturating_mul(i64::try_from(longer).unwrap_or(2));
        }
    }

    /// When the first and the last of all calls began.
    async fn all_of_time(&self) -> Result<(i64, i64), StoreError> {
        let sql =
            "SELECT COALESCE(MIN(started_at), 0) AS first, COALESCE(MAX(started_at), 0) AS last FROM call_records";
        let row = sqlx::query(sql).fetch_one(self.reader()).await?;
        Ok((row.try_get("first")?, row.try_get("last")?))
    }

    /// How many turns PostgreSQL expects to have the words, by what it knows of each.
    async fn about_so_many(&self, search: &Search<'_>) -> Result<usize, StoreError> {
        let mut wanted = Conditions::default();
        let turns = having(&mut wanted, search, &search.postgres_facets(None));
        let sql = sqlx::AssertSqlSafe(format!("EXPLAIN SELECT 1 FROM {turns}"));
        let plan: String = sqlx::query_scalar_with(sql, wanted.arguments()?).fetch_one(self.reader()).await?;
        let rows = plan.split_once(" rows=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Ok(rows.unwrap_or(usize::MAX))
    }

    /// The latest calls of these turns.
    async fn found(&self, search: &Search<'_>, hits: &Hits<'_>) -> Result<Vec<CallRecord>, StoreError> {
        let (sql, wanted) = search_statement(search, hits);
        let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_all(self.reader()).await?)
    }
}

/// The statement that has the latest calls of some turns, as far as they are wanted.
fn search_statement(search: &Search<'_>, hits: &Hits<'_>) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    let (turns, first_ms) = match hits {
        Hits::Turns(turns) => {
            // Numbers of ours: they stand in the statement.
            let numbers: Vec<String> = turns.iter().map(i64::to_string).collect();
            (format!("turns t WHERE t.id IN ({})", numbers.join(", ")), search.first_ms)
        }
        Hits::Words { facets, first_ms } => (having(&mut wanted, search, facets), *first_ms),
    };
    wanted.add("r.started_at >= ?", first_ms);
    wanted.add("r.started_at <= ?", search.last_ms);
    if let Some(after) = search.after {
        let (at, call) = (wanted.value(after.started_at), wanted.value(after.call.as_str()));
        wanted.say(format!("(r.started_at, r.call) < ({at}, {call})"));
    }
    let filter = search.filter;
    let columns = [
        ("r.direction", &filter.direction),
        ("r.caller", &filter.caller),
        ("r.callee", &filter.callee),
        ("r.target", &filter.target),
        ("r.class", &filter.class),
        ("r.reason", &filter.reason),
    ];
    columns.iter().for_each(|(column, value)| wanted.equals(column, value.as_ref()));
    if let Some(owner) = &search.owner {
        // By the whole key: an owner alone has many.
        let seen = "(SELECT o.call FROM call_owners o WHERE o.owner = ? AND o.started_at = r.started_at AND o.call = r.call) IS NOT NULL";
        wanted.add(seen, owner.as_str());
    }
    let (limit, wheres) = (wanted.value(search.limit), wanted.wheres());
    let sql = format!(
        "WITH hits AS MATERIALIZED (SELECT DISTINCT t.call FROM {turns})
         SELECT {COLUMNS} FROM hits h CROSS JOIN call_records r WHERE r.call = h.call AND {wheres}
         ORDER BY r.started_at DESC, r.call DESC LIMIT {limit}"
    );
    (sql, wanted)
}

/// Turns that have the words, and these of ours, by PostgreSQL's index.
fn having(wanted: &mut Conditions, search: &Search<'_>, facets: &str) -> String {
    let said = wanted.value(search.words.join(" "));
    // Numbers are among them, which shall not stand in the statement: the log has those that are slow.
    let facets =
        if facets.is_empty() { String::new() } else { format!(" && CAST({} AS tsquery)", wanted.value(facets)) };
    format!(
        "turns t WHERE {VECTOR} @@ (plainto_tsquery('simple', {said}){facets}) AND numnode(plainto_tsquery('simple', {said})) > 0"
    )
}

/// The part of a time in which there are so many of all.
fn share_of(ms: i64, wanted: usize, of_all: usize) -> i64 {
    let share = i128::from(ms) * i128::try_from(wanted).unwrap_or(1) / i128::try_from(of_all).unwrap_or(1).max(1);
    i64::try_from(share).unwrap_or(i64::MAX)
}

impl<'a> Search<'a> {
    /// None where nothing can be found: no letter and no digit is a word.
    fn new(
        visible: &Visible,
        filter: &'a RecordFilter,
        words: &'a str,
        after: Option<&'a After>,
        limit: i64,
    ) -> Option<Self> {
        let words: Vec<&str> =
            words.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).take(WORDS_LIMIT).collect();
        let first_ms = filter.from.map_or(0, |from| from.0.max(0));
        let last_ms = filter.until.map_or(LATEST_MS, |until| until.0.saturating_sub(1));
        let last_ms = after.map_or(last_ms, |after| last_ms.min(after.started_at)).min(LATEST_MS);
        let owner = visible.owner();
        let facets = facets::of_filter(filter, owner.as_deref());
        (!words.is_empty() && first_ms <= last_ms).then_some(Self {
            words,
            facets,
            owner,
            filter,
            after,
            first_ms,
            last_ms,
            limit,
        })
    }

    fn enough(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(1).max(1)
    }

    /// Whether several things are asked for that a kind has, or somebody's calls that have one.
    fn is_by_kinds(&self) -> bool {
        let parts = kind_columns(self.filter).iter().filter(|(_, value)| value.is_some()).count();
        parts > 0 && parts + usize::from(self.owner.is_some()) > 1
    }

    /// As SQLite's index takes them, by these kinds where there are some: it has a language of its own, which whoever asks shall not speak.
    fn sqlite_words(&self, kinds: &[i64]) -> String {
        let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        let words = format!("text : ({})", words.join(" AND "));
        let wanted = self.facets.iter().filter(|facet| match kinds {
            [] => !self.passes_over_directions() || !facets::is_direction(facet),
            // What else is asked for the kinds have.
            _ => facets::is_number(facet),
        });
        // What the index looks for first decides how far it goes at each step: the rarest stands first.
        let wanted: Vec<String> = wanted.map(|facet| quoted(facet)).collect();
        let mut parts = Vec::new();
        if !wanted.is_empty() {
            parts.push(format!("facets : ({})", wanted.join(" AND ")));
        }
        if !kinds.is_empty() {
            let kinds = kinds.iter().map(|kind| quoted(&facets::of_kind(*kind, self.owner.as_deref())));
            parts.push(format!("kinds : ({})", kinds.collect::<Vec<_>>().join(" OR ")));
        }
        parts.push(words);
        parts.join(" AND ")
    }

    /// SQLite's index reads the whole list of a word that half of all have, beside others: the calls are looked at instead.
    fn passes_over_directions(&self) -> bool {
        self.filter.direction.is_some() && self.facets.len() > 1
    }

    fn postgres_facets(&self, spans: Option<String>) -> String {
        let facets = self.facets.iter().map(|facet| format!("'{facet}'")).chain(spans);
        facets.collect::<Vec<_>>().join(" & ")
    }
}

fn first_turn(ms: i64) -> i64 {
    ms.clamp(0, LATEST_MS) << WITHIN_BITS
}

fn last_turn(ms: i64) -> i64 {
    first_turn(ms) | ((1 << WITHIN_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_things_that_a_kind_has_are_looked_for_by_the_kinds_that_have_them() {
        let some = |text: &str| Some(text.to_owned());
        let (all, own) = (Visible::All, Visible::Device("d".into()));
        let outbound = RecordFilter { direction: some("outbound"), ..Default::default() };
        let desk = RecordFilter { target: some("desk"), caller: some("1"), ..outbound.clone() };
        let number = RecordFilter { caller: some("1"), ..Default::default() };
        let search =
            |visible, filter| Search::new(visible, filter, "yes \"no", None, 50).ok_or("nothing is looked for");
        for (visible, filter, is_by_kinds) in [
            (&all, &outbound, false),
            (&own, &outbound, true),
            (&all, &desk, true),
            (&all, &number, false),
            (&own, &number, false),
        ] {
            assert_eq!(
                search(visible, filter).map(|search| search.is_by_kinds()),
                Ok(is_by_kinds),
                "{visible:?} {filter:?}"
            );
        }
        let said = "text : (\"yes\" AND \"\"\"no\")";
        let words = |kinds: &[i64]| search(&own, &desk).map(|search| search.sqlite_words(kinds));
        let by_kinds = "facets : (\"@f31\") AND kinds : (\"k3o6465766963652f64\" OR \"k14o6465766963652f64\")";
        assert_eq!(words(&[3, 14]), Ok(format!("{by_kinds} AND {said}")));
        let by_each = "facets : (\"@f31\" AND \"@o6465766963652f64\" AND \"@t6465736b\")";
        assert_eq!(words(&[]), Ok(format!("{by_each} AND {said}")), "more kinds than are looked for");
    }
}

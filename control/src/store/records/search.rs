//! Words that were said, latest calls first. The index of words also has what lists filter by ([`super::facets`]) and when, so that it is
//! read from its end: SQLite's in the order of turns, which is that of their calls; PostgreSQL's, which has no order, in spans of time that
//! grow until they hold a page.

use super::facets;
use super::insert::WITHIN_BITS;
use super::list::COLUMNS;
use super::{After, CallRecord, RecordFilter, Visible};
use crate::store::conditions::Conditions;
use crate::store::{Backend, Store, StoreError};

/// Words of a search that count.
const WORDS_LIMIT: usize = 16;
/// Turns read at most at once to see how far back a page goes: at first twice as many as the page has calls, then more.
const TURNS_AT_ONCE: i64 = 2_000;
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
        match self.backend() {
            Backend::Sqlite => self.search_sqlite(&search).await,
            Backend::Postgres => self.search_postgres(&search).await,
        }
    }

    async fn search_sqlite(&self, search: &Search<'_>) -> Result<Vec<CallRecord>, StoreError> {
        let mut enough = search.enough();
        loop {
            let first_ms = self.far_enough(search, enough).await?;
            let page = self.found(search, &search.sqlite_words(), first_ms).await?;
            if page.len() >= search.enough() || first_ms <= search.first_ms {
                return Ok(page);
            }
            // Some did not fit after all.
            enough *= 4;
        }
    }

    /// How far back there are calls enough, or the beginning.
    async fn far_enough(&self, search: &Search<'_>, enough: usize) -> Result<i64, StoreError> {
        let sql = "SELECT rowid FROM turn_words WHERE turn_words MATCH $1 AND rowid >= $2 AND rowid <= $3 ORDER BY rowid DESC LIMIT $4";
        let words = search.sqlite_words();
        let (first, mut last) = (first_turn(search.first_ms), last_turn(search.last_ms));
        let (mut calls, mut before) = (0, None);
        let mut at_once = i64::try_from(enough).unwrap_or(TURNS_AT_ONCE).saturating_mul(2).min(TURNS_AT_ONCE);
        loop {
            let query = sqlx::query_scalar::<_, i64>(sql).bind(&words).bind(first).bind(last).bind(at_once);
            let turns = query.fetch_all(self.reader()).await?;
            for turn in &turns {
                let began = turn >> WITHIN_BITS;
                if before != Some(began) {
                    before = Some(began);
                    calls += 1;
                }
                // One more than the page: those of the first millisecond may have been on the page before.
                if calls > enough {
                    return Ok(began);
                }
            }
            match turns.last() {
                Some(turn) if turns.len() >= usize::try_from(at_once).unwrap_or_default() => last = turn - 1,
                _ => return Ok(search.first_ms),
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
        for (span, bits) in facets::SPANS {
            let number = latest >> bits;
            let first_ms = (number - 1) << bits;
            if first_ms <= search.first_ms {
                break;
            }
            let spans = format!("('{}' | '{}')", facets::within(span, number), facets::within(span, number - 1));
            let page = self.found(search, &search.postgres_facets(Some(spans)), first_ms).await?;
            if page.len() >= search.enough() {
                return Ok(page);
            }
        }
        self.found(search, &search.postgres_facets(None), search.first_ms).await
    }

    /// The latest calls that have the words and began then or later.
    async fn found(&self, search: &Search<'_>, words: &str, first_ms: i64) -> Result<Vec<CallRecord>, StoreError> {
        let (sql, wanted) = self.search_statement(search, words, first_ms);
        let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), wanted.arguments()?);
        Ok(query.fetch_all(self.reader()).await?)
    }

    fn search_statement(&self, search: &Search<'_>, words: &str, first_ms: i64) -> (String, Conditions) {
        let mut wanted = Conditions::default();
        let turns = match self.backend() {
            Backend::Sqlite => {
                let words = wanted.value(words);
                let (first, last) = (wanted.value(first_turn(first_ms)), wanted.value(last_turn(search.last_ms)));
                format!(
                    "turn_words w CROSS JOIN turns t WHERE w.turn_words MATCH {words} AND w.rowid >= {first} AND w.rowid <= {last}
                     AND t.id = w.rowid"
                )
            }
            Backend::Postgres => {
                let said = wanted.value(search.words.join(" "));
                // Words of ours, and letters and digits alone: they may stand in the statement, where they are counted before it is planned.
                let facets = if words.is_empty() {
                    String::new()
                } else {
                    format!(" && '{}'::tsquery", words.replace('\'', "''"))
                };
                format!(
                    "turns t WHERE {VECTOR} @@ (plainto_tsquery('simple', {said}){facets}) AND numnode(plainto_tsquery('simple', {said})) > 0"
                )
            }
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
            let seen = "EXISTS (SELECT 1 FROM call_owners o WHERE o.call = r.call AND o.owner = ?)";
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

    /// As SQLite's index takes them: it has a language of its own, which whoever asks shall not speak.
    fn sqlite_words(&self) -> String {
        let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        let words = format!("text : ({})", words.join(" AND "));
        if self.facets.is_empty() {
            return words;
        }
        let facets: Vec<String> = self.facets.iter().map(|facet| quoted(facet)).collect();
        format!("{words} AND facets : ({})", facets.join(" AND "))
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

//! Reports as CSV (RFC 4180).

use super::Group;
use crate::store::figures::Figures;
use crate::store::records::{CallRecord, tenth};

pub(super) fn write_calls(piece: &mut Vec<u8>, has_head: bool, calls: &[CallRecord]) -> std::io::Result<()> {
    let mut table = table(piece);
    if has_head {
        table.write_record([
            "call",
            "started_at",
            "answered_at",
            "ended_at",
            "duration_ms",
            "direction",
            "caller",
            "callee",
            "target",
            "class",
            "reason",
            "codec",
            "recorded",
            "mos_in",
            "gap_ms",
            "cost_micros",
            "currency",
            "cost_is_partial",
        ])?;
    }
    for call in calls {
        let answered = call.answered_at.map(|at| at.to_string()).unwrap_or_default();
        table.write_record([
            cell(&call.call),
            call.started_at.to_string(),
            answered,
            call.ended_at.to_string(),
            call.duration_ms.to_string(),
            cell(&call.direction),
            cell(&call.caller),
            cell(&call.callee),
            cell(&call.target),
            cell(&call.class),
            cell(&call.reason),
            cell(&call.codec),
            call.recorded.to_string(),
            number(call.mos_in),
            number(call.gap_ms.map(tenth)),
            whole(call.cost_micros),
            call.currency.as_deref().map(cell).unwrap_or_default(),
            call.cost_is_partial.to_string(),
        ])?;
    }
    table.flush()
}

pub(super) fn write_groups(text: &mut Vec<u8>, what: &str, found: &[Group]) -> std::io::Result<()> {
    let mut table = table(text);
    table.write_record([
        what,
        "calls",
        "answered",
        "abandoned",
        "transfers",
        "caller_fault",
        "upstream_fault",
        "our_fault",
        "unknown",
        "talk_ms",
        "duration_mean_ms",
        "duration_p50_ms",
        "duration_p95_ms",
        "answer_mean_ms",
        "answer_p50_ms",
        "answer_p95_ms",
        "gap_mean_ms",
        "gap_p50_ms",
        "gap_p95_ms",
        "mos",
        "mos_below_3_6",
        "priced_calls",
        "partly_priced_calls",
        "currency",
        "cost_micros",
        "cost_per_call_micros",
        "cost_per_minute_micros",
        "cost_per_answer_micros",
    ])?;
    for Group { name, figures, cost } in found {
        let Figures { calls, answered, abandoned, transfers, failed, talk_ms, .. } = *figures;
        let counts = [
            calls,
            answered,
            abandoned,
            transfers,
            failed.caller_fault,
            failed.upstream_fault,
            failed.our_fault,
            failed.unknown,
            talk_ms,
        ];
        let mut row = vec![cell(name)];
        row.extend(counts.map(|count| count.to_string()));
        for spread in [figures.duration_ms, figures.answer_ms, figures.gap_ms] {
            row.extend([spread.mean, spread.p50, spread.p95].map(|ms| number(ms.map(tenth))));
        }
        row.extend([figures.mos, figures.mos_below_3_6].map(number));
        let cost = cost.clone().unwrap_or_default();
        row.extend([cost.calls.to_string(), cost.partial.to_string(), cost.currency.unwrap_or_default()]);
        let sums = [cost.total_micros, cost.per_call_micros, cost.per_minute_micros, cost.per_answer_micros];
        row.extend(sums.map(whole));
        table.write_record(row)?;
    }
    table.flush()
}

/// Lines end as RFC 4180 has it.
fn table(text: &mut Vec<u8>) -> ::csv::Writer<&mut Vec<u8>> {
    ::csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(text)
}

/// Text that a spreadsheet would take for a formula begins with `'`.
fn cell(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

fn whole(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn number(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas_and_stay_whole() {
        let mut text = Vec::new();
        let mut table = table(&mut text);
        let cells = ["=1+1", "+49", "-1", "@a", "a\"b", "a,b", "a\r\nb", "plain"].map(cell);
        table.write_record(cells).unwrap();
        table.flush().unwrap();
        drop(table);
        assert_eq!(text, b"'=1+1,'+49,'-1,'@a,\"a\"\"b\",\"a,b\",\"a\r\nb\",plain\r\n");
    }
}

//! A span of time in hours, days or weeks of a time zone.

use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, ToSpan, Unit, ZonedDateTime, ZonedDateTimeRound};

use super::{STEPS_LIMIT, Step};
use crate::api::problem::Problem;
use crate::store::figures::Span;
use crate::time::Moment;

/// The time zone of this name; UTC where none is named.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, Problem> {
    TimeZone::get(name.unwrap_or("UTC"))
        .map_err(|_| Problem::field("zone", "write a name of the IANA's database, such as Europe/Berlin"))
}

/// A span in steps of a calendar; the first and the last may be shorter.
pub(super) fn steps(span: Span, step: Step, zone: TimeZone) -> Result<Vec<Span>, Problem> {
    let bad = |_| Problem::field("from", "write a time that calendars have");
    let end = Timestamp::from_millisecond(span.until.0).map_err(bad)?;
    let first = Timestamp::from_millisecond(span.from.0).map_err(bad)?.to_zoned_datetime(zone);
    let mut begin = beginning(&first, step).map_err(bad)?;
    let (mut steps, mut from) = (Vec::new(), span.from);
    while begin.timestamp() < end {
        if steps.len() >= STEPS_LIMIT {
            return Err(Problem::field("by", format!("that is more than {STEPS_LIMIT} steps: take longer ones")));
        }
        begin = following(&begin, step).map_err(bad)?;
        let until = Moment(begin.timestamp().min(end).as_millisecond());
        steps.push(Span { from, until });
        from = until;
    }
    Ok(steps)
}

fn beginning(at: &ZonedDateTime, step: Step) -> Result<ZonedDateTime, jiff::Error> {
    match step {
        Step::Hour => at.round(ZonedDateTimeRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc)),
        Step::Day => at.start_of_day(),
        Step::Week => at.checked_sub(i64::from(at.weekday().to_monday_zero_offset()).days())?.start_of_day(),
    }
}

fn following(at: &ZonedDateTime, step: Step) -> Result<ZonedDateTime, jiff::Error> {
    match step {
        Step::Hour => at.checked_add(1.hour()),
        Step::Day => at.checked_add(1.day())?.start_of_day(),
        Step::Week => at.checked_add(7.days())?.start_of_day(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str, until: &str, step: Step, zone: &str) -> Vec<String> {
        let span = Span { from: Moment::parse(from).unwrap(), until: Moment::parse(until).unwrap() };
        let steps = steps(span, step, super::zone(Some(zone)).unwrap()).unwrap();
        assert_eq!((steps[0].from, steps[steps.len() - 1].until), (span.from, span.until));
        assert!(steps.windows(2).all(|two| two[0].until == two[1].from));
        steps.iter().map(|step| step.from.to_string()).collect()
    }

    #[test]
    fn days_and_weeks_begin_as_the_zone_has_it_also_where_its_clocks_change() {
        let days = of("2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", Step::Day, "Europe/Berlin");
        let expected = ["2026-03-28T00:00:00.000Z", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"];
        assert_eq!(days, expected, "the 29th has 23 hours");
        let weeks = of("2026-10-22T10:00:00Z", "2026-11-03T00:00:00Z", Step::Week, "Europe/Berlin");
        assert_eq!(weeks, ["2026-10-22T10:00:00.000Z", "2026-10-25T23:00:00.000Z", "2026-11-01T23:00:00.000Z"]);
        let hours = of("2026-10-25T00:15:00Z", "2026-10-25T03:00:00Z", Step::Hour, "Asia/Kolkata");
        let expected = [
            "2026-10-25T00:15:00.000Z",
            "2026-10-25T00:30:00.000Z",
            "2026-10-25T01:30:00.000Z",
            "2026-10-25T02:30:00.000Z",
        ];
        assert_eq!(hours, expected);
    }

    #[test]
    fn a_series_has_an_end() {
        let span = Span { from: Moment(0), until: Moment(0).after_s(86_400 * 40) };
        assert_eq!(steps(span, Step::Hour, TimeZone::UTC).unwrap_err().errors[0].field, "by");
        assert_eq!(zone(Some("Mars/Olympus")).unwrap_err().errors[0].field, "zone");
        assert_eq!(zone(None).unwrap(), TimeZone::UTC);
        assert_eq!(super::super::span(Moment(5), Moment(5)).unwrap_err().errors[0].field, "to");
        assert!(super::super::span(Moment(0), Moment(i64::MAX)).is_err());
    }
}

//! Numbers that nobody of ours calls: the do-not-call list, as the control plane last told it. Whoever plans a call to outside asks here, and
//! waits for nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use control::numbers::meant;
use control::time::Moment;
use phonenumber::country::Id;

use crate::call::end::EndReason;
use crate::call::inbound::Refusal;

/// The list; each number (E.164) with the end of its time, where it has one.
#[derive(Debug, Default)]
pub(crate) struct Barred {
    numbers: RwLock<Arc<HashMap<String, Option<Moment>>>>,
}

impl Barred {
    /// The list is this from here on.
    pub(crate) fn set(&self, numbers: Vec<(String, Option<Moment>)>) {
        let numbers = Arc::new(numbers.into_iter().collect());
        *self.numbers.write().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    /// Whether a number or address may be called by us; a number without a country code is meant in `country`.
    pub(crate) fn admits(&self, target: &str, country: Option<Id>, now: Moment) -> Result<(), Refusal> {
        let numbers = Arc::clone(&self.numbers.read().unwrap_or_else(PoisonError::into_inner));
        let holds = |number: String| numbers.get(&number).is_some_and(|until| until.is_none_or(|until| until > now));
        if !numbers.is_empty() && meant(target, country).into_iter().any(holds) {
            let why = "the number is on the do-not-call list";
            return Err(Refusal::new(403, EndReason::NotAllowed).with_detail(why));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_barred_however_it_is_written_and_for_as_long_as_it_says() {
        let barred = Barred::default();
        let country = control::numbers::country("DE");
        let admits = |target: &str, now| barred.admits(target, country, Moment(now)).is_ok();
        assert!(admits("+4930123456", 0));
        barred.set(vec![("+4930123456".into(), None), ("+4930123457".into(), Some(Moment(10)))]);
        for written in
            ["+4930123456", "030 123456", "0049 30 123456", "sip:+4930123456@carrier.example", "tel:+49-30-123456"]
        {
            assert!(!admits(written, 0), "{written}");
        }
        assert!(admits("+4930123458", 0) && admits("alice", 0) && admits("sip:alice@carrier.example", 0));
        assert!(!admits("+4930123457", 9) && admits("+4930123457", 10));
        let why = barred.admits("+4930123456", None, Moment(0)).unwrap_err();
        assert_eq!((why.code, why.end.detail.as_str()), (403, "the number is on the do-not-call list"));
        barred.set(Vec::new());
        assert!(admits("+4930123456", 0));
    }
}

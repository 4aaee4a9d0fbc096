//! Calls that the server places for a device of ours, whose phone it calls first.

use super::Router;
use super::Way;
use super::history::Diverted;
use super::identity::Caller;
use super::numbers;
use super::rules::Origin;
use crate::call::dial::{DialPlan, Party};
use crate::call::inbound::Refusal;
use crate::config::{DeviceConfig, QueueOrder};

impl Router {
    /// What a device means by this name, number or address; `None` where it is an address elsewhere.
    pub(crate) fn dialled_by(&self, device: &str, target: &str) -> Option<String> {
        self.name_in(target, &Party { device: Some(device.to_owned()), ..Party::default() })
    }

    /// Whom a device dials, as we write numbers, and as its phone is shown them.
    pub(crate) fn shown_to_phone(&self, device: &str, dialled: &str) -> (String, Caller) {
        let country = self.accounts.named(device).and_then(|device| numbers::country(&device.country));
        let called = numbers::to_e164(dialled, country);
        let known = self.accounts.named(dialled).or_else(|| self.accounts.named(&called));
        let shown = match known {
            Some(known) => {
                Caller { number: known.user.clone(), display: known.display_name.clone(), ..Caller::default() }
            }
            None => Caller { number: called.clone(), ..Caller::default() },
        };
        (called, shown)
    }

    /// How the phones of a device are called, whatever rules say of its name: they show `shown`.
    /// Whoever sent the call on are in `diverted`.
    pub(crate) fn phones_of(
        &self,
        device: &DeviceConfig,
        called: &str,
        shown: Caller,
        diverted: Vec<Diverted>,
    ) -> Result<DialPlan, Refusal> {
        let (is_sent_on, signed, origin) = (false, Vec::new(), Origin::Agent);
        let (outside, source, invite) = (shown.clone(), None, None);
        let way = Way { called, inside: shown, outside, diverted, is_sent_on, signed, origin, source, invite };
        self.devices(&[device], QueueOrder::AtOnce, None, &way)
    }
}

//! Who is shown to a side of a call that stands as speaking with it, where that changes (RFC 4916): phones of ours, and carriers within our
//! domain of trust (RFC 3325). Others are told nothing.

use sip::Message;

use super::identity::{self, Caller};
use super::{Router, incoming};
use crate::config::{DeviceConfig, IdentityPolicy, Rewrite};

/// Somebody at an end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// The device of ours that they are; then of the other nothing but their wish for privacy counts.
    pub device: Option<String>,
    /// Their number and name.
    pub caller: Caller,
}

/// Whom they are shown to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// A phone of ours, which knows us by this domain.
    Phone(&'a str),
    /// The peer of this trunk.
    Trunk(&'a str),
}

impl Router {
    /// How somebody is shown: a From value, and the headers that say more; `None` where that side is not told.
    pub(crate) fn shown(&self, who: &Who, to: Shown<'_>) -> Option<(String, Vec<(String, String)>)> {
        let device = who.device.as_deref().and_then(|name| self.accounts.named(name));
        let number = |device: &DeviceConfig| match to {
            Shown::Phone(_) => device.user.clone(),
            Shown::Trunk(_) => device.shown_number().unwrap_or(&device.user).to_owned(),
        };
        let caller = match device.as_deref() {
            Some(device) => Caller {
                number: number(device),
                display: device.display_name.clone(),
                is_private: who.caller.is_private,
                verstat: None,
            },
            None => Caller { verstat: None, ..who.caller.clone() },
        };
        match to {
            _ if caller.number.is_empty() => None,
            Shown::Phone(domain) => {
                let from = identity::for_device(&caller, domain);
                let asserted = (!caller.is_private).then(|| ("P-Asserted-Identity".to_owned(), from.clone()));
                Some((from, asserted.into_iter().collect()))
            }
            Shown::Trunk(name) => {
                let trunk = self.trunks.named(name)?;
                let is_trusted = trunk.config.identity == IdentityPolicy::Trusted;
                is_trusted.then(|| identity::for_trunk(&caller, &trunk.config))
            }
        }
    }

    /// Who is at a trunk's end of a call, as the carrier says in it.
    pub(crate) fn told_by(&self, trunk: &str, message: &Message) -> Option<Caller> {
        let trunk = self.trunks.named(trunk)?;
        let told = identity::caller(message, trunk.config.identity == IdentityPolicy::Trusted);
        let number = incoming(&Rewrite::first(&trunk.config.caller_in, &told.number), &trunk);
        let is_private = told.is_private || number == "anonymous";
        Some(Caller { number, is_private, ..told }).filter(|told| !told.number.is_empty())
    }
}

//! Where users are to be found: the bindings that REGISTER makes (RFC 3261 section 10.3), with the way each came (outbound flows:
//! RFC 5626; Path: RFC 3327).
//!
//! Who may register as whom is settled before. Times are seconds since 1970, so that bindings can be kept over a restart; nothing
//! here reads a clock.

use std::collections::HashMap;

use crate::endpoint::{FlowId, Source};
use crate::headers::{Name, NameAddr};
use crate::message::Message;
use crate::uri::Uri;

/// The longest Contact that is kept; a longer one gets 400.
const CONTACT_LIMIT: usize = 1_024;
/// Path values kept of a registration; with more it gets 400.
const PATHS_LIMIT: usize = 8;

/// Bounds; what happens at each stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrarLimits {
    /// A binding for less than this gets 423, in seconds.
    pub shortest_s: u32,
    /// A binding for more is shortened to this.
    pub longest_s: u32,
    /// For how long where the phone does not say.
    pub usual_s: u32,
    /// Bindings of all users. Beyond: 503.
    pub bindings: usize,
}

/// Bytes of a domain with its port at most: a name of DNS has 253.
const DOMAIN_LIMIT: usize = 260;

/// One way to a user's phone.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The Contact's URI: the Request-URI of what is sent there.
    pub uri: String,
    /// From 0 to 1: higher ones are preferred.
    pub q: f32,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// The registration's Call-ID.
    pub call_id: String,
    /// And its CSeq number.
    pub sequence: u32,
    /// The proxies on the way, the next first.
    pub path: Vec<String>,
    /// What the phone calls itself (`+sip.instance`).
    pub instance: Option<String>,
    /// Which of its flows (`reg-id`), where it uses outbound.
    pub reg_id: Option<u32>,
    /// The way that the request came; `None` for one kept from before a restart.
    pub source: Option<Source>,
    /// It came from the phone itself, without a proxy between.
    pub is_direct: bool,
    /// The User-Agent, for people.
    pub agent: String,
    /// The domain that the phone knows us by, with the port where it names one: that of its own address (the To).
    pub domain: String,
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 400.
    Bad(&'static str),
    /// 403: the request alone names more contacts than the user may have.
    TooMany,
    /// 423, with this Min-Expires.
    TooBrief(u32),
    /// 500: an older request than the last of that registration (section 10.3, step 7).
    OutOfOrder,
    /// 503: there are as many bindings as there may be.
    Full,
}

impl Refused {
    /// The status.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::TooMany => 403,
            Self::TooBrief(_) => 423,
            Self::OutOfOrder => 500,
            Self::Full => 503,
        }
    }

    /// The header that goes with it.
    #[must_use]
    pub fn header(&self) -> Option<(String, String)> {
        match self {
            Self::TooBrief(least) => Some(("Min-Expires".into(), least.to_string())),
            Self::Full => Some(("Retry-After".into(), "30".into())),
            _ => None,
        }
    }
}

/// The bindings of all users.
#[derive(Debug)]
pub struct Registrar {
    limits: RegistrarLimits,
    /// Of each user those that were refreshed last stand last.
    users: HashMap<String, Vec<Binding>>,
}

/// What one Contact of a request asks for.
struct Wish {
    uri: String,
    seconds: u32,
    q: f32,
    instance: Option<String>,
    reg_id: Option<u32>,
}

impl Registrar {
    /// A registrar that knows nobody.
    #[must_use]
    pub fn new(limits: RegistrarLimits) -> Self {
        Self { limits, users: HashMap::new() }
    }

    /// Does what a REGISTER of this user asks for; the bindings that there are then. All of it is done, or nothing.
    ///
    /// Beyond `most` the bindings that were refreshed least recently give way to the new ones: a phone that was restarted comes from
    /// other ports, and what it left behind stays until its time is over.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn register(
        &mut self,
        now_s: u64,
        user: &str,
        most: usize,
        request: &Message,
        source: &Source,
    ) -> Result<Vec<Binding>, Refused> {
        let sequence = request.cseq().map_err(|_| Refused::Bad("CSeq"))?.number;
        let mut bindings = self.users.get(user).cloned().unwrap_or_default();
        bindings.retain(|binding| binding.expires_s > now_s);
        let is_old = |binding: &Binding| binding.call_id == request.call_id() && binding.sequence >= sequence;
        if request.header_values(Name::Contact).any(|contact| contact.trim() == "*") {
            if request.header_values(Name::Contact).count() > 1 || request.expires_seconds() != Some(0) {
                return Err(Refused::Bad("Contact: * stands alone, with Expires: 0"));
            }
            if bindings.iter().any(is_old) {
                return Err(Refused::OutOfOrder);
            }
            bindings.clear();
        }
        let path: Vec<String> = request.header_values(Name::Path).map(str::to_owned).collect();
        if path.len() > PATHS_LIMIT {
            return Err(Refused::Bad("Path has too many values"));
        }
        let domain = request.to().ok().and_then(|to| to.uri().ok().map(|uri| uri.authority()));
        let domain = domain.filter(|domain| domain.len() <= DOMAIN_LIMIT).unwrap_or_default();
        let wishes = self.wishes(request)?;
        let wanted = wishes.iter().filter(|wish| wish.seconds > 0).count();
        if wanted > most {
            return Err(Refused::TooMany);
        }
        for wish in wishes {
            let is_same = |binding: &Binding| match (&wish.instance, wish.reg_id) {
                (Some(instance), Some(_)) => {
                    binding.instance.as_ref() == Some(instance) && binding.reg_id == wish.reg_id
                }
                _ => is_equal(&binding.uri, &wish.uri),
            };
            if bindings.iter().any(|binding| is_same(binding) && is_old(binding)) {
                return Err(Refused::OutOfOrder);
            }
            bindings.retain(|binding| !is_same(binding));
            if wish.seconds > 0 {
                bindings.push(Binding {
                    uri: wish.uri,
                    q: wish.q,
                    expires_s: now_s + u64::from(wish.seconds),
                    call_id: request.call_id().to_owned(),
                    sequence,
                    path: path.clone(),
                    instance: wish.instance,
                    reg_id: wish.reg_id,
                    source: Some(*source),
                    is_direct: request.via_count() == 1,
                    agent: request.header(Name::UserAgent).unwrap_or_default().chars().take(128).collect(),
                    domain: domain.clone(),
                });
            }
        }
        if wanted > 0 {
            bindings.drain(..bindings.len().saturating_sub(most));
        }
        let before = self.users.get(user).map_or(0, Vec::len);
        if bindings.len() > before && self.len() - before + bindings.len() > self.limits.bindings {
            return Err(Refused::Full);
        }
        self.put(user, bindings.clone());
        Ok(bindings)
    }

    /// The ways to a user, the best first. Of several flows of one phone the latest alone counts (RFC 5626 section 5.3).
    #[must_use]
    pub fn bindings(&self, now_s: u64, user: &str) -> Vec<&Binding> {
        let all = self.users.get(user).into_iter().flatten().filter(|binding| binding.expires_s > now_s);
        let mut found: Vec<&Binding> = Vec::new();
        for binding in all {
            let is_same = |known: &&Binding| binding.instance.is_some() && known.instance == binding.instance;
            found.retain(|known| !is_same(known));
            found.push(binding);
        }
        found.sort_by(|a, b| b.q.total_cmp(&a.q));
        found
    }

    /// A connection is gone, and with it the bindings that led over it. Whose they were.
    pub fn flow_closed(&mut self, flow: FlowId) -> Vec<String> {
        let leads_there = |binding: &Binding| {
            binding.source.is_some_and(|source| source.flow == flow && source.transport.is_reliable())
        };
        self.drop_where(leads_there)
    }

    /// Forgets what has ended. Whose it was.
    pub fn expire(&mut self, now_s: u64) -> Vec<String> {
        self.drop_where(|binding| binding.expires_s <= now_s)
    }

    /// All bindings, by user.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Binding)> {
        self.users.iter().flat_map(|(user, bindings)| bindings.iter().map(|binding| (user.as_str(), binding)))
    }

    /// Takes in a binding that was kept over a restart.
    pub fn restore(&mut self, user: &str, binding: Binding) {
        if self.len() < self.limits.bindings {
            self.users.entry(user.to_owned()).or_default().push(binding);
        }
    }

    /// Bindings held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn put(&mut self, user: &str, bindings: Vec<Binding>) {
        if bindings.is_empty() {
            self.users.remove(user);
        } else {
            self.users.insert(user.to_owned(), bindings);
        }
    }

    fn drop_where(&mut self, is_over: impl Fn(&Binding) -> bool) -> Vec<String> {
        let mut whose = Vec::new();
        self.users.retain(|user, bindings| {
            let before = bindings.len();
            bindings.retain(|binding| !is_over(binding));
            if bindings.len() != before {
                whose.push(user.clone());
            }
            !bindings.is_empty()
        });
        whose
    }

    fn wishes(&self, request: &Message) -> Result<Vec<Wish>, Refused> {
        let mut wishes = Vec::new();
        for value in request.header_values(Name::Contact).filter(|value| value.trim() != "*") {
            let contact = NameAddr::parse(value).map_err(|_| Refused::Bad("Contact"))?;
            let uri = contact.uri().ok().filter(Uri::is_sip).ok_or(Refused::Bad("Contact: a SIP URI is wanted"))?;
            if uri.as_str().len() > CONTACT_LIMIT {
                return Err(Refused::Bad("Contact is too long"));
            }
            let given = contact.params.get("expires").and_then(|seconds| seconds.parse::<u64>().ok());
            let asked = given.or(request.expires_seconds().map(u64::from)).unwrap_or(self.limits.usual_s.into());
            if asked > 0 && asked < u64::from(self.limits.shortest_s) {
                return Err(Refused::TooBrief(self.limits.shortest_s));
            }
            let q = contact.params.get("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
            let text =
                |name: &str| contact.params.get(name).map(|value| crate::headers::params::unquote(value).to_owned());
            wishes.push(Wish {
                uri: uri.as_str().to_owned(),
                seconds: u32::try_from(asked).unwrap_or(u32::MAX).min(self.limits.longest_s),
                q: if q.is_finite() { q.clamp(0.0, 1.0) } else { 1.0 },
                instance: text("+sip.instance").filter(|instance| instance.len() <= CONTACT_LIMIT),
                reg_id: text("reg-id").and_then(|id| id.parse().ok()).filter(|id| *id > 0),
            });
        }
        Ok(wishes)
    }
}

/// The Contact values of a 200, with the seconds that each has left.
#[must_use]
pub fn contacts(now_s: u64, bindings: &[Binding]) -> Vec<(String, String)> {
    let contact = |binding: &Binding| {
        let mut value = format!("<{}>;expires={}", binding.uri, binding.expires_s.saturating_sub(now_s));
        if let Some(instance) = &binding.instance {
            value.push_str(&format!(";+sip.instance=\"{instance}\""));
        }
        if let Some(reg_id) = binding.reg_id {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
        ("Contact".to_owned(), value)
    };
    bindings.iter().map(contact).collect()
}

fn is_equal(a: &str, b: &str) -> bool {
    a == b || matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if a.is_equivalent(&b))
}

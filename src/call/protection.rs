//! What protects a call's sound: our keys, our certificate and our part of ICE on the way into the description, and what was agreed
//! on the way out of it. Made when a description asks for it: most calls by telephone do not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use media::connect::{ConnectConfig, IceConfig, IceCredentials, Identity, ice};
use media::srtp::{KeyPair, MasterKey, Suite};
use media::{Media, ReservedPort, Security};
use sip::endpoint::Transport;
use sip::negotiate::{LocalDtls, LocalIce, LocalMedia, OfferAs, Policy, Protecting, Protection, RemoteIce, SdesKey};
use sip::sdp::Session;

use crate::config::{Config, IceMode, SrtpPolicy};
use crate::random::letters;

/// Addresses of ours that a browser is told at most.
const HOSTS: usize = 8;
/// Candidates of a peer that are kept.
const CANDIDATES: usize = ice::CANDIDATES;
/// Letters of the name and the password of checks: 40 and 130 bits (RFC 8445 section 5.3 asks for 24 and 128).
const UFRAG: usize = 8;
const PWD: usize = 26;

/// One call's part.
#[derive(Debug)]
pub(super) struct Shield {
    policy: SrtpPolicy,
    mode: IceMode,
    bind: IpAddr,
    public: Option<IpAddr>,
    /// How our socket is seen from outside, and the addresses of TURN servers that it has, as servers told.
    reflexive: Vec<SocketAddr>,
    relayed: Vec<SocketAddr>,
    identity: Option<Arc<Identity>>,
    /// Our addresses, as they were told.
    hosts: Vec<SocketAddr>,
}

impl Shield {
    pub(super) fn new(config: &Config, public: Option<IpAddr>) -> Self {
        Shield {
            policy: config.rtp.srtp,
            mode: config.rtp.ice,
            bind: config.rtp.bind,
            public,
            reflexive: Vec::new(),
            relayed: Vec::new(),
            identity: None,
            hosts: Vec::new(),
        }
    }

    /// Settles whether the sound is to be protected, and how we offer that over such a transport.
    pub(super) fn set(&mut self, local: &mut LocalMedia, policy: SrtpPolicy, transport: Transport) {
        self.policy = policy;
        let is_browser = matches!(transport, Transport::Ws | Transport::Wss);
        let is_private = matches!(transport, Transport::Tls | Transport::Wss);
        local.protection = Protecting {
            policy: match policy {
                SrtpPolicy::Off => Policy::Off,
                SrtpPolicy::Preferred | SrtpPolicy::Default => Policy::Preferred,
                SrtpPolicy::Required | SrtpPolicy::Sdes | SrtpPolicy::Dtls => Policy::Required,
            },
            offer_as: match policy {
                SrtpPolicy::Off => OfferAs::Plain,
                _ if is_browser => OfferAs::Browser,
                SrtpPolicy::Sdes => OfferAs::Sdes,
                SrtpPolicy::Required if is_private => OfferAs::Sdes,
                SrtpPolicy::Dtls | SrtpPolicy::Required => OfferAs::Dtls,
                // Keys in a description that anybody can read on its way protect nothing.
                SrtpPolicy::Preferred | SrtpPolicy::Default if is_private => OfferAs::Opportunistic,
                SrtpPolicy::Preferred | SrtpPolicy::Default => OfferAs::Plain,
            },
            ..Protecting::default()
        };
    }

    /// Whether a path will be looked for by ICE, as far as the peer's offer or ours to come says, and servers are of use for that.
    pub(super) fn wants_path(&self, local: &LocalMedia, offered: Option<&Session>) -> bool {
        let protecting = &local.protection;
        let by_ice = match offered {
            Some(offered) => has(offered, "ice-ufrag") && has(offered, "fingerprint"),
            None => protecting.offer_as == OfferAs::Browser,
        };
        by_ice && protecting.policy != Policy::Off && self.mode != IceMode::Lite
    }

    /// Takes what servers told of our socket.
    pub(super) fn learn(&mut self, port: &ReservedPort) {
        self.reflexive = port.reflexive().to_vec();
        self.relayed = port.relayed().collect();
    }

    /// Makes ready what the peer's offer asks for, or what ours is to say. The port is settled.
    pub(super) fn arm(&mut self, local: &mut LocalMedia, media: &Media, offered: Option<&Session>) {
        let protecting = &mut local.protection;
        if protecting.policy == Policy::Off {
            return;
        }
        let has = |name: &str| offered.is_some_and(|offered| has(offered, name));
        let ours = |ways: &[OfferAs]| offered.is_none() && ways.contains(&protecting.offer_as);
        let wants_keys = has("crypto") || ours(&[OfferAs::Opportunistic, OfferAs::Sdes]);
        let wants_handshake = has("fingerprint") || ours(&[OfferAs::Dtls, OfferAs::Browser]);
        let wants_path = has("ice-ufrag") || ours(&[OfferAs::Browser]);
        if wants_keys && protecting.sdes.is_empty() {
            protecting.sdes = Suite::ALL.iter().filter_map(|suite| new_key(*suite)).collect();
        }
        if wants_handshake && protecting.dtls.is_none() {
            match media.identity() {
                Ok(identity) => {
                    let fingerprint = identity.fingerprint().to_string();
                    protecting.dtls = Some(LocalDtls { fingerprint, is_client: None });
                    self.identity = Some(identity);
                }
                Err(fault) => tracing::error!("calls cannot be protected by DTLS: {fault}"),
            }
        }
        if wants_handshake && wants_path && protecting.ice.is_none() {
            self.hosts = if self.mode == IceMode::Relay { vec![] } else { hosts(self.bind, local.addr, local.port) };
            local.protection.ice = self.new_ice(local.port);
        }
    }

    /// Takes what was agreed on: the parts in the handshake stay as they are now. Whether the peer begins ICE anew, which takes
    /// a new name and password of ours too (RFC 8445 section 2.4).
    pub(super) fn settle(&mut self, local: &mut LocalMedia, before: Option<&Protection>, now: &Protection) -> bool {
        let Protection::Dtls { is_client, ice, .. } = now else { return false };
        if let Some(dtls) = &mut local.protection.dtls {
            dtls.is_client = Some(*is_client);
        }
        let name = |ice: &Option<RemoteIce>| ice.as_ref().map(|ice| (ice.ufrag.clone(), ice.pwd.clone()));
        let former = match before {
            Some(Protection::Dtls { ice, .. }) => name(ice),
            _ => return false,
        };
        if former.is_none() || former == name(ice) {
            return false;
        }
        local.protection.ice = self.new_ice(local.port);
        true
    }

    /// An offer of ours within the call is like what was agreed on.
    pub(super) fn offer_like(local: &mut LocalMedia, agreed: &Protection, protocol: &str) {
        local.protection.offer_as = match agreed {
            Protection::None => OfferAs::Plain,
            Protection::Sdes { .. } if protocol.contains("SAVP") => OfferAs::Sdes,
            Protection::Sdes { .. } => OfferAs::Opportunistic,
            Protection::Dtls { ice: Some(_), .. } => OfferAs::Browser,
            Protection::Dtls { ice: None, .. } => OfferAs::Dtls,
        };
    }

    /// What the media engine is told.
    pub(super) fn security(&self, local: &LocalMedia, agreed: &Protection) -> Result<Security, String> {
        match agreed {
            Protection::None => Ok(Security::Plain),
            Protection::Sdes { send, receive, .. } => {
                let pair = KeyPair { send: read_key(send)?, receive: read_key(receive)? };
                Ok(Security::Sdes(Arc::new(pair)))
            }
            Protection::Dtls { fingerprint, is_client, ice } => {
                let identity = self.identity.clone().ok_or("there is no certificate of ours")?;
                let fingerprint =
                    fingerprint.parse().map_err(|fault: media::connect::ConnectError| fault.to_string())?;
                let ice = ice.as_ref().zip(local.protection.ice.as_ref());
                let ice = ice.map(|(theirs, ours)| self.ice_config(theirs, ours, local.port));
                Ok(Security::Dtls(Arc::new(ConnectConfig { identity, is_client: *is_client, fingerprint, ice })))
            }
        }
    }

    fn new_ice(&self, port: u16) -> Option<LocalIce> {
        let (ufrag, pwd) = (letters(UFRAG)?, letters(PWD)?);
        let nobody = RemoteIce {
            ufrag: String::new(),
            pwd: String::new(),
            candidates: Vec::new(),
            is_lite: false,
            is_controlling: false,
        };
        let ours = LocalIce { ufrag, pwd, candidates: Vec::new(), is_lite: self.mode == IceMode::Lite };
        let candidates = ice::describe(&self.ice_config(&nobody, &ours, port));
        Some(LocalIce { candidates, ..ours })
    }

    fn ice_config(&self, theirs: &RemoteIce, ours: &LocalIce, port: u16) -> IceConfig {
        let credentials = |ufrag: &str, pwd: &str| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() };
        IceConfig {
            local: credentials(&ours.ufrag, &ours.pwd),
            remote: credentials(&theirs.ufrag, &theirs.pwd),
            hosts: self.hosts.clone(),
            reflexive: self.seen_at(port),
            relayed: self.relayed.clone(),
            candidates: theirs.candidates.clone(),
            // Two that are lite cannot find each other; with one, the other chooses.
            is_controlling: theirs.is_controlling && !ours.is_lite,
            is_lite: ours.is_lite,
        }
    }

    /// Where those outside see us, where that is no address of our own.
    fn seen_at(&self, port: u16) -> Vec<SocketAddr> {
        if self.mode == IceMode::Relay {
            return Vec::new();
        }
        let mut seen: Vec<SocketAddr> = self.reflexive.clone();
        seen.extend(self.public.map(|ip| SocketAddr::new(ip, port)).filter(|at| !self.reflexive.contains(at)));
        seen.retain(|at| !self.hosts.iter().any(|host| host.ip() == at.ip()));
        seen
    }
}

fn has(offered: &Session, name: &str) -> bool {
    offered.attributes.has(name) || offered.media.iter().any(|media| media.attributes.has(name))
}

/// Adds candidates of the peer's; whether there were any.
pub(super) fn add_candidates(agreed: &mut Protection, fragment: &[u8]) -> bool {
    let Protection::Dtls { ice: Some(ice), .. } = agreed else { return false };
    let before = ice.candidates.len();
    for line in String::from_utf8_lossy(fragment).lines() {
        let candidate = line.trim().strip_prefix("a=candidate:").unwrap_or_default();
        if !candidate.is_empty() && ice.candidates.len() < CANDIDATES && !ice.candidates.iter().any(|c| c == candidate)
        {
            ice.candidates.push(candidate.to_owned());
        }
    }
    ice.candidates.len() > before
}

/// Takes a name, a password and candidates of the peer's that begin ICE anew; whether there were any. What is none of RFC 8839's
/// (section 5.4) is not taken.
pub(super) fn restart(agreed: &mut Protection, fragment: &[u8]) -> bool {
    let Protection::Dtls { ice: Some(ice), .. } = agreed else { return false };
    let text = String::from_utf8_lossy(fragment);
    let value = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
    let (ufrag, pwd) = (value("a=ice-ufrag:"), value("a=ice-pwd:"));
    let is_made_right = |text: &str, least: usize| {
        (least..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
    };
    if !is_made_right(ufrag, 4) || !is_made_right(pwd, 22) || (ufrag == ice.ufrag && pwd == ice.pwd) {
        return false;
    }
    (ice.ufrag, ice.pwd) = (ufrag.to_owned(), pwd.to_owned());
    ice.candidates.clear();
    add_candidates(agreed, fragment);
    true
}

/// Our part of ICE as a fragment of a description (RFC 8840 section 9).
pub(super) fn fragment(ours: &LocalIce, mid: &str) -> String {
    let mut text = String::new();
    if ours.is_lite {
        text.push_str("a=ice-lite\r\n");
    }
    text.push_str(&format!("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n"));
    text.push_str(&format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ours.ufrag, ours.pwd));
    for candidate in &ours.candidates {
        text.push_str(&format!("a=candidate:{candidate}\r\n"));
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

/// How it stands in records.
pub(super) fn name(protection: Option<&Protection>) -> &'static str {
    match protection {
        None | Some(Protection::None) => "none",
        Some(Protection::Sdes { .. }) => "sdes",
        Some(Protection::Dtls { .. }) => "dtls",
    }
}

fn new_key(suite: Suite) -> Option<SdesKey> {
    let mut bytes = vec![0; suite.master_bytes()];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(SdesKey { suite: suite.name().to_owned(), inline: STANDARD.encode(bytes) })
}

fn read_key(key: &SdesKey) -> Result<MasterKey, String> {
    let suite = Suite::of_name(&key.suite).ok_or_else(|| format!("{} is no crypto suite of ours", key.suite))?;
    // Some leave the padding out.
    let bytes = STANDARD_NO_PAD.decode(key.inline.trim_end_matches('=')).map_err(|_| "a key that is no base64")?;
    MasterKey::new(suite, &bytes).map_err(|fault| fault.to_string())
}

/// Where our socket can be reached: its own address, or every address of this machine that peers elsewhere can reach, and the one
/// that signalling goes by.
fn hosts(bind: IpAddr, signalling: IpAddr, port: u16) -> Vec<SocketAddr> {
    if !bind.is_unspecified() {
        return vec![SocketAddr::new(bind, port)];
    }
    // Bound to ::, it serves both families.
    let is_of_family = |ip: &IpAddr| bind.is_ipv6() || ip.is_ipv4();
    let is_of_use = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => bind.is_ipv6() && !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut found: Vec<IpAddr> = Vec::new();
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|fault| {
        tracing::warn!("this machine's addresses cannot be listed: {fault}");
        Vec::new()
    });
    let own = interfaces.iter().map(if_addrs::Interface::ip).filter(is_of_use);
    let named = Some(signalling).filter(|ip| is_of_family(ip) && interfaces.iter().any(|known| known.ip() == *ip));
    for ip in own.chain(named) {
        if !found.contains(&ip) && found.len() < HOSTS {
            found.push(ip);
        }
    }
    found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_were_made_with_padding_or_without() {
        for suite in Suite::ALL {
            let key = new_key(suite).unwrap();
            let read = read_key(&key).unwrap();
            let bare = SdesKey { inline: key.inline.trim_end_matches('=').to_owned(), ..key.clone() };
            assert_eq!((read.suite(), read_key(&bare).unwrap()), (suite, read));
        }
        let key = SdesKey { suite: "AES_CM_128_HMAC_SHA1_80".into(), inline: "***".into() };
        assert!(read_key(&key).unwrap_err().contains("base64"));
    }

    #[test]
    fn a_bound_address_is_the_only_one_told() {
        let here = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(hosts(here, here, 4_000), [SocketAddr::new(here, 4_000)]);
        let all = hosts(IpAddr::from([0, 0, 0, 0]), here, 4_000);
        assert!(all.contains(&SocketAddr::new(here, 4_000)), "signalling comes by it: {all:?}");
        let both = hosts(IpAddr::from([0; 16]), here, 4_000);
        assert!(all.iter().all(|v4| both.contains(v4)), "{all:?} {both:?}");
        assert!(all.iter().all(SocketAddr::is_ipv4));
    }
}

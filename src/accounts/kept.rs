//! Registrations on the disk: one JSON file, written whole beside the old one and put in its place.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sip::endpoint::{FlowId, Source, Transport};
use sip::registrar::Binding;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    user: String,
    uri: String,
    q: f32,
    expires_s: u64,
    call_id: String,
    sequence: u32,
    path: Vec<String>,
    instance: Option<String>,
    reg_id: Option<u32>,
    is_direct: bool,
    agent: String,
    #[serde(default)]
    domain: String,
    /// By which transport, from which address, to which of ours.
    source: Option<(String, SocketAddr, SocketAddr)>,
}

/// The file's text.
pub(super) fn to_text<'a>(bindings: impl Iterator<Item = (&'a str, &'a Binding)>) -> String {
    let kept = bindings.map(|(user, binding)| Kept {
        user: user.to_owned(),
        uri: binding.uri.clone(),
        q: binding.q,
        expires_s: binding.expires_s,
        call_id: binding.call_id.clone(),
        sequence: binding.sequence,
        path: binding.path.clone(),
        instance: binding.instance.clone(),
        reg_id: binding.reg_id,
        is_direct: binding.is_direct,
        agent: binding.agent.clone(),
        domain: binding.domain.clone(),
        source: binding.source.map(|source| (source.transport.uri_name().to_owned(), source.remote, source.local)),
    });
    serde_json::to_string(&kept.collect::<Vec<_>>()).unwrap_or_default()
}

/// Writes the file.
pub(super) fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("json.new");
    let mut new = std::fs::File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_data()?;
    std::fs::rename(beside, file)
}

/// Reads what was kept and has not ended. Ways by connections are lost with them: those phones are sought by their Contact.
pub(super) fn read(file: &Path, now_s: u64, local: &[(SocketAddr, FlowId)]) -> Vec<(String, Binding)> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(fault) => {
            tracing::error!("cannot read {}: {fault}. Phones have to register anew", file.display());
            return Vec::new();
        }
    };
    let kept: Vec<Kept> = match serde_json::from_str(&text) {
        Ok(kept) => kept,
        Err(fault) => {
            tracing::error!("{} holds no registrations: {fault}. Phones have to register anew", file.display());
            return Vec::new();
        }
    };
    let binding = |kept: Kept| {
        let source = kept.source.and_then(|(transport, remote, own)| {
            let transport = Transport::parse(&transport).filter(|transport| *transport == Transport::Udp)?;
            let of_port = local.iter().find(|(address, _)| address.port() == own.port());
            let flow = of_port.or(local.first()).map(|(_, flow)| *flow)?;
            Some(Source { transport, remote, local: own, flow })
        });
        let binding = Binding {
            uri: kept.uri,
            q: kept.q,
            expires_s: kept.expires_s,
            call_id: kept.call_id,
            sequence: kept.sequence,
            path: kept.path,
            instance: kept.instance,
            reg_id: kept.reg_id,
            source,
            is_direct: kept.is_direct,
            agent: kept.agent,
            domain: kept.domain,
        };
        (kept.user, binding)
    };
    kept.into_iter().filter(|kept| kept.expires_s > now_s).map(binding).collect()
}

//! What the configuration says to the engines: the media engine's settings, the signalling stack's, and what is offered to peers.

use std::time::Duration;

use codecs::registry;
use media::MediaConfig;
use sip::negotiate::{Capability, CodecOffer, Preference};

use super::Config;

/// The media engine's configuration.
#[must_use]
pub fn media(config: &Config) -> MediaConfig {
    MediaConfig {
        workers: config.rtp.worker_count(),
        bind: config.rtp.bind,
        ports: config.rtp.ports.first..=config.rtp.ports.last,
        cpus: config.rtp.worker_cpus.clone(),
        ..MediaConfig::default()
    }
}

/// The signalling stack's configuration.
#[must_use]
pub fn signalling(config: &Config) -> sip::io::StackConfig {
    let listen =
        config.sip.listen.iter().map(|listen| sip::io::Listen { transport: listen.transport, address: listen.addr });
    let mut stack = sip::io::StackConfig { listen: listen.collect(), ..sip::io::StackConfig::default() };
    stack.dns.servers.clone_from(&config.sip.dns);
    stack.tls = config.tls.for_sip();
    stack.origins.clone_from(&config.sip.origins);
    // Devices may be added later, where people can add them.
    if !config.devices.is_empty() || config.control.on {
        stack.endpoint.user_methods = vec![sip::Method::Register, sip::Method::Message];
        stack.endpoint.event_packages = crate::watchers::PACKAGES.map(str::to_owned).to_vec();
    }
    stack.endpoint.referrals = true;
    // Most calls are answered, or ring, before: one message less for each.
    stack.endpoint.trying_after = Duration::from_millis(100);
    stack.public = config.sip.advertise.parse().ok();
    stack.endpoint.session_interval = Duration::from_secs(config.sip.session_timer_s.into());
    stack.endpoint.limits.transactions = config.sip.max_transactions;
    stack.limits.connections = config.sip.max_connections;
    stack
}

/// What we can do, in the order of the configuration.
#[must_use]
pub fn capability(config: &Config) -> Capability {
    let codecs = config.rtp.codecs.iter().flat_map(|name| {
        registry::SPECS.iter().filter(move |spec| spec.name.eq_ignore_ascii_case(name)).map(|spec| CodecOffer {
            name: spec.name.to_owned(),
            clock_hz: spec.clock_hz,
            channels: spec.channels,
            static_payload_type: spec.static_payload_type,
            fmtp: Some(spec.fmtp.to_owned()).filter(|fmtp| !fmtp.is_empty()),
        })
    });
    Capability {
        codecs: codecs.collect(),
        telephone_event: true,
        comfort_noise: true,
        ptime_ms: config.rtp.ptime_ms,
        rtcp_mux: true,
        audio_levels: true,
        preference: Preference::Ours,
    }
}

//! In which order the records of a service are tried (RFC 2782, RFC 3263).

use std::cmp::Reverse;

use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};

use crate::endpoint::Transport;

/// SRV records by priority; within one, by chance in proportion to their weights (RFC 2782). `chance` answers a number
/// below the one that it is given.
pub(super) fn by_weight(mut records: Vec<SRV>, mut chance: impl FnMut(u32) -> u32) -> Vec<SRV> {
    // Those without weight first, so that they have a chance at all.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = records.iter().take_while(|record| record.priority == priority).count();
        let total: u32 = records.iter().take(same).map(|record| u32::from(record.weight)).sum();
        let picked = chance(total.saturating_add(1));
        let mut sum = 0;
        let at = records.iter().take(same).position(|record| {
            sum += u32::from(record.weight);
            sum >= picked
        });
        ordered.push(records.remove(at.unwrap_or(0)));
    }
    // "." says that there is no such service here.
    ordered.retain(|record| !record.target.is_root());
    ordered
}

/// The services of NAPTR records that we can use, in order, with the names of their SRV records (RFC 3263 section 4.1). A `sips:`
/// URI leads to TLS alone.
pub(super) fn services(mut records: Vec<NAPTR>, is_sips: bool) -> Vec<(Transport, String)> {
    records.sort_by_key(|record| (record.order, record.preference));
    let services = records.iter().filter(|record| record.flags.eq_ignore_ascii_case(b"s")).filter_map(|record| {
        let transport = match record.services.to_ascii_uppercase().as_slice() {
            b"SIPS+D2T" => Transport::Tls,
            b"SIP+D2T" if !is_sips => Transport::Tcp,
            b"SIP+D2U" if !is_sips => Transport::Udp,
            _ => return None,
        };
        Some((transport, record.replacement.to_ascii()))
    });
    services.collect()
}

/// Where the services of a domain are looked for that has no NAPTR records, most wanted first.
pub(super) fn usual_services(host: &str, transport: Option<Transport>, is_sips: bool) -> Vec<(Transport, String)> {
    let wanted = match transport {
        Some(transport) => vec![transport],
        None if is_sips => vec![Transport::Tls],
        None => vec![Transport::Udp, Transport::Tcp, Transport::Tls],
    };
    let name = |transport: Transport| {
        let service = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp | Transport::Ws => "_sip._tcp",
            Transport::Tls | Transport::Wss => "_sips._tcp",
        };
        format!("{service}.{host}.")
    };
    wanted.into_iter().map(|transport| (transport, name(transport))).collect()
}

/// Puts what failed of late last, without other changes to the order.
pub(super) fn dead_last<T>(ways: &mut [T], is_dead: impl Fn(&T) -> bool) {
    ways.sort_by_key(|way| Reverse(!is_dead(way)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> SRV {
        SRV::new(priority, weight, 5060, Name::from_ascii(target).unwrap())
    }

    fn targets(records: &[SRV]) -> Vec<String> {
        records.iter().map(|record| record.target.to_ascii()).collect()
    }

    #[test]
    fn lower_priorities_come_first_and_chance_decides_by_weight_within_one() {
        let records = vec![srv(2, 1, "late."), srv(1, 3, "heavy."), srv(1, 1, "light.")];
        let always = |picked: u32| move |_: u32| picked;
        assert_eq!(targets(&by_weight(records.clone(), always(4))), ["heavy.", "light.", "late."]);
        assert_eq!(targets(&by_weight(records.clone(), always(1))), ["light.", "heavy.", "late."]);
        let mut seed = 1u32;
        let mut heavy_first = 0;
        for _ in 0..4_000 {
            let ordered = by_weight(records.clone(), |below| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((u64::from(seed) * u64::from(below)) >> 32) as u32
            });
            heavy_first += usize::from(ordered.first().is_some_and(|first| first.target.to_ascii() == "heavy."));
        }
        // 3 of 5 chances (0 to 4), and no less than weights alone would give to the lighter one.
        assert!((2_100..3_300).contains(&heavy_first), "{heavy_first}");
    }

    #[test]
    fn a_service_that_is_declared_absent_is_not_tried() {
        assert!(by_weight(vec![srv(0, 0, ".")], |_| 0).is_empty());
    }

    #[test]
    fn naptr_records_choose_the_transport_and_sips_takes_tls_alone() {
        let naptr = |order, services: &str, name: &str| {
            let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
            NAPTR::new(order, 0, bytes("s"), bytes(services), bytes(""), Name::from_ascii(name).unwrap())
        };
        let records = vec![
            naptr(3, "SIP+D2U", "_sip._udp.example."),
            naptr(1, "SIPS+D2T", "_sips._tcp.example."),
            naptr(2, "SIP+D2T", "_sip._tcp.example."),
            naptr(0, "SIP+D2S", "_sip._sctp.example."),
        ];
        let transports = |is_sips| services(records.clone(), is_sips).into_iter().map(|(t, _)| t).collect::<Vec<_>>();
        assert_eq!(transports(false), [Transport::Tls, Transport::Tcp, Transport::Udp]);
        assert_eq!(transports(true), [Transport::Tls]);
    }

    #[test]
    fn what_is_dead_comes_last() {
        let mut ways = [1, 2, 3, 4];
        dead_last(&mut ways, |way| way % 2 == 1);
        assert_eq!(ways, [2, 4, 1, 3]);
    }
}

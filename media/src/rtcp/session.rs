//! When to send RTCP and what comes back (RFC 3550 sections 6.2, 6.3 and appendix A.7), for a session of few members:
//! our one source, and what talks to it.

use std::time::{Duration, Instant};

use super::{Compound, NtpTime, Packet, ReportBlock, RtcpError, SenderInfo, VoipMetrics, Writer, XR};
use crate::rtp::{RtpTime, Source};

/// Members that are counted at most, ourselves left out: a flood of invented sources cannot slow our reports further.
const MAX_MEMBERS: usize = 8;
/// IP and UDP headers count towards a packet's size (RFC 3550 section 6.2).
const LOWER_LAYERS_BYTES: u32 = 28;
/// e - 3/2: makes up for timer reconsideration (section 6.3.1).
const COMPENSATION: f64 = 1.218_28;
/// A round trip longer than this is a wrong report, not a slow network.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);
/// A member unheard for this many intervals has left (section 6.3.5).
const TIMEOUT_INTERVALS: u32 = 5;

/// What a session is made from.
#[derive(Debug, Clone)]
pub struct RtcpConfig {
    /// Our source.
    pub ssrc: u32,
    /// Our canonical name; cut to 255 bytes.
    pub cname: String,
    /// Seed of the intervals' randomness.
    pub seed: u64,
    /// The session's bandwidth, of which RTCP takes a twentieth, in bits a second.
    pub bandwidth_bps: u32,
    /// The least time between two reports on average: 5 s (section 6.2).
    pub minimum_interval: Duration,
    /// The wall clock at the `now` that the session begins at.
    pub ntp_at_start: NtpTime,
}

/// What we have sent when a report is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderCounts {
    /// Packets since the stream began; the field in the report wraps.
    pub packets: u32,
    /// Their payload, in bytes.
    pub bytes: u32,
    /// What the stream's clock says now.
    pub timestamp: RtpTime,
}

/// What a compound packet of the peer told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// The round trip, where the peer's report gives one.
    pub round_trip: Option<Duration>,
    /// What the peer says of our stream.
    pub report: Option<ReportBlock>,
    /// The peer's source said goodbye.
    pub bye: bool,
    /// How our stream sounds at the peer, by its own judgement (RFC 3611).
    pub metrics: Option<VoipMetrics>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    ssrc: u32,
    heard_ms: u32,
    sent_ms: Option<u32>,
}

/// One RTCP session: `tick` prints a report when it is due, `receive` takes the peer's.
#[derive(Debug)]
pub struct RtcpSession {
    ssrc: u32,
    cname: Box<str>,
    random: u64,
    bytes_per_s: f64,
    minimum_interval: Duration,
    start: Instant,
    ntp_at_start: NtpTime,
    members: [Member; MAX_MEMBERS],
    members_len: usize,
    members_before: usize,
    average_size_bytes: f64,
    /// `tp` and `tn` of section 6.3.
    last_sent: Instant,
    next: Instant,
    interval: Duration,
    initial: bool,
    packets_at_report: [u32; 2],
    last_sr: Option<(u32, u32, Instant)>,
    round_trip: Option<Duration>,
}

impl RtcpSession {
    /// A session that begins at `now`; its first report is due after half the minimum interval, randomised.
    pub fn new(now: Instant, config: RtcpConfig) -> RtcpSession {
        let mut cname = config.cname;
        while cname.len() > 255 {
            cname.pop();
        }
        let mut session = RtcpSession {
            ssrc: config.ssrc,
            cname: cname.into_boxed_str(),
            random: config.seed,
            bytes_per_s: (f64::from(config.bandwidth_bps.max(8_000)) / 8.0) * 0.05,
            minimum_interval: config.minimum_interval.max(Duration::from_millis(100)),
            start: now,
            ntp_at_start: config.ntp_at_start,
            members: [Member::default(); MAX_MEMBERS],
            members_len: 0,
            members_before: 1,
            average_size_bytes: 100.0 + f64::from(LOWER_LAYERS_BYTES),
            last_sent: now,
            next: now,
            interval: Duration::ZERO,
            initial: true,
            packets_at_report: [0; 2],
            last_sr: None,
            round_trip: None,
        };
        session.interval = session.draw_interval(now, false);
        session.next = now + session.interval;
        session
    }

    /// When `tick` has something to do.
    pub fn next_wake(&self) -> Instant {
        self.next
    }

    /// Prints a report into `out` if one is due, and returns its size in bytes. A sender report where we have sent
    /// since the report before the last, a receiver report otherwise; with it the canonical name.
    pub fn tick(
        &mut self,
        now: Instant,
        sent: &SenderCounts,
        source: Option<&mut Source>,
        out: &mut [u8],
    ) -> Option<usize> {
        if now < self.next {
            return None;
        }
        self.forget_members(now);
        let we_sent = sent.packets != self.packets_at_report[0];
        // timer reconsideration: draw again with what is known now (section 6.3.6)
        self.interval = self.draw_interval(now, we_sent);
        self.members_before = self.members_len + 1;
        let due = self.last_sent + self.interval;
        if due > now {
            self.next = due;
            return None;
        }
        let size_bytes = self.print(now, sent, we_sent, source, None, out).ok();
        self.packets_at_report = [self.packets_at_report[1], sent.packets];
        self.last_sent = now;
        self.initial = false;
        self.count_size(size_bytes.unwrap_or(0));
        self.interval = self.draw_interval(now, we_sent);
        self.next = now + self.interval;
        size_bytes
    }

    /// Prints a last report with a goodbye behind it. With fewer than 50 members it need not wait (section 6.3.7).
    pub fn goodbye(
        &mut self,
        now: Instant,
        sent: &SenderCounts,
        source: Option<&mut Source>,
        reason: &str,
        out: &mut [u8],
    ) -> Result<usize, RtcpError> {
        let we_sent = sent.packets != 0;
        self.print(now, sent, we_sent, source, Some(reason), out)
    }

    /// Puts an extended report behind a compound packet of ours of `size_bytes` at the front of `out`; the size then. Where there is no
    /// room, it stays as it is.
    pub fn extend(&self, metrics: &VoipMetrics, size_bytes: usize, out: &mut [u8]) -> usize {
        let mut writer = Writer::new(out.get_mut(size_bytes..).unwrap_or_default());
        let _ = writer.voip_metrics(self.ssrc, metrics);
        size_bytes + writer.size_bytes()
    }

    /// Takes a datagram of the peer. `peer_ssrc` is the source of the stream that is being received: only its goodbye
    /// counts, any where it is not known.
    pub fn receive(&mut self, now: Instant, datagram: &[u8], peer_ssrc: Option<u32>) -> Result<Received, RtcpError> {
        let compound = Compound::parse(datagram)?;
        let mut received = Received::default();
        self.count_size(compound.size_bytes());
        for packet in compound.packets() {
            match packet {
                Packet::SenderReport { ssrc, info, reports } => {
                    self.meet(now, ssrc, true);
                    if peer_ssrc.is_none_or(|peer| peer == ssrc) {
                        self.last_sr = Some((ssrc, info.ntp.middle(), now));
                    }
                    self.take_reports(now, reports.iter(), &mut received);
                }
                Packet::ReceiverReport { ssrc, reports } => {
                    self.meet(now, ssrc, false);
                    self.take_reports(now, reports.iter(), &mut received);
                }
                Packet::Goodbye { sources, .. } => {
                    for ssrc in sources.iter() {
                        self.part(now, ssrc);
                        received.bye |= ssrc != self.ssrc && peer_ssrc.is_none_or(|peer| peer == ssrc);
                    }
                }
                Packet::Other { kind: XR, body, .. } => {
                    let metrics = VoipMetrics::find(body).filter(|metrics| metrics.ssrc == self.ssrc);
                    received.metrics = metrics.or(received.metrics);
                }
                Packet::SourceDescription(_) | Packet::Other { .. } => {}
            }
        }
        Ok(received)
    }

    /// The last round trip that the peer's reports gave.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Others that are counted as members now.
    pub fn members(&self) -> usize {
        self.members_len
    }

    fn print(
        &self,
        now: Instant,
        sent: &SenderCounts,
        we_sent: bool,
        source: Option<&mut Source>,
        bye: Option<&str>,
        out: &mut [u8],
    ) -> Result<usize, RtcpError> {
        let block = source.map(|source| self.fill_in_last_sr(now, source.report_block()));
        let reports = block.as_slice();
        let mut writer = Writer::new(out);
        if we_sent {
            let info =
                SenderInfo { ntp: self.ntp(now), timestamp: sent.timestamp, packets: sent.packets, bytes: sent.bytes };
            writer.sender_report(self.ssrc, &info, reports)?;
        } else {
            writer.receiver_report(self.ssrc, reports)?;
        }
        writer.cname(self.ssrc, &self.cname)?;
        if let Some(reason) = bye {
            writer.goodbye(self.ssrc, reason)?;
        }
        Ok(writer.size_bytes())
    }

    fn fill_in_last_sr(&self, now: Instant, block: ReportBlock) -> ReportBlock {
        match self.last_sr {
            Some((ssrc, middle, arrived)) if ssrc == block.ssrc => ReportBlock {
                last_sr: middle,
                delay_since_last_sr: to_65536ths(now.saturating_duration_since(arrived)),
                ..block
            },
            _ => block,
        }
    }

    fn take_reports(&mut self, now: Instant, reports: impl Iterator<Item = ReportBlock>, received: &mut Received) {
        for report in reports.filter(|report| report.ssrc == self.ssrc) {
            received.report = Some(report);
            if report.last_sr == 0 {
                continue;
            }
            let elapsed = self.ntp(now).middle().wrapping_sub(report.last_sr);
            // a negative or absurd result comes from a wrong report
            let Some(trip) = elapsed.checked_sub(report.delay_since_last_sr) else { continue };
            let trip = Duration::from_micros(u64::from(trip) * 1_000_000 / 65_536);
            if trip <= MAX_ROUND_TRIP {
                self.round_trip = Some(trip);
                received.round_trip = Some(trip);
            }
        }
    }

    fn ntp(&self, now: Instant) -> NtpTime {
        self.ntp_at_start.plus(now.saturating_duration_since(self.start))
    }

    fn meet(&mut self, now: Instant, ssrc: u32, sends: bool) {
        let now_ms = self.ms(now);
        let known = self.members[..self.members_len].iter().position(|member| member.ssrc == ssrc);
        let at = match known {
            Some(at) => at,
            None if ssrc != self.ssrc && self.members_len < MAX_MEMBERS => {
                self.members[self.members_len] = Member { ssrc, heard_ms: now_ms, sent_ms: None };
                self.members_len += 1;
                self.members_len - 1
            }
            None => return,
        };
        self.members[at].heard_ms = now_ms;
        if sends {
            self.members[at].sent_ms = Some(now_ms);
        }
    }

    /// A member leaves; the next report comes earlier accordingly (section 6.3.4).
    fn part(&mut self, now: Instant, ssrc: u32) {
        let Some(at) = self.members[..self.members_len].iter().position(|member| member.ssrc == ssrc) else { return };
        self.members_len -= 1;
        self.members.swap(at, self.members_len);
        let members = self.members_len + 1;
        if members < self.members_before {
            let ratio = members as f64 / self.members_before as f64;
            self.next = now + self.next.saturating_duration_since(now).mul_f64(ratio);
            self.last_sent =
                now.checked_sub(now.saturating_duration_since(self.last_sent).mul_f64(ratio)).unwrap_or(now);
            self.members_before = members;
        }
    }

    fn forget_members(&mut self, now: Instant) {
        let now_ms = self.ms(now);
        let limit_ms = u32::try_from(self.minimum_interval.max(self.interval).as_millis()).unwrap_or(u32::MAX);
        let mut at = 0;
        while at < self.members_len {
            if now_ms.saturating_sub(self.members[at].heard_ms) > limit_ms.saturating_mul(TIMEOUT_INTERVALS) {
                self.members_len -= 1;
                self.members.swap(at, self.members_len);
            } else {
                at += 1;
            }
        }
    }

    /// `rtcp_interval` of appendix A.7.
    fn draw_interval(&mut self, now: Instant, we_sent: bool) -> Duration {
        let now_ms = self.ms(now);
        let window_ms = u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX).saturating_mul(2).max(1_000);
        let others = &self.members[..self.members_len];
        let sending = |member: &&Member| member.sent_ms.is_some_and(|at| now_ms.saturating_sub(at) <= window_ms);
        let senders = others.iter().filter(sending).count() + usize::from(we_sent);
        let members = others.len() + 1;
        let (bytes_per_s, sharers) = if senders * 4 > members {
            (self.bytes_per_s, members)
        } else if we_sent {
            (self.bytes_per_s * 0.25, senders)
        } else {
            (self.bytes_per_s * 0.75, members - senders)
        };
        let least = if self.initial { self.minimum_interval / 2 } else { self.minimum_interval };
        let mean_s = (self.average_size_bytes * sharers as f64 / bytes_per_s).max(least.as_secs_f64());
        Duration::from_secs_f64((mean_s * (self.draw() + 0.5) / COMPENSATION).clamp(0.01, 3_600.0))
    }

    fn count_size(&mut self, size_bytes: usize) {
        let size = size_bytes as f64 + f64::from(LOWER_LAYERS_BYTES);
        self.average_size_bytes += (size - self.average_size_bytes) / 16.0;
    }

    /// Uniform in 0..1 (splitmix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn ms(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u32::MAX)
    }
}

fn to_65536ths(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

//! Gathers a call's record while the call runs.

mod conversation;
mod costs;
mod queues;
mod turns;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use control::ports::{LiveCall, Queued};
use control::time::Moment;
use media::tones::HeardTone;
use media::{LegStats, Side};

use self::turns::Turns;
use super::LegNo;
use super::cost::TrunkLeg;
use super::dial::BranchResult;
use super::driver::{Incoming, Outgoing};
use super::end::End;
use super::quality::{self, QualityLog};
use super::record::{
    AgentRecord, CallDirection, CallRecord, ConversationOutcome, LegRecord, MediaRecord, QueueOutcome, SoFar,
    SpokeRecord, ToneRecord, timestamp,
};
use super::route::Target;
use crate::config::{PricesConfig, TrunkDirection};
use crate::live;
use crate::web::WebLegs;

/// Turns kept of one call; later ones are counted in the metrics only.
pub const TURNS_LIMIT: usize = 2_000;

/// Legs kept of one call, besides the first; later ones are not told of.
pub const LEGS_LIMIT: usize = 64;

/// Tones kept of one call.
pub const TONES_LIMIT: usize = 64;

/// The names of the providers a conversation used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Providers {
    /// The recogniser.
    pub recognizer: String,
    /// The brain.
    pub brain: String,
    /// The voice.
    pub voice: String,
}

/// A record in the making.
#[derive(Debug)]
pub struct CallLog {
    record: CallRecord,
    answered: Option<SystemTime>,
    answered_by: Option<LegNo>,
    /// When it was settled that it ends; what follows is peers' confirmation.
    ended: Option<SystemTime>,
    /// The leg that the record's own fields speak of has gone to another call, or is over, without an answer.
    has_lost_main: bool,
    /// Of a call that we placed for a user of ours, once their phone has answered: its leg, and the first number of legs of whom they want.
    calls_from: Option<(LegNo, LegNo)>,
    /// Who speaks, since when.
    speaking: Vec<(LegNo, SystemTime)>,
    began: SystemTime,
    quality: Vec<QualityLog>,
    turns: Turns,
    /// Since when a tool of the agent's is under way: its turn, and its place there.
    tool: Option<(u32, usize, SystemTime)>,
    /// The number of the next turn, and of the present conversation's first.
    next_turn: u32,
    first_turn: u32,
    /// Its legs by trunks, those that are over as far as they were answered.
    by_trunks: Vec<TrunkLeg>,
    /// It had more of them than are charged.
    has_uncharged: bool,
    /// Since when the caller waits in the last of its queues.
    waits_since: Option<SystemTime>,
}

/// Who takes part in a call, and what its caller waits in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attending {
    /// Devices.
    pub devices: Vec<String>,
    /// Users at a page of theirs.
    pub people: Vec<String>,
    /// Two are connected in it.
    pub connected: bool,
    /// Who a carrier says is at its end now.
    pub party: Option<String>,
    /// The queue.
    pub queue: Option<Box<Queued>>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallStage {
    is_answered: bool,
    is_recorded: bool,
    legs: usize,
    failures: usize,
    /// Its conversations with agents, and of them those that are over.
    conversations: (usize, usize),
    /// Its waits in queues.
    queues: (usize, Option<QueueOutcome>),
    /// Its legs by trunks that were answered, and of them those that are here no more.
    by_trunks: (usize, usize),
}

impl CallLog {
    /// The log of a call that came in.
    #[must_use]
    pub fn inbound(id: &str, incoming: &Incoming, target: &Target, now: SystemTime) -> Self {
        let sip_call_id = incoming.request.call_id().to_owned();
        let mut log = Self::new(id, CallDirection::Inbound, sip_call_id, target.name(), now);
        log.record.identity.clone_from(&incoming.verdict);
        log.record.device.clone_from(&incoming.device);
        log.record.trunk.clone_from(&incoming.trunk);
        log.record.diverted.clone_from(&incoming.history.diverted);
        if let Some(trunk) = &incoming.trunk {
            log.goes_by_trunk(LegNo::FIRST, trunk, TrunkDirection::In, &incoming.request_uri);
        }
        log.with_parties(
            &incoming.from_uri,
            &incoming.request_uri,
            &incoming.source.remote.to_string(),
            if WebLegs::is_web(incoming.call) { "whip" } else { incoming.source.transport.uri_name() },
        )
    }

    /// The log of a call that we place.
    #[must_use]
    pub fn outbound(id: &str, outgoing: &Outgoing, now: SystemTime) -> Self {
        let mut log = Self::new(id, CallDirection::Outbound, String::new(), outgoing.target.name(), now);
        log.record.device.clone_from(&outgoing.device);
        log.with_parties(&outgoing.from, &outgoing.to, "", "")
    }

    fn new(id: &str, direction: CallDirection, sip_call_id: String, target: &str, now: SystemTime) -> Self {
        let record = CallRecord {
            call: id.to_owned(),
            sip_call_id,
            direction,
            started_at: timestamp(now),
            answered_at: None,
            ended_at: String::new(),
            duration_ms: 0,
            from: String::new(),
            to: String::new(),
            peer: String::new(),
            transport: String::new(),
            target: target.to_owned(),
            device: None,
            trunk: None,
            diverted: Vec::new(),
            identity: None,
            codec: String::new(),
            srtp: String::new(),
            end: End::new(super::end::EndReason::Internal),
            agent: None,
            conversations: Vec::new(),
            media: None,
            recording: None,
            legs: Vec::new(),
            quality: Vec::new(),
            tones: Vec::new(),
            cost: None,
            queues: Vec::new(),
            spoke: Vec::new(),
            reasons: String::new(),
        };
        Self {
            record,
            answered: None,
            answered_by: None,
            ended: None,
            has_lost_main: false,
            calls_from: None,
            speaking: Vec::new(),
            began: now,
            quality: Vec::new(),
            turns: Turns::default(),
            tool: None,
            next_turn: 0,
            first_turn: 0,
            by_trunks: Vec::new(),
            has_uncharged: false,
            waits_since: None,
        }
    }

    fn with_parties(mut self, from: &str, to: &str, peer: &str, transport: &str) -> Self {
        self.record.from = from.to_owned();
        self.record.to = to.to_owned();
        self.record.peer = peer.to_owned();
        self.record.transport = transport.to_owned();
        self
    }

    /// What is known of the call so far, its turns apart.
    #[must_use]
    pub fn so_far(&self) -> SoFar {
        let record = &self.record;
        let agent = record.agent.as_ref().map(|agent| AgentRecord {
            recognizer: agent.recognizer.clone(),
            brain: agent.brain.clone(),
            voice: agent.voice.clone(),
            turns: Vec::new(),
            failures: agent.failures.clone(),
        });
        SoFar { record: CallRecord { agent, ..record.clone() }, by_trunks: self.by_trunks.clone() }
    }

    /// What changes when more is known of the call that is to be kept: answered, recorded, its legs, its failures.
    #[must_use]
    pub fn stage(&self) -> CallStage {
        let record = &self.record;
        CallStage {
            is_answered: record.answered_at.is_some(),
            is_recorded: record.recording.is_some(),
            legs: record.legs.iter().filter(|leg| leg.answered_at.is_some()).count(),
            queues: (record.queues.len(), record.queues.last().map(|last| last.outcome)),
            failures: record.agent.as_ref().map_or(0, |agent| agent.failures.len()),
            conversations: (
                record.conversations.len(),
                record.conversations.iter().filter(|one| one.ended_at.is_some()).count(),
            ),
            by_trunks: (
                self.by_trunks.iter().filter(|leg| leg.answered.is_some()).count(),
                self.by_trunks.iter().filter(|leg| leg.left.is_some()).count(),
            ),
        }
    }

    /// The call's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.call
    }

    /// Whether it was answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// An agent or a program talks with the caller, where nobody did.
    pub fn goes_to(&mut self, target: &Target) {
        target.name().clone_into(&mut self.record.target);
    }

    /// Whether it came in.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.record.direction == CallDirection::Inbound
    }

    /// Who is called.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.record.to
    }

    /// Who calls.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.record.from
    }

    /// The call as those see it who are outside of it.
    #[must_use]
    pub fn live(&self, is_ending: bool, attending: Attending) -> LiveCall {
        let Attending { devices, people, connected, party, queue } = attending;
        let record = &self.record;
        LiveCall {
            call: record.call.clone(),
            direction: record.direction.as_str().to_owned(),
            state: live::state(record.answered_at.is_some(), is_ending),
            from: record.from.clone(),
            to: record.to.clone(),
            target: record.target.clone(),
            agent: self.agent().map(str::to_owned),
            started_at: Moment::parse(&record.started_at).unwrap_or_default(),
            answered_at: record.answered_at.as_deref().and_then(Moment::parse),
            devices,
            people,
            connected,
            party,
            queue,
        }
    }

    /// Somebody is being called.
    pub fn dialled(&mut self, no: LegNo, label: &str, uri: &str, now: SystemTime) {
        if let Some(trunk) = label.strip_prefix("trunk ") {
            self.goes_by_trunk(no, trunk, TrunkDirection::Out, uri);
        }
        if self.record.legs.len() < LEGS_LIMIT {
            let (label, uri) = (label.to_owned(), uri.to_owned());
            let started_at = Some(timestamp(now));
            self.record.legs.push(LegRecord { leg: no.0, label, uri, started_at, ..LegRecord::default() });
        }
    }

    /// Where a leg's INVITE goes.
    pub fn reached(&mut self, no: LegNo, peer: &str, transport: &str) {
        if let Some(leg) = self.leg(no) {
            peer.clone_into(&mut leg.peer);
            transport.clone_into(&mut leg.transport);
        }
        if self.record.peer.is_empty() {
            peer.clone_into(&mut self.record.peer);
            transport.clone_into(&mut self.record.transport);
        }
    }

    /// What is known of a leg that goes to another call.
    #[must_use]
    pub fn leg_record(&mut self, no: LegNo) -> LegRecord {
        let label = format!("call {}", self.record.call);
        let from = self.record.from.clone();
        let first = LegRecord {
            sip_call_id: self.record.sip_call_id.clone(),
            uri: from,
            peer: self.record.peer.clone(),
            transport: self.record.transport.clone(),
            codec: self.record.codec.clone(),
            srtp: self.record.srtp.clone(),
            answered_at: self.record.answered_at.clone(),
            ..LegRecord::default()
        };
        LegRecord { label, ..self.leg(no).cloned().unwrap_or(first) }
    }

    /// The SIP Call-ID of a leg.
    #[must_use]
    pub fn sip_call_id(&mut self, no: LegNo) -> String {
        self.leg(no).map(|leg| leg.sip_call_id.clone()).unwrap_or_else(|| self.record.sip_call_id.clone())
    }

    /// A leg has come from another call; this one goes on being charged for it, where it is by a trunk.
    pub fn adopted(&mut self, no: LegNo, record: LegRecord, by_trunk: Option<TrunkLeg>) {
        if let Some(leg) = by_trunk {
            self.goes_on_by_trunk(no, leg);
        }
        if self.record.legs.len() < LEGS_LIMIT {
            self.record.legs.push(LegRecord { leg: no.0, media: None, started_at: None, ended_at: None, ..record });
        }
    }

    /// A leg's INVITE is on its way.
    pub fn placed(&mut self, no: LegNo, sip_call_id: &str) {
        if let Some(leg) = self.leg(no) {
            sip_call_id.clone_into(&mut leg.sip_call_id);
        }
        if self.record.sip_call_id.is_empty() {
            sip_call_id.clone_into(&mut self.record.sip_call_id);
        }
    }

    /// A leg was answered.
    pub fn answered(&mut self, no: LegNo, now: SystemTime) {
        if let Some(leg) = self.leg(no) {
            leg.answered_at = Some(timestamp(now));
        }
        if let Some(leg) = self.by_trunk(no) {
            leg.answered = leg.answered.or(Some(now));
        }
        // Who takes the place of a caller that waits speaks with whoever answers.
        let counts = match self.calls_from {
            Some((_, others)) => no >= others,
            None => self.is_main(no) || self.has_lost_main,
        };
        if counts && self.answered.is_none() {
            self.answered = Some(now);
            self.answered_by = Some(self.calls_from.map_or(no, |(caller, _)| caller));
            self.record.answered_at = Some(timestamp(now));
            // Of those who were called before.
            self.record.reasons.clear();
        }
    }

    /// Whoever is on this leg calls: that their phone was answered is not yet that the call was. `others`: the first number of legs of whom they
    /// want.
    pub fn calls_from(&mut self, no: LegNo, others: LegNo) {
        self.calls_from = Some((no, others));
        (self.answered, self.answered_by, self.record.answered_at) = (None, None, None);
        // Of the user's phones, those that did not answer may have been set up too.
        if let Some(leg) = self.leg(no) {
            let (codec, srtp) = (leg.codec.clone(), leg.srtp.clone());
            (self.record.codec, self.record.srtp) = (codec, srtp);
        }
    }

    /// Whether this leg is the caller's.
    #[must_use]
    pub fn is_callers(&self, no: LegNo) -> bool {
        self.calls_from.map_or(no == LegNo::FIRST, |(caller, _)| caller == no)
    }

    /// Whether a user of ours placed it from a phone of their own, and called no other leg by it: they talk with an agent, or wait.
    #[must_use]
    pub fn is_users_alone(&self) -> bool {
        !self.is_inbound() && self.calls_from.is_none() && self.record.device.is_some()
    }

    /// Whether the leg that the call began with is its caller's: we were called, or called the caller first.
    #[must_use]
    pub fn begins_with_caller(&self) -> bool {
        self.is_inbound() || self.calls_from.is_some()
    }

    /// A leg is over here, or has gone to another call.
    pub fn left(&mut self, no: LegNo, now: SystemTime) {
        self.has_lost_main |= self.is_callers(no) && self.is_main(no);
        self.left_trunk(no, now);
        if let Some(leg) = self.leg(no) {
            leg.ended_at = leg.ended_at.take().or_else(|| Some(timestamp(now)));
        }
    }

    /// The codec in use on a leg, and what protects its sound.
    pub fn set_sound(&mut self, no: LegNo, codec: &str, protection: &str) {
        if let Some(leg) = self.leg(no) {
            codec.clone_into(&mut leg.codec);
            protection.clone_into(&mut leg.srtp);
        }
        if self.is_main(no) {
            codec.clone_into(&mut self.record.codec);
            protection.clone_into(&mut self.record.srtp);
        }
    }

    /// Where the recording is.
    pub fn set_recording(&mut self, path: PathBuf) {
        self.record.recording = Some(path);
    }

    /// On which side of it a leg is.
    pub fn set_side(&mut self, no: LegNo, side: Side) {
        if let Some(leg) = self.leg(no) {
            leg.recorded = Some(side.into());
        }
    }

    fn leg(&mut self, no: LegNo) -> Option<&mut LegRecord> {
        self.record.legs.iter_mut().find(|leg| leg.leg == no.0)
    }

    /// Whether the record's own fields speak of this leg: the caller's, or, of a call that we placed, whichever answered.
    fn is_main(&self, no: LegNo) -> bool {
        let is_any = self.record.direction == CallDirection::Outbound && self.calls_from.is_none();
        is_any || self.is_callers(no)
    }

    /// A leg's last figures.
    pub fn set_media(&mut self, no: LegNo, stats: &LegStats) {
        let media = MediaRecord {
            packets_in: stats.packets_in,
            packets_out: stats.packets_out,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            relayed: stats.relayed,
            lost: stats.lost,
            late: stats.late,
            duplicates: stats.duplicates,
            reordered: stats.reordered,
            foreign: stats.not_the_peer + stats.malformed,
            bad_tags: stats.bad_tags,
            jitter_ms: stats.jitter_us as f64 / 1_000.0,
            rtt_ms: (stats.round_trip_us > 0).then_some(stats.round_trip_us as f64 / 1_000.0),
            mos_in: (stats.mos_in > 0).then_some(stats.mos_in as f64 / 100.0),
            mos_out: (stats.mos_out > 0).then_some(stats.mos_out as f64 / 100.0),
            ring_drops: stats.ear_ring_drops + stats.record_ring_drops,
        };
        if let Some(leg) = self.leg(no) {
            leg.media = Some(media.clone());
        }
        if self.is_main(no) {
            self.record.media = Some(media);
        }
    }

    /// What became of somebody who was called.
    pub fn came_to(&mut self, no: LegNo, result: BranchResult) {
        if let Some(leg) = self.leg(no) {
            leg.result = result.told();
        }
    }

    /// Why a leg's peer ended it or refused, in its own words.
    pub fn gave_reasons(&mut self, no: LegNo, reasons: &str) {
        if let Some(leg) = self.leg(no) {
            reasons.clone_into(&mut leg.reasons);
        }
        if self.is_main(no) && self.answered_by.is_none_or(|leg| leg == no) {
            reasons.clone_into(&mut self.record.reasons);
        }
    }

    /// It is settled that the call ends: it lasts no longer than this, however long peers take to confirm it.
    pub fn ends(&mut self, now: SystemTime) {
        self.ended.get_or_insert(now);
    }

    /// A leg has been up for a while: how it sounded.
    pub fn measure(&mut self, no: LegNo, stats: &LegStats, now: SystemTime) {
        let known = self.quality.iter().position(|log| log.leg() == no.0);
        if known.is_none() && self.quality.len() < LEGS_LIMIT {
            let every = u64::try_from(quality::EVERY.as_millis()).unwrap_or(u64::MAX);
            let since = now.duration_since(self.began).map_or(0, |since| since.as_millis());
            let from_ms = u64::try_from(since).unwrap_or(u64::MAX).saturating_sub(every);
            self.quality.push(QualityLog::new(no.0, from_ms));
        }
        let at = known.unwrap_or(self.quality.len().saturating_sub(1));
        if let Some(log) = self.quality.get_mut(at).filter(|log| log.leg() == no.0) {
            log.measure(stats);
        }
    }

    /// A leg is over: what its sound was since it was measured last is in the record too.
    pub fn measured(&mut self, no: LegNo, stats: &LegStats) {
        let known = self.quality.iter().position(|log| log.leg() == no.0);
        let log = match known {
            Some(at) => self.quality.swap_remove(at),
            None => QualityLog::new(no.0, 0),
        };
        let is_there = self.record.quality.iter().any(|record| record.leg == no.0);
        if !is_there && self.record.quality.len() < LEGS_LIMIT {
            self.record.quality.extend(log.close(stats));
        }
    }

    /// A leg sent a tone.
    pub fn tone(&mut self, no: LegNo, heard: HeardTone, now: SystemTime) {
        if self.record.tones.len() < TONES_LIMIT {
            let (at, tone) = (timestamp(now), heard.tone.name().to_owned());
            self.record.tones.push(ToneRecord { leg: no.0, at, tone });
        }
    }

    /// Somebody in the conference speaks from here on, or does not.
    pub fn speaks(&mut self, no: LegNo, speaks: bool, now: SystemTime) {
        if speaks {
            // No more can speak than are in a room.
            self.speaking.push((no, now));
            return;
        }
        let Some(at) = self.speaking.iter().position(|(speaker, _)| *speaker == no) else { return };
        let (_, since) = self.speaking.swap_remove(at);
        let spoke_ms = now.duration_since(since).map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let known = self.record.spoke.iter_mut().find(|spoke| spoke.leg == no.0);
        if let Some(spoke) = known {
            spoke.spoke_ms = spoke.spoke_ms.saturating_add(spoke_ms);
            spoke.times += 1;
        } else if self.record.spoke.len() < LEGS_LIMIT {
            self.record.spoke.push(SpokeRecord { leg: no.0, spoke_ms, times: 1 });
        }
    }

    /// The record of the call, ended; it costs what these prices say.
    #[must_use]
    pub fn close(mut self, end: End, prices: &PricesConfig, now: SystemTime) -> CallRecord {
        let now = self.ended.unwrap_or(now);
        self.record.cost = self.cost(prices, now);
        self.settle_tool(Some("the call was over before"), now);
        self.conversation_over(ConversationOutcome::CallEnded, now);
        for no in self.speaking.iter().map(|(no, _)| *no).collect::<Vec<_>>() {
            self.speaks(no, false, now);
        }
        self.record.ended_at = timestamp(now);
        let talked = self.answered.and_then(|answered| now.duration_since(answered).ok()).unwrap_or_default();
        self.record.duration_ms = u64::try_from(talked.as_millis()).unwrap_or(u64::MAX);
        self.record.end = end;
        if self.turns.len() > 0 {
            self.record.agent.get_or_insert_default().turns = self.turns.into_records();
        }
        // Of a call with one leg, the record's own fields say all there is.
        if self.record.direction == CallDirection::Outbound && self.record.legs.len() == 1 {
            self.record.legs.clear();
        }
        if let Some(media) = &self.record.media {
            metrics::counter!("omnivox_media_packets_total", "direction" => "in").increment(media.packets_in);
            metrics::counter!("omnivox_media_packets_total", "direction" => "out").increment(media.packets_out);
            metrics::counter!("omnivox_media_lost_packets_total").increment(media.lost);
            metrics::counter!("omnivox_media_ring_drops_total", "ring" => "ear").increment(media.ring_drops);
        }
        self.record
    }
}

/// An id that sorts by time and is not used twice by one process: milliseconds since 1970 and a counter, in base 36.
#[must_use]
pub fn new_id(now: SystemTime) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}", base36(millis, 9), base36(count, 4))
}

fn base36(mut value: u64, width: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = Vec::new();
    while value > 0 || text.len() < width {
        text.push(DIGITS.get((value % 36) as usize).copied().unwrap_or(b'0') as char);
        value /= 36;
    }
    text.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_each_spoke_is_summed_up_to_the_end() {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        let mut log = CallLog::new("c", CallDirection::Inbound, String::new(), "room", at(0));
        for (no, speaks, ms) in [(1, true, 100), (0, true, 150), (1, false, 400), (1, false, 500), (1, true, 600)] {
            log.speaks(LegNo(no), speaks, at(ms));
        }
        let record =
            log.close(End::new(super::super::end::EndReason::CallerHungUp), &PricesConfig::default(), at(1_000));
        let spoke: Vec<_> = record.spoke.iter().map(|one| (one.leg, one.spoke_ms, one.times)).collect();
        assert_eq!(spoke, [(1, 700, 2), (0, 850, 1)]);
    }

    #[test]
    fn a_call_lasts_until_it_is_settled_that_it_ends_and_not_until_peers_confirm_that() {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        let mut log = CallLog::new("c", CallDirection::Inbound, String::new(), "dial", at(0));
        log.answered(LegNo::FIRST, at(1_000));
        log.ends(at(3_000));
        log.ends(at(4_000));
        let record =
            log.close(End::new(super::super::end::EndReason::CallerHungUp), &PricesConfig::default(), at(35_000));
        assert_eq!((record.duration_ms, record.ended_at), (2_000, timestamp(at(3_000))));
    }

    #[test]
    fn a_call_whose_caller_passed_it_on_before_the_answer_was_answered_once_somebody_did() {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        let mut log = CallLog::new("c", CallDirection::Inbound, String::new(), "dial", at(0));
        log.dialled(LegNo(1), "device carol/1", "sip:carol@here", at(10));
        log.answered(LegNo(1), at(500));
        assert!(!log.is_answered(), "the caller waits for our answer");
        let mut log = CallLog::new("c", CallDirection::Inbound, String::new(), "dial", at(0));
        log.dialled(LegNo(1), "device carol/1", "sip:carol@here", at(10));
        log.left(LegNo::FIRST, at(100));
        log.answered(LegNo(1), at(500));
        let record =
            log.close(End::new(super::super::end::EndReason::FarSideHungUp), &PricesConfig::default(), at(3_500));
        assert_eq!((record.duration_ms, record.answered_at), (3_000, Some(timestamp(at(500)))));
    }

    #[test]
    fn why_others_refused_is_nothing_of_whoever_answered() {
        let now = SystemTime::UNIX_EPOCH;
        let refused = || {
            let mut log = CallLog::new("c", CallDirection::Outbound, String::new(), "desk", now);
            log.dialled(LegNo(0), "trunk one", "sip:a@one", now);
            log.gave_reasons(LegNo(0), "Q.850;cause=34");
            log.dialled(LegNo(1), "trunk other", "sip:a@other", now);
            log
        };
        let end = || End::new(super::super::end::EndReason::FarSideHungUp);
        let mut answered = refused();
        answered.answered(LegNo(1), now);
        answered.gave_reasons(LegNo(0), "Q.850;cause=38");
        assert_eq!(answered.close(end(), &PricesConfig::default(), now).reasons, "");
        let record = refused().close(end(), &PricesConfig::default(), now);
        assert_eq!((record.reasons.as_str(), record.legs[0].reasons.as_str()), ("Q.850;cause=34", "Q.850;cause=34"));
    }

    #[test]
    fn ids_sort_by_time_and_differ() {
        let now = SystemTime::now();
        let first = new_id(now);
        let second = new_id(now + std::time::Duration::from_millis(1));
        assert!(first < second, "{first} {second}");
        assert_ne!(new_id(now), new_id(now));
    }
}

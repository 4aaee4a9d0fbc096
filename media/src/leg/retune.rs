//! What a re-INVITE changes: made on the async side, exchanged on the worker, dropped on the async side.

use std::time::{Duration, Instant};

use codecs::pcm::SampleRate;

use super::guard::GuardChange;
use super::inbound::Inbound;
use super::outbound::SendFormat;
use super::sending::DtmfOut;
use super::{Leg, dtmf_clock_hz, inband_of, latch_config};
use crate::config::{Direction, LegConfig, LegMode, LevelFormat};
use crate::dtmf::{DtmfReceiver, InbandReceiver};
use crate::error::MediaError;
use crate::jitter::JitterStats;
use crate::latch::LatchConfig;

/// What a re-INVITE changes, made on the async side; after [`Leg::retune`] it holds what was there before.
pub(crate) struct Retune {
    send: Option<SendFormat>,
    inbound: Option<Box<Inbound>>,
    latch: LatchConfig,
    dtmf_out: Option<DtmfOut>,
    dtmf_clock_hz: u32,
    inband: Option<Box<InbandReceiver>>,
    direction: Direction,
    rtcp_mux: bool,
    rtcp_xr: bool,
    levels: LevelFormat,
    guard: Option<GuardChange>,
    media_timeout: Option<Duration>,
}

impl Retune {
    /// What it takes to go from `old` to `new`, on a leg that counts at `seam`.
    /// `plays` says whether it is in a room.
    pub(crate) fn new(
        now: Instant,
        old: &LegConfig,
        new: &LegConfig,
        seam: SampleRate,
        plays: bool,
    ) -> Result<Self, MediaError> {
        let new = &LegConfig { mode: old.mode, seed: old.seed, ..new.clone() };
        let listened = old.mode == LegMode::Talk || old.record.is_some();
        let plays = plays || old.mode == LegMode::Echo;
        let recoded = old.codec != new.codec;
        let resumed = !old.direction.receives() && new.direction.receives();
        let received_otherwise = recoded
            || resumed
            || old.payload_type_recv != new.payload_type_recv
            || old.dtmf != new.dtmf
            || old.comfort_noise_payload_type != new.comfort_noise_payload_type;
        let sent_otherwise = recoded
            || old.payload_type_send != new.payload_type_send
            || old.comfort_noise_payload_type != new.comfort_noise_payload_type;
        let send = SendFormat::new(new, seam)?;
        let inbound =
            if received_otherwise { Some(Box::new(Inbound::new(now, new, listened, plays, seam)?)) } else { None };
        Ok(Retune {
            dtmf_out: DtmfOut::new(new, &send),
            send: sent_otherwise.then_some(send),
            inbound,
            latch: latch_config(new),
            dtmf_clock_hz: dtmf_clock_hz(new),
            inband: inband_of(new, seam),
            direction: new.direction,
            rtcp_mux: new.rtcp_mux,
            rtcp_xr: new.rtcp_xr,
            levels: new.levels,
            guard: GuardChange::between(&old.security, &new.security),
            media_timeout: new.media_timeout,
        })
    }

    /// Whether what is sent or taken is made otherwise from here on.
    pub(crate) fn is_of_format(&self) -> bool {
        self.send.is_some() || self.inbound.is_some()
    }
}

impl Leg {
    /// Takes what a re-INVITE settled, and leaves what was there before in its place.
    pub(crate) fn retune(&mut self, now: Instant, retune: &mut Retune) {
        if let Some(send) = &mut retune.send {
            self.outbound.exchange(send);
        }
        if let Some(inbound) = &mut retune.inbound {
            if inbound.clock_hz() != self.inbound.clock_hz() {
                self.lost_before += self.source.take().map_or(0, |source| source.report().lost);
            }
            add(&mut self.jitter_before, self.inbound.jitter().stats());
            std::mem::swap(&mut self.inbound, inbound);
            self.inbound_begun = false;
            self.dtmf_in = DtmfReceiver::new(retune.dtmf_clock_hz);
        }
        // A digit under way or waiting is sent to its end where the format stays.
        let same = |a: &DtmfOut, b: &DtmfOut| a.payload_type == b.payload_type && a.clock_hz == b.clock_hz;
        let keep = matches!((&self.dtmf_out, &retune.dtmf_out), (Some(old), Some(new)) if same(old, new));
        if !keep || retune.send.is_some() {
            std::mem::swap(&mut self.dtmf_out, &mut retune.dtmf_out);
        }
        if self.inband.is_some() != retune.inband.is_some() {
            std::mem::swap(&mut self.inband, &mut retune.inband);
        }
        self.latch.renegotiate(now, retune.latch);
        self.direction = retune.direction;
        self.rtcp_mux = retune.rtcp_mux;
        self.rtcp_xr = retune.rtcp_xr;
        self.levels = retune.levels;
        if let Some(change) = &mut retune.guard {
            self.guard.change(change);
        }
        self.media_timeout = retune.media_timeout;
        self.heard = now;
        self.timed_out = false;
    }
}

/// Adds to `sum` what is shown of a buffer's figures.
fn add(sum: &mut JitterStats, more: JitterStats) {
    sum.late += more.late;
    sum.duplicates += more.duplicates;
    sum.reordered += more.reordered;
    sum.overflowed += more.overflowed;
    sum.resyncs += more.resyncs;
}

//! Echo control: what of the sound that comes from the caller is the agent's own voice, come back.
//!
//! A loudspeaker phone, a bad hybrid or a room sends the agent's voice back, later and quieter; without this the agent
//! would take it for the caller's and fall silent. WebRTC's canceller (AEC3, the crate `sonora-aec3`) takes it out: it finds
//! the delay, up to half a second, follows the path, and holds down what is left. `docs/adr/0003-echo-control.md` has what was
//! measured, against a gate of our own.
//!
//! Two things are added to it:
//!
//! - It is *trusted to be needless* on a line that returns nothing. Before it knows the path it holds the caller down
//!   as well, in case it were an echo; where the agent was heard to speak and nothing came back for [`QUIET_FRAMES`], what is
//!   heard counts as it is. Echo that begins later takes that back.
//! - It rests while nothing was sent for [`REST_AFTER_FRAMES`]: there is nothing to come back.

use std::borrow::Cow;
use std::collections::VecDeque;

use codecs::pcm::{SampleRate, from_f32, level_dbov};
use sonora_aec3::block::Block;
use sonora_aec3::block_processor::BlockProcessor;
use sonora_aec3::config::EchoCanceller3Config;

use crate::line::HeardFrame;

/// What the canceller works at.
const RATE: SampleRate = SampleRate::HZ_16000;
/// Samples that it takes at once: 4 ms.
const BLOCK: usize = 64;
/// How much of what was sent comes back, at most, as long as the path is not known. 1, the library's own, holds callers
/// down for longer at the beginning, and keeps no more echo out.
const GAIN_AT_FIRST: f32 = 0.3;
/// Frames after the last sound sent until the canceller rests: more than the longest echo.
const REST_AFTER_FRAMES: u32 = 40;
/// A sample this far from zero is sound that was sent.
const SENT: u16 = 8;
/// So many frames of what was sent are remembered: the longest delay of an echo.
const SENT_FRAMES: usize = 30;
/// A frame sent above this is loud enough to be heard when it comes back.
const SENT_LOUD_DB: f32 = -35.0;
/// So many of the remembered frames have to be loud.
const SENT_LOUD_FRAMES: usize = 15;
/// Frames in a row of nothing coming back, until the line is known to return nothing.
const QUIET_FRAMES: u32 = 25;
/// Each time that turns out wrong, so many times as many frames are asked for.
const QUIET_FACTOR: u32 = 3;
/// No more than these: twenty minutes.
const QUIET_FRAMES_MOST: u32 = 60_000;
/// Above the noise floor by so much, a frame is sound.
const OVER_FLOOR_DB: f32 = 6.0;
/// The canceller takes so much away from what is an echo.
const ECHO_LESS_DB: f32 = 8.0;
/// So many such frames, and the line returns sound after all.
const ECHO_FRAMES: f32 = 6.0;
/// The floor rises by so much a frame, and falls by a share of the distance.
const FLOOR_RISE_DB: f32 = 0.06;
const FLOOR_FALL: f32 = 0.3;
const FLOOR_AT_FIRST_DB: f32 = -60.0;

/// What is left of a frame without the agent's own voice.
#[derive(Debug)]
pub struct Caller<'a> {
    /// The sound, as long as the frame.
    pub pcm: Cow<'a, [i16]>,
    /// Its level in dB relative to full scale, no lower than the line's noise.
    pub level_db: f32,
}

/// Listens to one line.
pub struct EchoControl {
    canceller: Option<Canceller>,
    /// Frames since something was sent.
    silent: u32,
    /// Levels of the last frames sent.
    sent_db: VecDeque<f32>,
    /// The line's noise.
    floor_db: f32,
    quiet: u32,
    quiet_needed: u32,
    returns_nothing: bool,
    echoed: f32,
}

impl Default for EchoControl {
    fn default() -> Self {
        Self {
            canceller: None,
            silent: REST_AFTER_FRAMES,
            sent_db: VecDeque::with_capacity(SENT_FRAMES),
            floor_db: FLOOR_AT_FIRST_DB,
            quiet: 0,
            quiet_needed: QUIET_FRAMES,
            returns_nothing: false,
            echoed: 0.0,
        }
    }
}

impl EchoControl {
    /// Takes a frame; what is left of it without the agent's own voice. A frame of a line that does not know what it sent, or
    /// of a rate other than 8 or 16 kHz, is left as it is.
    pub fn hear<'a>(&mut self, frame: &'a HeardFrame) -> Caller<'a> {
        let heard_db = level_dbov(&frame.pcm) as f32;
        let as_it_is = Caller { pcm: Cow::Borrowed(&frame.pcm), level_db: heard_db };
        if frame.sent.len() != frame.pcm.len() {
            return as_it_is;
        }
        let sounds = frame.sent.iter().any(|sample| sample.unsigned_abs() > SENT);
        self.follow_floor(heard_db);
        self.silent = if sounds { 0 } else { self.silent.saturating_add(1) };
        if self.silent > REST_AFTER_FRAMES {
            if let Some(canceller) = self.canceller.as_mut() {
                canceller.rest();
            }
            return as_it_is;
        }
        if self.canceller.as_ref().is_none_or(|canceller| canceller.rate != frame.rate) {
            self.canceller = Canceller::new(frame.rate);
        }
        let Some(canceller) = self.canceller.as_mut() else { return as_it_is };
        let pcm = canceller.take_out(&frame.pcm, &frame.sent);
        let left_db = level_dbov(&pcm) as f32;
        self.judge_line(level_dbov(&frame.sent) as f32, heard_db, left_db);
        if self.returns_nothing {
            return as_it_is;
        }
        Caller { pcm: Cow::Owned(pcm), level_db: left_db.max(self.floor_db).min(heard_db) }
    }

    fn follow_floor(&mut self, heard_db: f32) {
        if heard_db < self.floor_db {
            self.floor_db += (heard_db - self.floor_db) * FLOOR_FALL;
        } else {
            self.floor_db = (self.floor_db + FLOOR_RISE_DB).min(heard_db);
        }
    }

    /// Whether anything comes back on this line.
    fn judge_line(&mut self, sent_db: f32, heard_db: f32, left_db: f32) {
        if self.sent_db.len() == SENT_FRAMES {
            self.sent_db.pop_front();
        }
        self.sent_db.push_back(sent_db);
        let sound = heard_db > self.floor_db + OVER_FLOOR_DB;
        if !self.returns_nothing {
            let loud = self.sent_db.iter().filter(|db| **db > SENT_LOUD_DB).count() >= SENT_LOUD_FRAMES;
            self.quiet = match (sound, loud) {
                (true, _) => 0,
                (false, true) => self.quiet + 1,
                (false, false) => self.quiet,
            };
            self.returns_nothing = self.quiet >= self.quiet_needed;
            self.echoed = 0.0;
        } else if sound && heard_db - left_db > ECHO_LESS_DB {
            self.echoed += 1.0;
            if self.echoed >= ECHO_FRAMES {
                self.returns_nothing = false;
                self.quiet = 0;
                self.quiet_needed = (self.quiet_needed * QUIET_FACTOR).min(QUIET_FRAMES_MOST);
            }
        } else {
            self.echoed = (self.echoed - 0.2).max(0.0);
        }
    }
}

/// AEC3 for a line of 8 or 16 kHz.
struct Canceller {
    rate: SampleRate,
    /// Its samples for one of the line's.
    factor: usize,
    aec: BlockProcessor,
    sent: Side,
    heard: Side,
    render: Block,
    capture: Block,
    linear: Block,
    /// What came out and was not taken yet, at the line's rate.
    out: VecDeque<i16>,
}

/// One side on its way to the canceller's rate: what does not fill a block yet.
#[derive(Default)]
struct Side {
    last: f32,
    waiting: VecDeque<f32>,
}

impl Side {
    /// Straight lines between samples: both sides go through the same, and the canceller takes it for part of the path.
    fn push(&mut self, pcm: &[i16], factor: usize) {
        for sample in pcm {
            let sample = f32::from(*sample);
            if factor == 2 {
                self.waiting.push_back((self.last + sample) * 0.5);
                self.last = sample;
            }
            self.waiting.push_back(sample);
        }
    }

    fn fill(&mut self, block: &mut Block) {
        for place in block.view_mut(0, 0) {
            *place = self.waiting.pop_front().unwrap_or(0.0);
        }
    }
}

impl Canceller {
    fn new(rate: SampleRate) -> Option<Self> {
        let factor = [1, 2].into_iter().find(|factor| rate.hz() * *factor as u32 == RATE.hz())?;
        let mut config = EchoCanceller3Config::default();
        config.ep_strength.default_gain = GAIN_AT_FIRST;
        config.filter.export_linear_aec_output = true;
        let block = || Block::new(1, 1);
        Some(Self {
            rate,
            factor,
            aec: BlockProcessor::new(&config, RATE.hz() as usize, 1, 1),
            sent: Side::default(),
            heard: Side::default(),
            render: block(),
            capture: block(),
            linear: block(),
            out: VecDeque::new(),
        })
    }

    /// Forgets what fills no block; what it learnt of the path stays.
    fn rest(&mut self) {
        self.heard.waiting.clear();
        self.sent.waiting.clear();
        self.out.clear();
    }

    /// What is left of `heard`; as long. Frames of whole blocks (any of whole 4 ms) come out without delay.
    fn take_out(&mut self, heard: &[i16], sent: &[i16]) -> Vec<i16> {
        self.heard.push(heard, self.factor);
        self.sent.push(sent, self.factor);
        while self.heard.waiting.len() >= BLOCK {
            self.sent.fill(&mut self.render);
            self.heard.fill(&mut self.capture);
            self.aec.buffer_render(&self.render);
            self.aec.process_capture(false, false, Some(&mut self.linear), &mut self.capture);
            // The last of each group of samples is one of the line's own.
            let kept = self.capture.view(0, 0).iter().skip(self.factor - 1).step_by(self.factor);
            self.out.extend(kept.map(|sample| from_f32(*sample)));
        }
        // Once short of a block's rest, it stays behind by that much.
        let missing = heard.len().saturating_sub(self.out.len());
        let mut pcm = vec![0; missing];
        pcm.extend(self.out.drain(..heard.len() - missing));
        pcm
    }
}

//! A line inside the process: the caller acts by a script, both sides are kept, sample-aligned.

use std::collections::VecDeque;
use std::time::Duration;

use agent::line::{HeardFrame, Line, LineEvent, Request};
use codecs::g711::Law;
use codecs::pcm::{SampleRate, level_dbov};
use codecs::speech::SpeechGate;

/// A frame is so long.
pub const FRAME_MS: f64 = 20.0;
/// The line holds so much of what the agent says.
const RING_MS: u32 = 400;
/// The agent is heard above this level.
const AUDIBLE_DB: f64 = -50.0;

/// What the caller does, one after the other.
#[derive(Debug, Clone)]
pub enum Act {
    /// Once the agent has spoken and was silent for so long, this.
    After(f64, Deed),
    /// Once the agent has been speaking for so long, this.
    Over(f64, Deed),
    /// Once the agent has begun to speak since the last act, and been speaking for so long, this.
    OverAnew(f64, Deed),
    /// So long after the last act began, this.
    Then(f64, Deed),
}

/// What a caller can do.
#[derive(Debug, Clone)]
pub enum Deed {
    Say(Vec<i16>),
    Key(char),
    /// Somebody of the house asks something of the agent.
    Ask(Request),
    /// The caller puts the call on hold, or takes that back. Meanwhile nothing is taken from the ring.
    Hold(bool),
    HangUp,
}

/// How the line passes time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as frames are taken.
    AtOnce,
    /// So many times as fast as life.
    Times(f64),
}

/// Who says how probable speech is.
pub enum Gate {
    /// By level alone: for tones.
    Level,
    /// As in a call.
    Earshot(Box<SpeechGate>),
}

pub struct TestLine {
    rate: SampleRate,
    pace: Pace,
    gate: Gate,
    acts: VecDeque<Act>,
    saying: VecDeque<i16>,
    ring: VecDeque<i16>,
    played: u64,
    gain: f32,
    now_ms: f64,
    started: Option<tokio::time::Instant>,
    /// Since when the agent is audible or silent, and whether it has spoken since the last act.
    agent_since: f64,
    agent_audible: bool,
    agent_spoke: bool,
    last_audible: f64,
    last_act: f64,
    noise: u32,
    noise_level: i32,
    limit_ms: f64,
    closing: bool,
    probability: f32,
    /// What went over the wire, both sides, sample-aligned.
    pub caller_track: Vec<i16>,
    pub agent_track: Vec<i16>,
    /// When each act began.
    pub act_times: Vec<f64>,
    /// When interrupted or ducked to silence.
    pub interrupts: Vec<f64>,
    /// When what is said became nobody else's, or no longer.
    pub privacy: Vec<(f64, bool)>,
    /// Echo of the agent in the caller's audio: a share of it, so many milliseconds later.
    pub echo: f32,
    pub echo_ms: u32,
    /// Both ways go through G.711.
    pub g711: bool,
    /// Whether the session is told what was sent.
    pub tells_sent: bool,
    /// Where the line stands still for the agent: nothing is taken from the ring.
    pub stuck: bool,
    /// The caller has put the call on hold.
    pub held: bool,
}

impl TestLine {
    pub fn new(rate: SampleRate, pace: Pace, gate: Gate, acts: Vec<Act>) -> Self {
        Self {
            rate,
            pace,
            gate,
            acts: acts.into(),
            saying: VecDeque::new(),
            ring: VecDeque::new(),
            played: 0,
            gain: 1.0,
            now_ms: 0.0,
            started: None,
            agent_since: 0.0,
            agent_audible: false,
            agent_spoke: false,
            last_audible: f64::NEG_INFINITY,
            last_act: -1.0,
            noise: 1,
            noise_level: 12,
            limit_ms: 300_000.0,
            closing: false,
            probability: 0.0,
            caller_track: Vec::new(),
            agent_track: Vec::new(),
            act_times: Vec::new(),
            privacy: Vec::new(),
            interrupts: Vec::new(),
            echo: 0.0,
            echo_ms: 0,
            g711: false,
            tells_sent: true,
            stuck: false,
            held: false,
        }
    }

    pub fn with_limit_ms(mut self, limit_ms: f64) -> Self {
        self.limit_ms = limit_ms;
        self
    }

    fn act(&mut self) -> Option<LineEvent> {
        let due = match self.acts.front()? {
            Act::After(pause, _) => {
                self.agent_spoke
                    && !self.agent_audible
                    && self.saying.is_empty()
                    && self.now_ms - self.last_audible >= *pause
            }
            Act::Over(after, _) => self.agent_audible && self.now_ms - self.agent_since >= *after,
            Act::OverAnew(after, _) => {
                self.agent_since > self.last_act && self.agent_audible && self.now_ms - self.agent_since >= *after
            }
            Act::Then(after, _) => self.now_ms - self.last_act >= *after,
        };
        if !due {
            return None;
        }
        let Some(Act::After(_, deed) | Act::Over(_, deed) | Act::OverAnew(_, deed) | Act::Then(_, deed)) =
            self.acts.pop_front()
        else {
            return None;
        };
        self.last_act = self.now_ms;
        self.act_times.push(self.now_ms);
        self.agent_spoke = false;
        match deed {
            Deed::Say(pcm) => {
                self.saying.extend(pcm);
                None
            }
            Deed::Key(key) => Some(LineEvent::Digit(key)),
            Deed::Ask(request) => Some(LineEvent::Asked(request)),
            Deed::Hold(on) => {
                self.held = on;
                Some(LineEvent::Held)
            }
            Deed::HangUp => Some(LineEvent::Closed),
        }
    }

    fn play(&mut self) -> Vec<i16> {
        let samples = self.rate.samples_in_ms(20);
        let take = if self.stuck || self.held { 0 } else { samples.min(self.ring.len()) };
        let mut out: Vec<i16> = self.ring.drain(..take).map(|s| (f32::from(s) * self.gain) as i16).collect();
        self.played += take as u64;
        out.resize(samples, 0);
        let audible = level_dbov(&out) > AUDIBLE_DB;
        if audible {
            // What is left of a prompt under the caller's speech is no answer to it.
            self.agent_spoke = self.saying.is_empty();
            // Pauses between sentences do not count.
            if self.now_ms - self.last_audible > 500.0 {
                self.agent_since = self.now_ms;
            }
            self.last_audible = self.now_ms;
        }
        self.agent_audible = self.now_ms - self.last_audible < 500.0;
        self.agent_track.extend_from_slice(&out);
        out
    }

    fn frame(&mut self) -> HeardFrame {
        let played = self.play();
        let samples = self.rate.samples_in_ms(20);
        let mut pcm: Vec<i16> = Vec::with_capacity(samples);
        let behind = self.rate.samples_in_ms(self.echo_ms) + samples;
        let sent = if self.tells_sent { played } else { Vec::new() };
        for index in 0..samples {
            let played = (self.agent_track.len() + index).checked_sub(behind).map_or(0, |at| self.agent_track[at]);
            self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (self.noise >> 16) as i32 % (2 * self.noise_level + 1) - self.noise_level;
            let echo = f32::from(played) * self.echo;
            let said = i32::from(self.saying.pop_front().unwrap_or(0));
            let heard = (said + noise + echo as i32).clamp(-32768, 32767) as i16;
            pcm.push(if self.g711 { Law::Mu.expand(Law::Mu.compress(heard)) } else { heard });
        }
        let speech = match &mut self.gate {
            Gate::Level => {
                if level_dbov(&pcm) > -45.0 {
                    0.95
                } else {
                    0.02
                }
            }
            Gate::Earshot(gate) => {
                if let Some(probability) = gate.push(&pcm) {
                    self.probability = probability;
                }
                self.probability
            }
        };
        self.caller_track.extend_from_slice(&pcm);
        let at_ms = self.now_ms;
        self.now_ms += FRAME_MS;
        HeardFrame { pcm, sent, rate: self.rate, speech, concealed: false, at_ms }
    }
}

impl Line for TestLine {
    fn rate(&self) -> SampleRate {
        self.rate
    }

    async fn next(&mut self) -> LineEvent {
        match self.pace {
            Pace::AtOnce => tokio::task::yield_now().await,
            Pace::Times(times) => {
                let started = *self.started.get_or_insert_with(tokio::time::Instant::now);
                tokio::time::sleep_until(started + Duration::from_secs_f64((self.now_ms + FRAME_MS) / 1000.0 / times))
                    .await;
            }
        }
        if self.closing || self.now_ms > self.limit_ms {
            return LineEvent::Closed;
        }
        match self.act() {
            Some(LineEvent::Closed) => {
                self.closing = true;
                LineEvent::Closed
            }
            Some(event) => event,
            None => LineEvent::Audio(self.frame()),
        }
    }

    fn say(&mut self, pcm: &[i16]) -> usize {
        let room = self.rate.samples_in_ms(RING_MS).saturating_sub(self.ring.len());
        let taken = pcm.len().min(room);
        self.ring.extend(&pcm[..taken]);
        taken
    }

    fn queued_samples(&self) -> usize {
        self.ring.len()
    }

    fn played_samples(&self) -> u64 {
        self.played
    }

    fn interrupt(&mut self) {
        self.ring.clear();
        self.played = 0;
        self.interrupts.push(self.now_ms);
    }

    fn duck(&mut self, gain: f32) {
        self.gain = gain;
    }

    fn is_held(&self) -> bool {
        self.held
    }

    fn set_private(&mut self, is_private: bool) {
        self.privacy.push((self.now_ms, is_private));
    }
}

/// From where to where, in ms, the track is louder than `db`, with pauses up to `bridge_ms` bridged.
pub fn loud_spans(track: &[i16], rate: SampleRate, db: f64, bridge_ms: f64) -> Vec<(f64, f64)> {
    let step = rate.samples_in_ms(5);
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for (n, chunk) in track.chunks(step).enumerate() {
        if level_dbov(chunk) <= db {
            continue;
        }
        let (from, to) = (n as f64 * 5.0, (n + 1) as f64 * 5.0);
        match spans.last_mut() {
            Some(last) if from - last.1 <= bridge_ms => last.1 = to,
            _ => spans.push((from, to)),
        }
    }
    spans
}

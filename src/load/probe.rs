//! What one call of a load says and listens for: a short tone of its own each second, which has to come back, and no other.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::line::Line;
use clap::ValueEnum;
use tokio::sync::mpsc;

use crate::call::app::{ActiveCall, App};

/// The tones: each call has one, so that sound of one call in another shows.
const TONES_HZ: [f64; 8] = [500.0, 650.0, 800.0, 950.0, 1_100.0, 1_250.0, 1_400.0, 1_700.0];
/// How long and how often it sounds.
const BURST: Duration = Duration::from_millis(200);
const EVERY: Duration = Duration::from_secs(1);
/// How often a key is pressed.
const KEY_EVERY: Duration = Duration::from_secs(2);
/// How loud, of 32768.
const AMPLITUDE: f64 = 8_000.0;
/// A tone of at least this share of that is heard.
const HEARD_FROM: f64 = 0.3;
/// A burst that has not come back within this is lost.
const PATIENCE: Duration = Duration::from_millis(900);

/// What has to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Expect {
    /// Its own sound.
    Echo,
    /// Any sound.
    Sound,
    /// Nothing in particular.
    Nothing,
}

/// What one call heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// Bursts that were sent and could have come back.
    pub sent: u32,
    /// Bursts that came back.
    pub returned: u32,
    /// Frames with a tone of another call.
    pub foreign: u32,
    /// From a burst's beginning until it was back, in ms.
    pub round_trips_ms: Vec<f64>,
    /// What had to come did.
    pub is_good: bool,
}

/// One call of a load.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Which of all.
    pub number: usize,
    /// It is held for so long, then hung up.
    pub hold: Duration,
    /// What has to come back.
    pub expect: Expect,
    /// Pressed one after another, over and over.
    pub keys: Arc<[char]>,
}

impl Probe {
    /// The code of the call.
    #[must_use]
    pub fn app(self, told: mpsc::UnboundedSender<Heard>) -> App {
        App::new(move |call| listen(call, self.clone(), told.clone()))
    }
}

async fn listen(mut call: ActiveCall, probe: Probe, told: mpsc::UnboundedSender<Heard>) -> ActiveCall {
    let Probe { number, hold, expect, keys } = probe;
    let rate_hz = f64::from(call.rate().hz());
    let own = number % TONES_HZ.len();
    let burst = tone(TONES_HZ.get(own).copied().unwrap_or(1_000.0), rate_hz);
    let mut heard = Heard::default();
    let (begun, mut any_sound) = (Instant::now(), false);
    // Calls sound one after another within the second.
    let mut next = begun + Duration::from_millis(200 + (number as u64 * 37) % 700);
    let mut waiting: Option<Instant> = None;
    let press = call.line().presser();
    let mut keys = keys.iter().cycle();
    let mut next_key = next + EVERY;
    while begun.elapsed() < hold {
        let now = Instant::now();
        if now >= next_key {
            next_key += KEY_EVERY;
            if let Some(key) = keys.next() {
                press(*key);
            }
        }
        if waiting.is_some_and(|since| now.duration_since(since) > PATIENCE) {
            waiting = None;
        }
        if now >= next {
            next += EVERY;
            // The last one has to have time to come back.
            if begun.elapsed() + EVERY < hold {
                heard.sent += 1;
                waiting = Some(now);
                call.line().say(&burst);
            }
        }
        let until_next = next.saturating_duration_since(now).min(Duration::from_millis(200));
        let Ok(frame) = tokio::time::timeout(until_next, call.hear()).await else { continue };
        let Some(frame) = frame else { break };
        let levels: Vec<f64> = TONES_HZ.iter().map(|hz| level(&frame.pcm, *hz, rate_hz)).collect();
        any_sound |= frame.pcm.iter().any(|sample| sample.unsigned_abs() > 1_000);
        let loudest = levels.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        match loudest {
            Some((which, level)) if *level >= HEARD_FROM && which == own => {
                if let Some(since) = waiting.take() {
                    heard.returned += 1;
                    heard.round_trips_ms.push(since.elapsed().as_secs_f64() * 1_000.0);
                }
            }
            Some((_, level)) if *level >= HEARD_FROM => heard.foreign += 1,
            _ => {}
        }
    }
    heard.is_good = match expect {
        Expect::Echo => heard.sent > 0 && heard.returned == heard.sent && heard.foreign == 0,
        Expect::Sound => any_sound,
        Expect::Nothing => true,
    };
    // Nobody asks any more where the load was broken off.
    let _ = told.send(heard);
    call
}

fn tone(hz: f64, rate_hz: f64) -> Vec<i16> {
    let samples = (BURST.as_secs_f64() * rate_hz) as usize;
    (0..samples).map(|n| (AMPLITUDE * (TAU * hz * n as f64 / rate_hz).sin()) as i16).collect()
}

/// The amplitude of one frequency (Goertzel), as a share of what was sent.
fn level(pcm: &[i16], hz: f64, rate_hz: f64) -> f64 {
    let turn = 2.0 * (TAU * hz / rate_hz).cos();
    let (mut a, mut b) = (0.0, 0.0);
    for sample in pcm {
        (a, b) = (f64::from(*sample) + turn * a - b, a);
    }
    let power = a * a + b * b - turn * a * b;
    2.0 * power.max(0.0).sqrt() / pcm.len().max(1) as f64 / AMPLITUDE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tone_is_told_from_all_others_in_one_frame() {
        for rate_hz in [8_000.0, 16_000.0] {
            for hz in TONES_HZ {
                let frame = &tone(hz, rate_hz)[..(rate_hz / 50.0) as usize];
                for other in TONES_HZ {
                    let level = level(frame, other, rate_hz);
                    assert_eq!(level >= HEARD_FROM, other == hz, "{hz} {other} at {rate_hz}: {level}");
                }
            }
        }
    }
}

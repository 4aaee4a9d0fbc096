//! Performs a script on a line: speaks when it is the caller's turn, talks over the far side when told to, presses keys.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use agent::line::{Line, LineEvent};
use tokio::time::MissedTickBehavior;

/// The far side counts as silent below this level, in dBFS.
const SOUND_FLOOR_DBFS: f64 = -48.0;
/// The far side has fallen silent when nothing was heard for this long: longer than a pause between two sentences.
pub const SETTLED_AFTER: Duration = Duration::from_millis(900);
/// A far side that says nothing at all is spoken to after this long.
pub const NO_SOUND_AFTER: Duration = Duration::from_secs(8);
/// How often the performer looks at the line when nothing comes from it.
const TICK: Duration = Duration::from_millis(10);

/// A step with its sound made ready at the line's rate.
#[derive(Debug, Clone)]
pub enum Act {
    /// Speak at once.
    Now(Vec<i16>),
    /// Speak once the far side has spoken and fallen silent.
    Say(Vec<i16>),
    /// Speak this long after the far side began to.
    Interrupt(Duration, Vec<i16>),
    /// Press keys once the far side has spoken and fallen silent.
    Press(String),
    /// Press keys at once.
    PressNow(String),
    /// Do nothing for a while.
    Wait(Duration),
    /// Wait until the far side is silent, whether it spoke or not.
    Quiet,
    /// Hang up once the far side has spoken and fallen silent.
    HangUp,
}

/// How a performance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Performed {
    /// All acts are done; the line is still up.
    All,
    /// The script hung up.
    HungUp,
    /// The line closed.
    Closed,
}

/// Performs acts on a line.
#[derive(Debug)]
pub struct Performer {
    acts: VecDeque<Act>,
    far: FarSide,
    playing: VecDeque<i16>,
    is_speaking: bool,
    wait_until: Option<Instant>,
    keys: Vec<char>,
}

impl Performer {
    /// A performer of these acts.
    #[must_use]
    pub fn new(acts: Vec<Act>, now: Instant) -> Self {
        Self {
            acts: acts.into(),
            far: FarSide::new(now),
            playing: VecDeque::new(),
            is_speaking: false,
            wait_until: None,
            keys: Vec::new(),
        }
    }

    /// Performs all acts. `press` sends a key.
    pub async fn run<L: Line>(&mut self, line: &mut L, mut press: impl FnMut(char)) -> Performed {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = line.next() => match event {
                    LineEvent::Audio(frame) => self.far.hear(&frame.pcm, Instant::now()),
                    LineEvent::Digit(_) | LineEvent::Held | LineEvent::Asked(_) => {}
                    LineEvent::Closed => return Performed::Closed,
                },
                _ = ticks.tick() => {}
            }
            if self.keep_speaking(line) {
                continue;
            }
            for key in self.keys.drain(..) {
                press(key);
            }
            match self.next_act(Instant::now()) {
                Some(Performed::All) => return Performed::All,
                Some(end) => return end,
                None => {}
            }
        }
    }

    /// Waits until the far side has fallen silent; false where the line closed before.
    pub async fn settle<L: Line>(&mut self, line: &mut L) -> bool {
        self.acts.push_back(Act::Quiet);
        self.run(line, |_| {}).await != Performed::Closed
    }

    /// Feeds the line; true while something is being said.
    fn keep_speaking<L: Line>(&mut self, line: &mut L) -> bool {
        if !self.is_speaking {
            return false;
        }
        let (front, back) = self.playing.as_slices();
        let piece = if front.is_empty() { back } else { front };
        let taken = line.say(piece);
        self.playing.drain(..taken);
        if self.playing.is_empty() && line.queued_samples() == 0 {
            self.is_speaking = false;
            self.far.begin_wait(Instant::now());
        }
        self.is_speaking
    }

    /// Begins the next act if its time has come; an end when there is none left.
    fn next_act(&mut self, now: Instant) -> Option<Performed> {
        if self.wait_until.is_some_and(|until| now < until) {
            return None;
        }
        self.wait_until = None;
        let due = match self.acts.front() {
            None => return Some(Performed::All),
            Some(Act::Now(_) | Act::Wait(_) | Act::PressNow(_)) => true,
            Some(Act::Say(_) | Act::Press(_) | Act::HangUp) => self.far.has_settled(now),
            Some(Act::Quiet) => self.far.is_quiet(now),
            Some(Act::Interrupt(delay, _)) => self.far.has_spoken_for(*delay, now),
        };
        if !due {
            return None;
        }
        match self.acts.pop_front()? {
            Act::Now(pcm) | Act::Say(pcm) | Act::Interrupt(_, pcm) => {
                self.playing = pcm.into();
                self.is_speaking = true;
            }
            Act::Press(keys) | Act::PressNow(keys) => {
                self.keys.extend(keys.chars());
                self.far.begin_wait(now);
            }
            Act::Wait(time) => self.wait_until = Some(now + time),
            Act::Quiet => {}
            Act::HangUp => return Some(Performed::HungUp),
        }
        None
    }
}

/// What the far side has been doing since our own last act.
#[derive(Debug)]
struct FarSide {
    waiting_since: Instant,
    speaking_since: Option<Instant>,
    last_sound: Option<Instant>,
}

impl FarSide {
    fn new(now: Instant) -> Self {
        Self { waiting_since: now, speaking_since: None, last_sound: None }
    }

    fn begin_wait(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    fn hear(&mut self, pcm: &[i16], now: Instant) {
        if level_dbfs(pcm) > SOUND_FLOOR_DBFS {
            self.last_sound = Some(now);
            self.speaking_since.get_or_insert(now);
        }
    }

    fn has_settled(&self, now: Instant) -> bool {
        match self.last_sound {
            Some(last) => now.saturating_duration_since(last) >= SETTLED_AFTER,
            None => now.saturating_duration_since(self.waiting_since) >= NO_SOUND_AFTER,
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_sound.unwrap_or(self.waiting_since)) >= SETTLED_AFTER
    }

    fn has_spoken_for(&self, delay: Duration, now: Instant) -> bool {
        self.speaking_since.is_some_and(|since| now.saturating_duration_since(since) >= delay)
            || (self.last_sound.is_none() && self.has_settled(now))
    }
}

fn level_dbfs(pcm: &[i16]) -> f64 {
    if pcm.is_empty() {
        return f64::NEG_INFINITY;
    }
    let energy: f64 = pcm.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum();
    10.0 * (energy / pcm.len() as f64 / (32_768.0 * 32_768.0)).max(1e-12).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_caller_waits_for_the_far_side_to_speak_and_fall_silent() {
        let start = Instant::now();
        let mut far = FarSide::new(start);
        let loud = [8_000_i16; 160];
        assert!(!far.has_settled(start + SETTLED_AFTER * 2), "nothing was said yet");
        far.hear(&loud, start + 3_000 * MS);
        far.hear(&[0; 160], start + 3_020 * MS);
        assert!(!far.has_settled(start + 3_500 * MS));
        assert!(far.has_settled(start + 3_000 * MS + SETTLED_AFTER));
    }

    #[test]
    fn a_far_side_that_never_speaks_is_spoken_to_anyhow() {
        let start = Instant::now();
        let mut far = FarSide::new(start);
        far.hear(&[3; 160], start + 100 * MS);
        assert!(far.has_settled(start + NO_SOUND_AFTER));
    }

    #[test]
    fn an_interruption_counts_from_the_far_sides_first_sound() {
        let start = Instant::now();
        let mut far = FarSide::new(start);
        assert!(!far.has_spoken_for(500 * MS, start + 1_000 * MS));
        far.hear(&[8_000; 160], start + 1_000 * MS);
        assert!(!far.has_spoken_for(500 * MS, start + 1_400 * MS));
        assert!(far.has_spoken_for(500 * MS, start + 1_500 * MS));
        far.begin_wait(start + 1_600 * MS);
        assert!(!far.has_spoken_for(500 * MS, start + 2_000 * MS), "each act waits for the far side anew");
    }
}

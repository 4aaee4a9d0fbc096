//! Who has the floor: the turn machine.
//!
//! Without I/O and in virtual time: frames, hypotheses, keys and what the agent is doing go in with
//! [`TurnMachine::receive`]; decisions come out of [`TurnMachine::poll`]; time passes with [`TurnMachine::tick`]. All
//! times are on the line's clock, since the line opened.
//!
//! # Invariants
//! - A pause shorter than 400 ms ends a turn only after an expected phrase that can only end there.
//! - Each [`TurnOutput::CallerBegan`] is followed by exactly one [`TurnOutput::TurnEnded`], [`TurnOutput::AskVerdict`]
//!   or [`TurnOutput::CallerDropped`] before the next.
//! - Each [`TurnOutput::Duck`] is followed by exactly one [`TurnOutput::Resume`] or [`TurnOutput::Interrupt`].
//! - The machine waits for nothing without a limit in its [`TurnConfig`].

pub mod barge_in;
pub mod end_of_turn;
pub mod speech;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::brain::{KeyAnswer, Listen};
use barge_in::{BargeIn, Judgement};
pub use end_of_turn::Progress;
pub use speech::FrameView;
use speech::{SpeechDetector, Stretch};

/// At most so many keys are collected for one answer.
pub const MAX_KEYS: usize = 32;

/// The timings of a conversation: the `[turn]` table of an agent's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// The gate's probability from which a frame is speech in a quiet line.
    pub speech_threshold: f32,
    /// So much speech in a row is *likely* speech: the agent is ducked.
    pub likely_ms: u32,
    /// Speech over the agent is an interruption after so much, whatever it is.
    pub confirm_ms: u32,
    /// Speech over the agent is an interruption after so much if words are recognised.
    pub confirm_words_ms: u32,
    /// So many words, signs of listening left out.
    pub confirm_words: u32,
    /// Short speech over the agent has stopped when it was silent for so long.
    pub stopped_ms: u32,
    /// How long a ducked agent waits for the recogniser's verdict before it goes on.
    pub verdict_ms: u32,
    /// How far the agent's voice is lowered, 0 is silence.
    pub duck_gain: f32,
    /// Whether the caller may cut the agent off by speaking at all (keys always do).
    pub barge_in: bool,
    /// Words that are merely a sign of listening.
    pub backchannels: Vec<String>,
    /// After so much silence the answer is prepared ahead of time.
    pub pause_ms: u32,
    /// Silence that ends a turn after an expected phrase that can only end here.
    pub end_complete_ms: u32,
    /// Silence that ends a turn after an expected phrase that may go on without changing its meaning.
    pub end_settled_ms: u32,
    /// Silence that ends a turn after an expected phrase that may go on.
    pub end_open_ms: u32,
    /// Silence that ends a turn in free speech.
    pub end_unknown_ms: u32,
    /// Silence that ends a turn in the middle of an expected phrase.
    pub end_partial_ms: u32,
    /// Silence that ends a turn while numbers and the like are dictated.
    pub end_dictated_ms: u32,
    /// Less speech than this, without a word in it, is a click and no turn.
    pub least_speech_ms: u32,
    /// A turn is taken as over after so much speech.
    pub max_speech_ms: u32,
    /// The caller is asked again after so much silence.
    pub no_input_ms: u32,
    /// Keys are taken as complete when no further one comes for so long.
    pub key_gap_ms: u32,
    /// The conversation ends after so long.
    pub max_call_ms: u32,
}

impl Default for TurnConfig {
    fn default() -> Self {
        let backchannels =
            ["mm", "mhm", "mm-hmm", "uh-huh", "uh", "um", "hm", "ah", "oh", "okay", "ok", "right", "yeah", "sure"];
        Self {
            speech_threshold: 0.5,
            likely_ms: 40,
            confirm_ms: 600,
            confirm_words_ms: 300,
            confirm_words: 1,
            stopped_ms: 240,
            verdict_ms: 500,
            duck_gain: 0.0,
            barge_in: true,
            backchannels: backchannels.map(str::to_owned).to_vec(),
            pause_ms: 140,
            end_complete_ms: 320,
            end_settled_ms: 400,
            end_open_ms: 480,
            end_unknown_ms: 640,
            end_partial_ms: 800,
            end_dictated_ms: 1_200,
            least_speech_ms: 80,
            max_speech_ms: 20_000,
            no_input_ms: 6_000,
            key_gap_ms: 2_500,
            max_call_ms: 30 * 60 * 1_000,
        }
    }
}

impl TurnConfig {
    /// Says which setting makes no sense, and what would.
    ///
    /// # Errors
    /// A sentence that begins with the setting's name.
    pub fn check(&self) -> Result<(), String> {
        let ordered = [
            ("likely_ms", self.likely_ms, "confirm_words_ms", self.confirm_words_ms),
            ("confirm_words_ms", self.confirm_words_ms, "confirm_ms", self.confirm_ms),
            ("pause_ms", self.pause_ms, "end_complete_ms", self.end_complete_ms),
            ("end_complete_ms", self.end_complete_ms, "end_settled_ms", self.end_settled_ms),
            ("end_settled_ms", self.end_settled_ms, "end_open_ms", self.end_open_ms),
            ("end_open_ms", self.end_open_ms, "end_dictated_ms", self.end_dictated_ms),
        ];
        for (low, low_ms, high, high_ms) in ordered {
            if low_ms > high_ms {
                return Err(format!(
                    "{low} = {low_ms} is more than {high} = {high_ms}: lower the first or raise the second"
                ));
            }
        }
        if !(0.05..=0.95).contains(&self.speech_threshold) {
            return Err(format!("speech_threshold = {} is not between 0.05 and 0.95", self.speech_threshold));
        }
        if !(0.0..=1.0).contains(&self.duck_gain) {
            return Err(format!("duck_gain = {} is not between 0 and 1", self.duck_gain));
        }
        for (name, ms) in
            [("no_input_ms", self.no_input_ms), ("max_speech_ms", self.max_speech_ms), ("key_gap_ms", self.key_gap_ms)]
        {
            if ms < 500 {
                return Err(format!("{name} = {ms} is less than 500, too short for people"));
            }
        }
        Ok(())
    }

    /// How many words of `text` are more than a sign of listening.
    #[must_use]
    pub fn words_that_count(&self, text: &str) -> usize {
        text.split_whitespace().filter(|word| !self.backchannels.iter().any(|b| b.eq_ignore_ascii_case(word))).count()
    }
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnInput {
    /// Audio came.
    Frame(FrameView),
    /// The recogniser's hypothesis on the present utterance.
    Hypothesis {
        /// How far it has come.
        progress: Progress,
        /// Its words, signs of listening left out.
        words: usize,
        /// Its words.
        all_words: usize,
    },
    /// The recogniser's last word on what [`TurnOutput::AskVerdict`] asked for: true if it is an answer.
    Verdict(bool),
    /// The agent begins to be heard, with speech that may be cut short or not.
    AgentSpeaks {
        /// Whether speech cuts it short.
        interruptible: bool,
    },
    /// The last of what the agent had to say was played.
    AgentSilent,
    /// The agent thinks of an answer; nothing is awaited from the caller.
    AgentThinks,
    /// The caller's answer is awaited in this way.
    Listen(Listen),
    /// A key.
    Key(char),
    /// The caller holds the call: neither hears nor means to be heard. What they were saying ends; nothing else is decided until
    /// [`TurnInput::Back`].
    Away,
    /// The caller is here again.
    Back,
}

/// What the machine decides.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnOutput {
    /// The caller seems to speak: open the ear, with audio from before `onset`.
    CallerBegan {
        /// Where the first sound began.
        onset: Duration,
    },
    /// It was no speech.
    CallerDropped,
    /// Lower the agent's voice, at once.
    Duck {
        /// The caller's onset.
        onset: Duration,
    },
    /// Go on where the agent's voice was lowered.
    Resume,
    /// Cut the agent off.
    Interrupt {
        /// The caller's onset, or when the key came.
        onset: Duration,
        /// A key did it.
        by_key: bool,
    },
    /// Finish the recogniser on what was said over the agent, and tell whether it is an answer.
    AskVerdict,
    /// A first likely pause: prepare the answer ahead of time.
    PauseLikely,
    /// The caller goes on: forget what was prepared.
    PauseOver,
    /// The caller is done.
    TurnEnded {
        /// Where the first sound began.
        onset: Duration,
        /// Where the last sound ended.
        last_sound: Duration,
    },
    /// The caller answered by keys.
    Keys(String),
    /// The caller is silent.
    NoInput,
    /// The conversation has lasted too long.
    CallOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agent {
    Silent,
    Thinking,
    Speaking {
        interruptible: bool,
    },
    /// Ducked; the recogniser may have been asked since a moment.
    Ducked {
        asked: Option<Duration>,
    },
}

/// Decides who has the floor on one line.
#[derive(Debug)]
pub struct TurnMachine {
    config: TurnConfig,
    detector: SpeechDetector,
    barge_in: BargeIn,
    agent: Agent,
    listen: Listen,
    /// The caller's utterance was announced and not yet ended.
    caller_open: bool,
    paused: bool,
    progress: Progress,
    words: usize,
    all_words: usize,
    keys: String,
    last_key: Duration,
    /// Since when nobody speaks, while an answer is awaited.
    quiet_since: Option<Duration>,
    /// The caller holds the call.
    away: bool,
    over: bool,
    outputs: VecDeque<TurnOutput>,
}

impl TurnMachine {
    /// A machine for a line that has just opened.
    #[must_use]
    pub fn new(config: TurnConfig) -> Self {
        let detector = SpeechDetector::new(config.speech_threshold, ms(config.likely_ms));
        Self {
            config,
            detector,
            barge_in: BargeIn::default(),
            agent: Agent::Thinking,
            listen: Listen::default(),
            caller_open: false,
            paused: false,
            progress: Progress::Nothing,
            words: 0,
            all_words: 0,
            keys: String::new(),
            last_key: Duration::ZERO,
            quiet_since: None,
            away: false,
            over: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened at `now`.
    pub fn receive(&mut self, now: Duration, input: TurnInput) {
        match input {
            TurnInput::Frame(_) if self.away => {}
            TurnInput::Frame(frame) => self.frame(now, frame),
            TurnInput::Hypothesis { progress, words, all_words } => {
                (self.progress, self.words, self.all_words) = (progress, words, all_words);
            }
            TurnInput::Verdict(answer) => self.verdict(now, answer),
            TurnInput::AgentSpeaks { interruptible } => self.agent_speaks(interruptible),
            TurnInput::AgentSilent => self.agent_silent(now),
            TurnInput::AgentThinks => {
                self.agent = Agent::Thinking;
                self.quiet_since = None;
            }
            TurnInput::Listen(listen) => {
                self.listen = listen;
                self.keys.clear();
            }
            TurnInput::Key(key) => self.key(now, key),
            TurnInput::Away => self.leave(now),
            TurnInput::Back => self.come_back(now),
        }
        self.tick(now);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) {
        if !self.over && now >= ms(self.config.max_call_ms) {
            self.over = true;
            self.outputs.push_back(TurnOutput::CallOver);
        }
        if self.away {
            return;
        }
        self.judge_barge_in(now);
        self.judge_end(now);
        self.judge_keys(now);
        self.judge_silence(now);
    }

    /// The next decision.
    pub fn poll(&mut self) -> Option<TurnOutput> {
        self.outputs.pop_front()
    }

    /// The line's noise floor in dB relative to full scale.
    #[must_use]
    pub fn floor_db(&self) -> f32 {
        self.detector.floor_db()
    }

    /// Whether the caller is speaking (or in a pause of speaking).
    #[must_use]
    pub fn caller_speaks(&self) -> bool {
        self.caller_open
    }

    /// Whether the caller's last frame was speech.
    #[must_use]
    pub fn hears_speech(&self) -> bool {
        self.detector.active()
    }

    fn frame(&mut self, now: Duration, frame: FrameView) {
        let deaf = matches!(self.agent, Agent::Speaking { interruptible: false })
            || (!self.config.barge_in && matches!(self.agent, Agent::Speaking { .. }));
        let least_db = match self.agent {
            Agent::Speaking { .. } if deaf => f32::INFINITY,
            Agent::Speaking { .. } => self.barge_in.least_db(now),
            _ => f32::NEG_INFINITY,
        };
        let speech = self.detector.receive(frame, least_db);
        if speech && self.paused {
            self.paused = false;
            self.outputs.push_back(TurnOutput::PauseOver);
        }
        let Some(stretch) = self.detector.stretch() else { return };
        if self.caller_open || matches!(self.agent, Agent::Ducked { .. }) {
            return;
        }
        self.caller_open = true;
        self.quiet_since = None;
        (self.progress, self.words, self.all_words) = (Progress::Nothing, 0, 0);
        self.outputs.push_back(TurnOutput::CallerBegan { onset: stretch.onset });
        if matches!(self.agent, Agent::Speaking { .. }) {
            self.agent = Agent::Ducked { asked: None };
            self.outputs.push_back(TurnOutput::Duck { onset: stretch.onset });
        }
    }

    /// Whoever has said something is done with it by leaving, which no silence can tell any more. What is no speech for sure is dropped.
    fn leave(&mut self, now: Duration) {
        if std::mem::replace(&mut self.away, true) {
            return;
        }
        let was_open = self.caller_open;
        let said = self.detector.stretch().filter(|stretch| was_open && self.is_surely_speech(stretch));
        match self.agent {
            Agent::Ducked { .. } => self.resume(now, -60.0),
            _ => match said {
                Some(stretch) => return self.end_turn(&stretch),
                None => self.close_caller(),
            },
        }
        if was_open {
            self.outputs.push_back(TurnOutput::CallerDropped);
        }
    }

    /// Silence and keys count from now on.
    fn come_back(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.away, false) {
            return;
        }
        self.last_key = now;
        self.quiet_since = (self.agent == Agent::Silent).then_some(now);
    }

    fn agent_speaks(&mut self, interruptible: bool) {
        self.quiet_since = None;
        if matches!(self.agent, Agent::Ducked { .. }) {
            return;
        }
        self.agent = Agent::Speaking { interruptible };
        // The caller already speaks into the agent's first word.
        if let (true, true, Some(stretch)) =
            (self.caller_open, interruptible && self.config.barge_in, self.detector.stretch())
        {
            self.agent = Agent::Ducked { asked: None };
            self.outputs.push_back(TurnOutput::Duck { onset: stretch.onset });
        }
    }

    fn agent_silent(&mut self, now: Duration) {
        if matches!(self.agent, Agent::Ducked { .. }) {
            // The duck outlasted what there was to say: nothing to go on with.
            self.outputs.push_back(TurnOutput::Interrupt { onset: self.onset(now), by_key: false });
        }
        self.agent = Agent::Silent;
        if !self.caller_open {
            self.quiet_since = Some(now);
        }
    }

    fn onset(&self, now: Duration) -> Duration {
        self.detector.stretch().map_or(now, |stretch| stretch.onset)
    }

    fn judge_barge_in(&mut self, now: Duration) {
        let Agent::Ducked { asked } = self.agent else { return };
        let Some(stretch) = self.detector.stretch() else { return self.resume(now, -60.0) };
        let judgement = BargeIn::judge(&self.config, &stretch, self.detector.silence(now), self.words);
        if let Some(since) = asked {
            if stretch.last_sound > since && judgement == Judgement::Confirmed {
                // Not done after all: what was said before the question belongs to it.
                self.agent = Agent::Silent;
                self.caller_open = true;
                self.outputs.push_back(TurnOutput::Interrupt { onset: stretch.onset, by_key: false });
                self.outputs.push_back(TurnOutput::CallerBegan { onset: stretch.onset });
                return;
            }
            if now.saturating_sub(since) >= ms(self.config.verdict_ms) {
                self.resume(now, stretch.peak_db);
            }
            return;
        }
        match judgement {
            Judgement::Open => {}
            Judgement::Confirmed => {
                self.agent = Agent::Silent;
                self.outputs.push_back(TurnOutput::Interrupt { onset: stretch.onset, by_key: false });
            }
            Judgement::Stopped if !self.is_surely_speech(&stretch) => {
                self.caller_open = false;
                self.outputs.push_back(TurnOutput::CallerDropped);
                self.resume(now, stretch.peak_db);
            }
            Judgement::Stopped => {
                self.agent = Agent::Ducked { asked: Some(now) };
                self.caller_open = false;
                self.outputs.push_back(TurnOutput::AskVerdict);
            }
        }
    }

    fn verdict(&mut self, now: Duration, answer: bool) {
        let Agent::Ducked { asked: Some(_) } = self.agent else { return };
        let stretch = self.detector.stretch();
        if !answer {
            return self.resume(now, stretch.map_or(-60.0, |stretch| stretch.peak_db));
        }
        self.agent = Agent::Thinking;
        let onset = stretch.map_or(now, |stretch| stretch.onset);
        let last_sound = stretch.map_or(now, |stretch| stretch.last_sound);
        self.detector.forget();
        self.outputs.push_back(TurnOutput::Interrupt { onset, by_key: false });
        self.outputs.push_back(TurnOutput::TurnEnded { onset, last_sound });
    }

    fn resume(&mut self, now: Duration, peak_db: f32) {
        self.barge_in.was_nothing(now, peak_db);
        self.agent = Agent::Speaking { interruptible: true };
        self.close_caller();
        self.outputs.push_back(TurnOutput::Resume);
    }

    fn close_caller(&mut self) {
        self.caller_open = false;
        self.paused = false;
        self.detector.forget();
    }

    fn judge_end(&mut self, now: Duration) {
        let (true, Some(stretch)) = (self.caller_open, self.detector.stretch()) else { return };
        if matches!(self.agent, Agent::Ducked { .. }) {
            return;
        }
        let silence = self.detector.silence(now);
        if now.saturating_sub(stretch.onset) >= ms(self.config.max_speech_ms) {
            return self.end_turn(&stretch);
        }
        if silence.is_zero() {
            return;
        }
        if !self.is_surely_speech(&stretch) {
            if silence >= ms(self.config.stopped_ms) {
                self.close_caller();
                self.outputs.push_back(TurnOutput::CallerDropped);
                self.quiet_since = (self.agent == Agent::Silent).then_some(now);
            }
            return;
        }
        if !self.paused && silence >= ms(self.config.pause_ms) {
            self.paused = true;
            self.outputs.push_back(TurnOutput::PauseLikely);
        }
        if silence >= end_of_turn::silence_needed(&self.config, self.progress, self.listen.dictated) {
            self.end_turn(&stretch);
        }
    }

    /// A word was made of it, or it is too long for a click.
    fn is_surely_speech(&self, stretch: &Stretch) -> bool {
        self.all_words > 0 || stretch.voiced >= ms(self.config.least_speech_ms)
    }

    fn end_turn(&mut self, stretch: &Stretch) {
        self.close_caller();
        self.agent = Agent::Thinking;
        self.quiet_since = None;
        self.outputs.push_back(TurnOutput::TurnEnded { onset: stretch.onset, last_sound: stretch.last_sound });
    }

    fn key(&mut self, now: Duration, key: char) {
        if self.caller_open {
            self.close_caller();
            self.outputs.push_back(TurnOutput::CallerDropped);
        }
        if matches!(self.agent, Agent::Speaking { .. } | Agent::Ducked { .. }) {
            self.agent = Agent::Silent;
            self.outputs.push_back(TurnOutput::Interrupt { onset: now, by_key: true });
        }
        self.quiet_since = None;
        self.last_key = now;
        match self.listen.keys {
            KeyAnswer::Single => {
                self.keys.clear();
                self.answer_by_keys(key.to_string());
            }
            KeyAnswer::Collect { max } => {
                let max = max.clamp(1, MAX_KEYS);
                if key != '#' {
                    self.keys.push(key);
                }
                if key == '#' || self.keys.len() >= max {
                    let keys = std::mem::take(&mut self.keys);
                    // A lone # is an answer too.
                    self.answer_by_keys(if keys.is_empty() { key.to_string() } else { keys });
                }
            }
        }
    }

    fn answer_by_keys(&mut self, keys: String) {
        self.agent = Agent::Thinking;
        self.outputs.push_back(TurnOutput::Keys(keys));
    }

    fn judge_keys(&mut self, now: Duration) {
        if !self.keys.is_empty() && now.saturating_sub(self.last_key) >= ms(self.config.key_gap_ms) {
            let keys = std::mem::take(&mut self.keys);
            self.answer_by_keys(keys);
        }
    }

    fn judge_silence(&mut self, now: Duration) {
        let Some(since) = self.quiet_since else { return };
        if self.caller_open || !self.keys.is_empty() || self.agent != Agent::Silent {
            return;
        }
        let patience = self.listen.no_input_after.unwrap_or(ms(self.config.no_input_ms));
        if now.saturating_sub(since) >= patience {
            self.quiet_since = None;
            self.agent = Agent::Thinking;
            self.outputs.push_back(TurnOutput::NoInput);
        }
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

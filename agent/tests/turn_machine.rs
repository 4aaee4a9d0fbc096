//! The turn machine in virtual time: who has the floor, frame by frame.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use agent::brain::{KeyAnswer, Listen};
use agent::turn::{FrameView, Progress, TurnConfig, TurnInput, TurnMachine, TurnOutput};

const FRAME: Duration = Duration::from_millis(20);

struct Bench {
    machine: TurnMachine,
    now: Duration,
    outputs: Vec<(Duration, TurnOutput)>,
}

impl Bench {
    /// A quiet line on which the agent is silent and listens.
    fn listening() -> Self {
        Self::with(TurnConfig::default(), Listen::default())
    }

    fn with(config: TurnConfig, listen: Listen) -> Self {
        let mut bench = Self { machine: TurnMachine::new(config), now: Duration::ZERO, outputs: Vec::new() };
        bench.quiet(1_000);
        bench.tell(TurnInput::Listen(listen));
        bench.tell(TurnInput::AgentSilent);
        bench
    }

    /// A quiet line on which the agent speaks.
    fn speaking() -> Self {
        let mut bench = Self::listening();
        bench.tell(TurnInput::AgentSpeaks { interruptible: true });
        bench
    }

    fn tell(&mut self, input: TurnInput) {
        self.machine.receive(self.now, input);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.machine.poll() {
            self.outputs.push((self.now, output));
        }
    }

    fn frames(&mut self, ms: u64, speech: f32, level_db: f32) {
        for _ in 0..ms / 20 {
            self.now += FRAME;
            let view = FrameView { end: self.now, length: FRAME, speech, level_db, deciding: None };
            self.tell(TurnInput::Frame(view));
        }
    }

    fn speech(&mut self, ms: u64) {
        self.frames(ms, 0.95, -20.0);
    }

    fn quiet(&mut self, ms: u64) {
        self.frames(ms, 0.02, -65.0);
    }

    /// To the millisecond, as packets of other sizes bring it.
    fn quiet_exactly(&mut self, ms: u64) {
        self.quiet(ms);
        let length = Duration::from_millis(ms % 20);
        self.now += length;
        let view = FrameView { end: self.now, length, speech: 0.02, level_db: -65.0, deciding: None };
        self.tell(TurnInput::Frame(view));
    }

    fn hypothesis(&mut self, progress: Progress, words: usize) {
        self.tell(TurnInput::Hypothesis { progress, words, all_words: words });
    }

    /// When the first such output came.
    fn when(&self, wanted: impl Fn(&TurnOutput) -> bool) -> Option<Duration> {
        self.outputs.iter().find(|(_, output)| wanted(output)).map(|(at, _)| *at)
    }

    fn has(&self, wanted: impl Fn(&TurnOutput) -> bool) -> bool {
        self.when(wanted).is_some()
    }
}

fn ended(output: &TurnOutput) -> bool {
    matches!(output, TurnOutput::TurnEnded { .. })
}

fn interrupted(output: &TurnOutput) -> bool {
    matches!(output, TurnOutput::Interrupt { .. })
}

#[test]
fn the_agent_is_ducked_within_two_frames_of_the_onset() {
    let mut bench = Bench::speaking();
    let onset = bench.now;
    bench.speech(60);
    let ducked = bench.when(|output| matches!(output, TurnOutput::Duck { .. })).unwrap();
    assert_eq!(ducked - onset, FRAME * 2);
    assert!(bench.outputs.contains(&(ducked, TurnOutput::Duck { onset })));
}

#[test]
fn a_pause_ends_a_turn_after_what_the_hypothesis_asks_for() {
    let config = TurnConfig::default();
    for (progress, expected_ms) in [
        (Progress::Complete, config.end_complete_ms),
        (Progress::Settled, config.end_settled_ms),
        (Progress::Open, config.end_open_ms),
        (Progress::Unknown, config.end_unknown_ms),
        (Progress::Partial, config.end_partial_ms),
    ] {
        let mut bench = Bench::listening();
        bench.speech(600);
        bench.hypothesis(progress, 2);
        let last_sound = bench.now;
        bench.quiet(2_000);
        let after = bench.when(ended).unwrap() - last_sound;
        assert!(after.as_millis().abs_diff(u128::from(expected_ms)) <= 20, "{progress:?}: {after:?}");
    }
}

#[test]
fn a_pause_of_399_ms_inside_a_sentence_is_never_taken_for_its_end() {
    // Whatever was understood so far, as long as the sentence may go on.
    for progress in [Progress::Nothing, Progress::Unknown, Progress::Partial, Progress::Open, Progress::Settled] {
        let mut bench = Bench::listening();
        bench.speech(600);
        bench.hypothesis(progress, 2);
        bench.quiet_exactly(399);
        bench.speech(600);
        assert!(!bench.has(ended), "{progress:?}: {:?}", bench.outputs);
        bench.hypothesis(Progress::Complete, 5);
        bench.quiet(1_000);
        let ends = bench.outputs.iter().filter(|(_, output)| ended(output)).count();
        assert_eq!(ends, 1, "{progress:?}: {:?}", bench.outputs);
    }
}

#[test]
fn a_pause_in_mid_phrase_that_ends_in_time_is_forgotten() {
    let mut bench = Bench::listening();
    bench.speech(500);
    bench.hypothesis(Progress::Partial, 2);
    bench.quiet(380);
    bench.speech(500);
    bench.hypothesis(Progress::Complete, 4);
    bench.quiet(1_000);
    let kinds: Vec<&TurnOutput> = bench.outputs.iter().map(|(_, output)| output).collect();
    assert!(matches!(
        kinds[..],
        [
            TurnOutput::CallerBegan { .. },
            TurnOutput::PauseLikely,
            TurnOutput::PauseOver,
            TurnOutput::PauseLikely,
            TurnOutput::TurnEnded { .. }
        ]
    ));
}

#[test]
fn a_cough_over_the_agent_is_put_to_the_recogniser_and_forgiven() {
    let mut bench = Bench::speaking();
    bench.speech(180);
    bench.quiet(400);
    assert!(bench.has(|output| *output == TurnOutput::AskVerdict));
    bench.tell(TurnInput::Verdict(false));
    assert!(bench.has(|output| *output == TurnOutput::Resume));
    assert!(!bench.has(interrupted));
}

#[test]
fn a_recogniser_that_gives_no_verdict_does_not_keep_the_agent_silent() {
    let mut bench = Bench::speaking();
    bench.speech(180);
    bench.quiet(1_200);
    assert!(bench.has(|output| *output == TurnOutput::Resume));
}

#[test]
fn a_short_answer_over_the_agent_interrupts_it_and_ends_the_turn() {
    let mut bench = Bench::speaking();
    bench.speech(260);
    bench.quiet(300);
    bench.tell(TurnInput::Verdict(true));
    assert!(bench.has(interrupted) && bench.has(ended));
}

#[test]
fn speech_that_goes_on_after_the_question_is_one_interruption() {
    let mut bench = Bench::speaking();
    bench.speech(300);
    bench.quiet(260);
    assert!(bench.has(|output| *output == TurnOutput::AskVerdict));
    bench.speech(500);
    assert!(bench.has(interrupted));
    let begun = bench.outputs.iter().filter(|(_, output)| matches!(output, TurnOutput::CallerBegan { .. })).count();
    assert_eq!(begun, 2, "the ear is opened again for what the first was closed on");
}

#[test]
fn a_click_is_nothing() {
    let mut bench = Bench::listening();
    bench.speech(40);
    bench.quiet(1_000);
    assert!(bench.has(|output| *output == TurnOutput::CallerDropped));
    assert!(!bench.has(ended));
}

#[test]
fn a_prompt_that_may_not_be_cut_short_is_not_ducked_but_a_key_ends_it() {
    let mut bench = Bench::listening();
    bench.tell(TurnInput::AgentSpeaks { interruptible: false });
    bench.speech(2_000);
    assert_eq!(bench.outputs, []);
    bench.tell(TurnInput::Key('5'));
    assert!(bench.outputs.contains(&(bench.now, TurnOutput::Interrupt { onset: bench.now, by_key: true })));
    assert!(bench.outputs.contains(&(bench.now, TurnOutput::Keys("5".into()))));
}

#[test]
fn silence_is_told_once_after_the_agents_patience() {
    let listen = |no_input_after| {
        let mut listen = Listen::default();
        listen.no_input_after = no_input_after;
        listen
    };
    for (patience, expected) in [(None, Duration::from_secs(6)), (Some(Duration::from_secs(2)), Duration::from_secs(2))]
    {
        let mut bench = Bench::with(TurnConfig::default(), listen(patience));
        let from = bench.now;
        bench.quiet(20_000);
        assert_eq!(bench.when(|output| *output == TurnOutput::NoInput).unwrap() - from, expected);
        assert_eq!(bench.outputs.len(), 1);
    }
}

#[test]
fn silence_does_not_count_while_the_agent_speaks_or_thinks() {
    for input in [TurnInput::AgentSpeaks { interruptible: true }, TurnInput::AgentThinks] {
        let mut bench = Bench::listening();
        bench.tell(input);
        bench.quiet(30_000);
        assert_eq!(bench.outputs, []);
    }
}

#[test]
fn collected_keys_end_with_a_hash_at_the_limit_or_after_a_pause() {
    let mut listen = Listen::default();
    listen.keys = KeyAnswer::Collect { max: 4 };
    for (keys, wait_ms) in [("12#", 0), ("1234", 0), ("12", 2_600)] {
        let mut bench = Bench::with(TurnConfig::default(), listen.clone());
        for key in keys.chars() {
            bench.tell(TurnInput::Key(key));
            bench.quiet(100);
        }
        bench.quiet(wait_ms);
        let answer = keys.trim_end_matches('#').to_owned();
        assert!(bench.has(|output| *output == TurnOutput::Keys(answer.clone())), "{keys}: {:?}", bench.outputs);
    }
}

#[test]
fn more_keys_than_any_answer_has_are_not_kept() {
    let mut listen = Listen::default();
    listen.keys = KeyAnswer::Collect { max: usize::MAX };
    let mut bench = Bench::with(TurnConfig::default(), listen);
    for _ in 0..=agent::turn::MAX_KEYS {
        bench.tell(TurnInput::Key('1'));
    }
    let longest = bench
        .outputs
        .iter()
        .filter_map(|(_, output)| if let TurnOutput::Keys(keys) = output { Some(keys.len()) } else { None });
    assert_eq!(longest.max(), Some(agent::turn::MAX_KEYS));
}

#[test]
fn endless_speech_is_taken_as_over_some_time() {
    let mut bench = Bench::listening();
    bench.hypothesis(Progress::Partial, 3);
    bench.speech(25_000);
    let after = bench.when(ended).unwrap();
    assert!(after <= Duration::from_millis(21_100), "{after:?}");
}

#[test]
fn a_line_that_sends_nothing_in_silence_still_ends_turns() {
    let mut bench = Bench::listening();
    bench.speech(600);
    bench.hypothesis(Progress::Complete, 2);
    // No more frames; only time.
    for _ in 0..20 {
        bench.now += Duration::from_millis(30);
        bench.machine.tick(bench.now);
        bench.collect();
    }
    assert!(bench.has(ended));
}

#[test]
fn the_conversation_is_over_once_after_its_longest_time() {
    let config = TurnConfig { max_call_ms: 5_000, ..TurnConfig::default() };
    let mut bench = Bench::with(config, Listen::default());
    bench.quiet(10_000);
    assert_eq!(bench.outputs.iter().filter(|(_, output)| *output == TurnOutput::CallOver).count(), 1);
}

/// A random walk: whatever comes, every duck is resolved, every beginning has an end, and nothing panics.
#[test]
fn whatever_comes_ducks_and_beginnings_are_resolved() {
    for seed in 1..=200_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut bench = Bench::listening();
        for _ in 0..200 {
            match next(12) {
                0..=3 => bench.speech(20 * next(30)),
                4..=6 => bench.quiet(20 * next(40)),
                7 => bench.tell(TurnInput::AgentSpeaks { interruptible: next(4) > 0 }),
                8 => bench.tell(TurnInput::AgentSilent),
                9 => bench.tell(TurnInput::Key('3')),
                10 => bench.hypothesis(
                    [Progress::Partial, Progress::Complete, Progress::Unknown][next(3) as usize],
                    next(4) as usize,
                ),
                _ => bench.tell(TurnInput::Verdict(next(2) == 0)),
            }
        }
        bench.tell(TurnInput::AgentThinks);
        bench.quiet(5_000);
        let (mut ducked, mut open) = (false, false);
        for (at, output) in &bench.outputs {
            match output {
                TurnOutput::Duck { .. } => {
                    assert!(!ducked, "seed {seed}, {at:?}: ducked twice");
                    ducked = true;
                }
                TurnOutput::Resume => {
                    assert!(ducked, "seed {seed}, {at:?}: resumed without a duck");
                    ducked = false;
                    open = false;
                }
                TurnOutput::Interrupt { .. } => ducked = false,
                TurnOutput::CallerBegan { .. } => {
                    assert!(!open, "seed {seed}, {at:?}: begun twice");
                    open = true;
                }
                TurnOutput::CallerDropped | TurnOutput::AskVerdict | TurnOutput::TurnEnded { .. } => open = false,
                _ => {}
            }
        }
        assert!(!open, "seed {seed}: a beginning without an end");
    }
}

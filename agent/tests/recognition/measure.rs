//! What the example and the test of recognition share: who says what, over which line, and what is made of it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::brain::script::Script;
use agent::definition::AgentDefinition;
use agent::ear::sphinx::Sphinx;
use agent::ear::{Hypothesis, LEAD_IN, LEAD_OUT, Recognizer, StreamConfig, next_hypothesis};
use agent::grammar::{Grammar, Match};
use agent::noise::NoiseControl;
use anyhow::{Context as _, Result, ensure};
use codecs::SampleRate;
use codecs::registry::{self, SPECS};
use codecs::resample::Resampler;

/// Sentences drawn from each state's grammar, beside the fixed ones.
const DRAWN: u64 = 16;

/// Voices that thresholds were chosen with.
pub(crate) const TUNE: [(&str, &str); 5] =
    [("flite", "rms"), ("flite", "kal16"), ("espeak", "en-us"), ("espeak", "en-us+f2"), ("espeak", "en-gb-x-rp")];
/// Voices that are scored; like the acoustic model, they speak American English.
pub(crate) const SCORE: [(&str, &str); 6] = [
    ("flite", "slt"),
    ("flite", "awb"),
    ("espeak", "en-us+m3"),
    ("espeak", "en-us+f3"),
    ("espeak", "en-us+m7"),
    ("espeak", "en-us+f4"),
];
/// Voices of accents that the acoustic model never heard.
pub(crate) const ACCENTS: [(&str, &str); 2] = [("espeak", "en-gb"), ("espeak", "en-gb-scotland")];

const OUTSIDE: [&str; 30] = [
    "the weather is lovely today",
    "could you tell me about the football",
    "my cat is sleeping on the sofa",
    "i lost my umbrella yesterday",
    "do you sell red bicycles",
    "the train was late again",
    "how much does the blue one cost",
    "i am calling about my invoice",
    "my computer does not work",
    "please send me the catalogue",
    "we had pasta for dinner",
    "who won the game last night",
    "turn left at the traffic lights",
    "hold on a second",
    "let me think about it",
    "the children are playing outside",
    "i can hear you very well",
    "is that you margaret",
    "it was a very long journey",
    "what do you think about music",
    "where did i put my glasses",
    "there is a problem with my order",
    "can you change my password",
    "wait a minute please",
    "somebody is at the door",
    "i would like a large pizza",
    "how old are you",
    "my number has changed",
    "what is the capital of france",
    "he told me to call you back",
];

/// One thing said by one voice; without a meaning it is outside the grammar.
pub(crate) struct Utterance {
    pub(crate) voice: String,
    pub(crate) speed: usize,
    pub(crate) state: String,
    pub(crate) said: String,
    pub(crate) meaning: Option<Match>,
}

#[derive(Default, Clone, Copy)]
/// What became of utterances.
pub(crate) struct Tally {
    pub(crate) right: usize,
    pub(crate) asked_again: usize,
    pub(crate) wrong: usize,
}

impl Tally {
    pub(crate) fn all(self) -> usize {
        self.right + self.asked_again + self.wrong
    }

    /// Counts one: what was understood, and what was meant.
    pub(crate) fn count(&mut self, understood: Option<&Match>, meant: Option<&Match>) {
        match understood {
            Some(_) if understood == meant => self.right += 1,
            Some(_) => self.wrong += 1,
            None => self.asked_again += 1,
        }
    }

    /// A part in percent.
    pub(crate) fn share(self, part: usize) -> f64 {
        100.0 * part as f64 / self.all().max(1) as f64
    }
}

/// The front desk's dialogue.
pub(crate) fn front_desk() -> Result<Script> {
    let definition = AgentDefinition::front_desk()?;
    Ok(Script::new(definition.script.context("the front desk has no script")?)?)
}

/// Every state's phrases and what is outside them, by each voice.
pub(crate) fn utterances(script: &Script, voices: &[(&str, &str)], all_speeds: bool) -> Result<Vec<Utterance>> {
    let states: Vec<(&str, &Arc<Grammar>)> = ["menu", "which_day", "what_time", "confirm"]
        .iter()
        .filter_map(|state| Some((*state, script.grammar(state)?)))
        .collect();
    ensure!(states.len() == 4, "the front desk has other states than this measurement knows");
    let mut list = Vec::new();
    for (place, (engine, voice)) in voices.iter().enumerate() {
        let mut add = |state: &str, said: String, meaning: Option<Match>, turn: usize| {
            let speeds = if all_speeds { vec![0, 1, 2] } else { vec![(place + turn) % 3] };
            for speed in speeds {
                let (voice, state, said) = (format!("{engine}:{voice}"), state.to_owned(), said.clone());
                list.push(Utterance { voice, speed, state, said, meaning: meaning.clone() });
            }
        };
        for (state, grammar) in &states {
            let mut drawn: Vec<String> = (0..DRAWN * 4).map(|seed| grammar.network().sentence(seed + 1)).collect();
            drawn.sort();
            drawn.dedup();
            let step = (drawn.len() / DRAWN as usize).max(1);
            for (turn, said) in drawn.into_iter().step_by(step).enumerate() {
                let meaning = grammar.match_text(&said);
                ensure!(meaning.is_some(), "`{said}` is no phrase of {state}");
                add(state, said, meaning, turn);
            }
        }
        for (turn, said) in OUTSIDE.iter().enumerate() {
            for (state, grammar) in &states {
                ensure!(grammar.match_text(said).is_none(), "`{said}` is a phrase of {state}");
            }
            let (state, _) = states[turn % states.len()];
            add(state, (*said).to_owned(), None, turn);
        }
    }
    Ok(list)
}

/// The line is up for so long before somebody speaks.
const BEFORE: Duration = Duration::from_secs(2);

/// What surrounds the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surroundings {
    /// Nothing but the line.
    Quiet,
    /// White noise.
    White,
    /// Other people.
    Babble,
    /// Mains hum and its harmonics.
    Hum,
}

/// How an utterance reaches the recogniser.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    pub(crate) surroundings: Surroundings,
    /// Speech over noise, while somebody speaks.
    pub(crate) snr_db: f32,
    /// The speech's peak.
    pub(crate) level_dbfs: f32,
    /// Noise is taken out before it is recognised.
    pub(crate) noise_control: bool,
    /// Whoever speaks has said the same before, so that controls know them.
    pub(crate) has_spoken: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            surroundings: Surroundings::Quiet,
            snr_db: 20.0,
            level_dbfs: -6.0,
            noise_control: false,
            has_spoken: false,
        }
    }
}

/// What came of one utterance.
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) understood: Option<Match>,
    pub(crate) confidence: f32,
    /// From the end of the audio to the final hypothesis.
    pub(crate) wait: Duration,
}

/// Sends one utterance through a codec to the recogniser; `pace` is how long each frame of 20 ms takes.
pub(crate) async fn recognise(
    ear: &Sphinx,
    script: &Script,
    codec: &str,
    number: usize,
    utterance: &Utterance,
    conditions: Conditions,
    pace: Duration,
) -> Result<Heard> {
    let grammar = script.grammar(&utterance.state).context("no such state")?;
    let speech = speech(&utterance.voice, utterance.speed, &utterance.said)?;
    let line = on_a_line(&speech, number as u64, conditions)?;
    let (rate, mut heard) = through(codec, &line)?;
    if conditions.noise_control {
        let mut control = NoiseControl::new(rate).context("a rate that noise control does not know")?;
        if conditions.has_spoken {
            heard.chunks(rate.hz() as usize / 50).for_each(|frame| drop(control.take_out(frame)));
        }
        heard = heard.chunks(rate.hz() as usize / 50).flat_map(|frame| control.take_out(frame).into_owned()).collect();
    }
    // What the line carried before is no part of the utterance, but controls have heard it.
    heard.drain(..rate.samples_in(BEFORE).min(heard.len()));
    let config = StreamConfig { rate, grammar: Some(Arc::clone(grammar)), language: "en".into() };
    let mut stream = ear.open(config)?;
    let mut clock = tokio::time::interval(pace.max(Duration::from_nanos(1)));
    for frame in heard.chunks(rate.hz() as usize / 50) {
        if !pace.is_zero() {
            clock.tick().await;
        }
        stream.push(frame)?;
    }
    stream.finish();
    let finished = Instant::now();
    loop {
        match next_hypothesis(stream.as_mut()).await {
            Some(Hypothesis::Partial { .. }) => {}
            Some(Hypothesis::Final { text, confidence, accepted, .. }) => {
                let understood = if accepted { grammar.match_text(&text) } else { None };
                return Ok(Heard { text, understood, confidence, wait: finished.elapsed() });
            }
            Some(Hypothesis::Failed(error)) => return Err(error.into()),
            None => anyhow::bail!("the stream ended without a result"),
        }
    }
}

/// What an engine says, at 16 kHz, without the silence around it; kept in the temporary folder for the next run.
fn speech(voice: &str, speed: usize, said: &str) -> Result<Vec<i16>> {
    let (engine, name) = voice.split_once(':').context("a voice is ENGINE:NAME")?;
    let folder = std::env::temp_dir().join("omnivox-recognition");
    std::fs::create_dir_all(&folder)?;
    let file =
        folder.join(format!("{}-{speed}-{}.wav", voice.replace([':', '+'], "_"), said.replace([' ', '\''], "_")));
    if !file.is_file() {
        let fresh: PathBuf = file.with_extension("part.wav");
        let mut command = if engine == "flite" {
            let stretch = ["duration_stretch=1.2", "duration_stretch=1.0", "duration_stretch=0.85"][speed];
            let mut command = Command::new("flite");
            command.args(["-voice", name, "--setf", stretch, "-t", said, "-o"]).arg(&fresh);
            command
        } else {
            let mut command = Command::new("espeak-ng");
            command.args(["-v", name, "-s", ["140", "165", "190"][speed], "-w"]).arg(&fresh).arg(said);
            command
        };
        let status = command.status().with_context(|| format!("{engine} is not installed"))?;
        ensure!(status.success(), "{engine} failed on `{said}`");
        std::fs::rename(&fresh, &file)?;
    }
    let mut wav = hound::WavReader::open(&file)?;
    let rate = SampleRate(wav.spec().sample_rate);
    let pcm = wav.samples::<i16>().collect::<Result<Vec<_>, _>>()?;
    let pcm = resampled(&pcm, rate, SampleRate::HZ_16000)?;
    let loud = |sample: &i16| sample.unsigned_abs() > 200;
    let first = pcm.iter().position(loud).unwrap_or(0);
    let last = pcm.iter().rposition(loud).unwrap_or(0);
    Ok(pcm.get(first..=last).unwrap_or_default().to_vec())
}

/// The noise of so many samples at 16 kHz, at whatever level.
fn noise_of(surroundings: Surroundings, samples: usize, seed: u64) -> Result<Vec<f32>> {
    let mut random = seed.wrapping_mul(0xD1B5_4A32_D192_ED03) | 1;
    let mut white = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Ok(match surroundings {
        Surroundings::Quiet => vec![0.0; samples],
        Surroundings::White => (0..samples).map(|_| white()).collect(),
        Surroundings::Hum => {
            let wave = |n: usize| {
                let partial = |k: u32| (std::f32::consts::TAU * 50.0 * k as f32 * n as f32 / 16_000.0).sin() / k as f32;
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].into_iter().map(partial).sum::<f32>()
            };
            (0..samples).map(wave).collect()
        }
        Surroundings::Babble => {
            // Five people say five other things, over and over.
            let mut mixed = vec![0.0; samples];
            for (n, (engine, voice)) in ACCENTS.iter().chain(&TUNE[..3]).enumerate() {
                let said = OUTSIDE[(seed as usize + n * 7) % OUTSIDE.len()];
                let speech = speech(&format!("{engine}:{voice}"), 1, said)?;
                let from = n * 3_001;
                for (at, place) in mixed.iter_mut().enumerate() {
                    *place += f32::from(speech[(from + at) % speech.len()]);
                }
            }
            mixed
        }
    })
}

/// Speech at the level wanted (-6 dBFS by default), with the surroundings' noise and the line's own at -65 dBFS under and around it.
fn on_a_line(speech: &[i16], seed: u64, conditions: Conditions) -> Result<Vec<i16>> {
    let peak = speech.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(1).max(1);
    // Above 0 dBFS it is clipped.
    let gain = 32_768.0 * 10_f32.powf(conditions.level_dbfs / 20.0) / f32::from(peak);
    let before = SampleRate::HZ_16000.samples_in(BEFORE + LEAD_IN);
    let after = SampleRate::HZ_16000.samples_in(LEAD_OUT);
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        ((random >> 40) as f32 / (1 << 23) as f32 - 1.0) * 32.0
    };
    let voice = speech.iter().map(|sample| f32::from(*sample) * gain);
    let line = std::iter::repeat_n(0.0, before).chain(voice).chain(std::iter::repeat_n(0.0, after));
    let around = noise_of(conditions.surroundings, before + speech.len() + after, seed + 1)?;
    let power =
        |sound: &mut dyn Iterator<Item = f32>, count: usize| sound.map(|s| s * s).sum::<f32>() / count.max(1) as f32;
    let speaks = power(&mut speech.iter().map(|sample| f32::from(*sample) * gain), speech.len());
    let noisy = power(&mut around.iter().copied(), around.len()).max(f32::MIN_POSITIVE);
    let noise_gain = (speaks / noisy / 10_f32.powf(conditions.snr_db / 10.0)).sqrt();
    let noise_gain = if conditions.surroundings == Surroundings::Quiet { 0.0 } else { noise_gain };
    Ok(line.zip(around).map(|(sample, around)| (sample + around * noise_gain + noise()) as i16).collect())
}

fn through(codec: &str, pcm: &[i16]) -> Result<(SampleRate, Vec<i16>)> {
    let spec = SPECS.iter().find(|spec| spec.name.eq_ignore_ascii_case(codec)).context("no such codec")?;
    let params = spec.params();
    let (mut encoder, mut decoder) = (registry::encoder(&params)?, registry::decoder(&params)?);
    let pcm = resampled(pcm, SampleRate::HZ_16000, encoder.audio_rate())?;
    let frame = encoder.audio_rate().hz() as usize / 50;
    let (mut packet, mut out, mut heard) = (vec![0; 4_000], vec![0; 4_000], Vec::new());
    for pcm in pcm.chunks_exact(frame) {
        let bytes = encoder.encode(pcm, &mut packet)?;
        let samples = decoder.decode(&packet[..bytes], &mut out)?;
        heard.extend_from_slice(&out[..samples]);
    }
    Ok((decoder.audio_rate(), heard))
}

fn resampled(pcm: &[i16], from: SampleRate, to: SampleRate) -> Result<Vec<i16>> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = vec![0; resampler.max_output(pcm.len())];
    let len = resampler.process(pcm, &mut out);
    out.truncate(len);
    Ok(out)
}

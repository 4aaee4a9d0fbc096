//! `whisper`: recognition of open vocabulary by whisper.cpp, offline, with any ggml model.
//!
//! Whisper hears whole utterances: partial hypotheses come from decoding again what there is so far, no oftener than
//! the machine can afford, and the final one from decoding all of it. One decoding keeps a core busy for a second or
//! more, so a few threads serve all streams, and a stream that is cancelled aborts its decoding.

use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use codecs::SampleRate;
use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperState};

use super::energy::has_sound;
use super::openai::{final_of, plain};
use super::worker::{ENGINE_RATE, Engine, Limits, MakeEngine, Workers};
use super::{EarError, Hypothesis, MAX_UTTERANCE, Recognizer, RecognizerStream, StreamConfig, Word};

mod abort;

const PROVIDER: &str = "whisper";
/// The first bytes of a ggml file, little-endian `ggml`.
const MAGIC: [u8; 4] = *b"lmgg";
/// Less audio than this is not worth a partial hypothesis.
const PARTIAL_EVERY: Duration = Duration::from_millis(1_200);
/// Partial hypotheses take at most one part in this of a thread's time.
const PARTIAL_SHARE: u32 = 2;
/// The encoder's positions for each second of audio, and for all of its window of 30 s.
const POSITIONS_PER_S: f32 = 50.0;
const POSITIONS: i32 = 1_500;
/// Whisper refuses audio shorter than a second.
const LEAST: Duration = Duration::from_millis(1_050);

/// What can be set.
#[derive(Clone, Debug)]
pub struct WhisperConfig {
    /// The model: a ggml file.
    pub model: PathBuf,
    /// Utterances decoded at the same time; 0: half the cores.
    pub workers: usize,
    /// Threads for each decoding; 0: two, or one on a single core.
    pub threads: usize,
    /// Utterances open at once.
    pub max_streams: usize,
    /// Whether to guess while the caller still speaks.
    pub partials: bool,
}

impl WhisperConfig {
    /// The usual settings for this model.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self { model: model.into(), workers: 0, threads: 0, max_streams: 32, partials: true }
    }
}

/// The recogniser.
pub struct Whisper {
    workers: Workers,
    shared: Arc<Shared>,
}

struct Shared {
    context: WhisperContext,
    multilingual: bool,
    threads: usize,
    partials: bool,
    /// Working memory of finished utterances, for the next ones.
    idle: Mutex<Vec<WhisperState>>,
    max_idle: usize,
}

impl Whisper {
    /// Loads the model; takes from a tenth of a second to several, so not for an async task.
    ///
    /// # Errors
    /// [`EarError::ModelMissing`], [`EarError::ModelBad`].
    pub fn new(config: WhisperConfig) -> Result<Self, EarError> {
        static QUIET: Once = Once::new();
        QUIET.call_once(whisper_rs::install_logging_hooks);
        check(&config.model)?;
        let bad = |reason: String| EarError::ModelBad { path: config.model.display().to_string(), reason };
        let mut parameters = WhisperContextParameters::new();
        parameters.use_gpu(false);
        let context = WhisperContext::new_with_params(&config.model, parameters)
            .map_err(|error| bad(format!("whisper.cpp could not load it ({error}); pull it again")))?;
        let cores = available_parallelism().map_or(1, usize::from);
        let workers = if config.workers == 0 { (cores / 2).max(1) } else { config.workers };
        let threads = if config.threads == 0 { cores.min(2) } else { config.threads };
        let limits = Limits { provider: PROVIDER, streams: config.max_streams.max(1), backlog: MAX_UTTERANCE };
        let shared = Shared {
            multilingual: context.is_multilingual(),
            context,
            threads,
            partials: config.partials,
            idle: Mutex::default(),
            max_idle: workers,
        };
        Ok(Self { workers: Workers::start(limits, workers)?, shared: Arc::new(shared) })
    }
}

impl Recognizer for Whisper {
    fn name(&self) -> &str {
        PROVIDER
    }

    fn open(&self, config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError> {
        let language = config.language.split(['-', '_']).next().unwrap_or("").to_lowercase();
        let known = language.is_empty() || language == "en" || self.shared.multilingual;
        if !known || language.bytes().any(|byte| !byte.is_ascii_alphabetic()) {
            return Err(EarError::Language { provider: PROVIDER, language: config.language });
        }
        let language = if language.is_empty() { "en".to_owned() } else { language };
        let shared = Arc::clone(&self.shared);
        let rate = config.rate;
        let make: MakeEngine = Box::new(move |cancelled| {
            Ok(Box::new(Listener {
                shared,
                config,
                language,
                cancelled,
                pcm: Vec::new(),
                decoded_at: 0,
                took: Duration::ZERO,
                said: String::new(),
            }))
        });
        self.workers.open(rate, make)
    }
}

struct Listener {
    shared: Arc<Shared>,
    config: StreamConfig,
    language: String,
    cancelled: Arc<AtomicBool>,
    pcm: Vec<i16>,
    /// Samples that the last decoding heard, and how long it took.
    decoded_at: usize,
    took: Duration,
    said: String,
}

impl Engine for Listener {
    fn hear(&mut self, pcm: &[i16]) -> Result<Option<Hypothesis>, EarError> {
        self.pcm.extend_from_slice(pcm);
        let fresh = self.pcm.len() - self.decoded_at;
        let pause = PARTIAL_EVERY.max(self.took * PARTIAL_SHARE);
        if !self.shared.partials || fresh < ENGINE_RATE.samples_in(pause) || !has_sound(&self.pcm, ENGINE_RATE) {
            return Ok(None);
        }
        let (text, words, _) = self.decode()?;
        if text.is_empty() || text == self.said {
            return Ok(None);
        }
        self.said.clone_from(&text);
        Ok(Some(Hypothesis::Partial { text, words }))
    }

    fn conclude(&mut self) -> Result<Hypothesis, EarError> {
        let grammar = self.config.grammar.clone();
        if !has_sound(&self.pcm, ENGINE_RATE) {
            return Ok(final_of(String::new(), Vec::new(), 0.0, grammar.as_deref()));
        }
        let (text, words, confidence) = self.decode()?;
        Ok(final_of(text, words, confidence, grammar.as_deref()))
    }
}

type Heard = (String, Vec<Word>, f32);

impl Listener {
    fn decode(&mut self) -> Result<Heard, EarError> {
        let started = Instant::now();
        let fault = |what: &str, error: &dyn std::fmt::Display| EarError::Engine {
            provider: PROVIDER,
            reason: format!("{what}: {error}"),
        };
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = match idle {
            Some(state) => state,
            None => self.shared.context.create_state().map_err(|error| fault("no working memory", &error))?,
        };
        let mut audio: Vec<f32> = self.pcm.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
        audio.resize(audio.len().max(ENGINE_RATE.samples_in(LEAST)), 0.0);
        let params = self.params(audio.len());
        let result = state.full(params, &audio);
        if self.cancelled.load(Ordering::Acquire) {
            // Nobody listens any more; what an aborted decoding left in its memory is not used again.
            return Err(EarError::Closed);
        }
        result.map_err(|error| fault("decoding failed", &error))?;
        let heard = read(&state, &self.shared.context);
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.shared.max_idle {
            idle.push(state);
        }
        drop(idle);
        self.decoded_at = self.pcm.len();
        self.took = started.elapsed();
        Ok(heard)
    }

    fn params(&self, samples: usize) -> FullParams<'_, '_> {
        let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
        params.set_n_threads(self.shared.threads as i32);
        params.set_language(Some(&self.language));
        params.set_no_context(true);
        params.set_token_timestamps(true);
        params.set_suppress_blank(true);
        params.set_suppress_nst(true);
        params.set_print_special(false);
        params.set_print_progress(false);
        params.set_print_realtime(false);
        params.set_print_timestamps(false);
        // No second try at another temperature: the caller waits.
        params.set_temperature_inc(0.0);
        // The window is 30 s; what is empty of it need not be looked at.
        let seconds = samples as f32 / SampleRate::HZ_16000.hz() as f32;
        let positions = ((seconds + 1.0) * POSITIONS_PER_S) as u32;
        params.set_audio_ctx((positions.next_multiple_of(64) as i32).min(POSITIONS));
        abort::on(&mut params, &self.cancelled);
        params
    }
}

/// The words that a decoding left in its state.
fn read(state: &WhisperState, context: &WhisperContext) -> Heard {
    let end_of_text = context.token_eot();
    let mut words: Vec<(Vec<u8>, Word)> = Vec::new();
    let mut text = String::new();
    for segment in state.as_iter() {
        text.push_str(&segment.to_str_lossy().unwrap_or_default());
        let tokens = (0..segment.n_tokens()).filter_map(|number| segment.get_token(number));
        for token in tokens.filter(|token| token.token_id() < end_of_text) {
            let (Ok(bytes), data) = (token.to_bytes(), token.token_data()) else { continue };
            let confidence = token.token_probability();
            let (start_ms, end_ms) = (milliseconds(data.t0), milliseconds(data.t1));
            match words.last_mut() {
                Some((spelled, word)) if !bytes.starts_with(b" ") => {
                    spelled.extend_from_slice(bytes);
                    word.end_ms = end_ms;
                    word.confidence = word.confidence.min(confidence);
                }
                _ => words.push((bytes.to_vec(), Word { text: String::new(), start_ms, end_ms, confidence })),
            }
        }
    }
    let words = words.into_iter().filter_map(|(spelled, word)| {
        let text = plain(&String::from_utf8_lossy(&spelled));
        if text.is_empty() { None } else { Some(Word { text, ..word }) }
    });
    let words: Vec<Word> = words.collect();
    let sum: f32 = words.iter().map(|word| word.confidence).sum();
    let confidence = if words.is_empty() { 0.0 } else { sum / words.len() as f32 };
    (plain(&text), words, confidence)
}

/// Whisper counts in hundredths of a second.
fn milliseconds(hundredths: i64) -> u32 {
    u32::try_from(hundredths.max(0).saturating_mul(10)).unwrap_or(u32::MAX)
}

/// Looks at the head of the file: whisper.cpp trusts what stands there, and ends the process where words it looks up
/// are missing.
fn check(path: &Path) -> Result<(), EarError> {
    let shown = path.display().to_string();
    let bad = |reason: &str| EarError::ModelBad { path: shown.clone(), reason: reason.to_owned() };
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => EarError::ModelMissing {
            what: "the Whisper model".into(),
            path: shown.clone(),
            mend: "omnivox models pull whisper-base.en-q5_1".into(),
        },
        _ => bad(&error.to_string()),
    })?;
    let mut file = BufReader::new(file);
    let mut head = [0u8; 48];
    file.read_exact(&mut head).map_err(|_| bad("it is too short to be a ggml model"))?;
    if !head.starts_with(&MAGIC) {
        return Err(bad("it is no ggml model (it does not begin with `ggml`)"));
    }
    let numbers: Vec<i32> =
        head.chunks_exact(4).skip(1).filter_map(|four| Some(i32::from_le_bytes(four.try_into().ok()?))).collect();
    // Vocabulary, audio context, state, heads and layers, the same of text, mel filters; see `whisper_hparams`.
    const MOST: [i32; 10] = [60_000, 1_500, 2_048, 64, 64, 1_024, 2_048, 64, 64, 128];
    let sane = numbers.len() == 11 && numbers.iter().zip(MOST).all(|(number, most)| (1..=most).contains(number));
    if !sane {
        return Err(bad("its dimensions are no Whisper model's: it is damaged, pull it again"));
    }
    match vocabulary(&mut file) {
        Some(missing) if missing.is_empty() => Ok(()),
        _ => Err(bad("its vocabulary is no Whisper model's: it is damaged, pull it again")),
    }
}

/// The words that whisper.cpp looks up by name and that this file lacks; `None` where it ends too soon or makes no sense.
fn vocabulary(file: &mut BufReader<std::fs::File>) -> Option<Vec<&'static [u8]>> {
    let number = |file: &mut BufReader<std::fs::File>| {
        let mut bytes = [0u8; 4];
        file.read_exact(&mut bytes).ok()?;
        usize::try_from(i32::from_le_bytes(bytes)).ok()
    };
    let (mels, bins) = (number(file)?, number(file)?);
    if mels > 128 || bins > 1_024 {
        return None;
    }
    file.seek_relative(i64::try_from(mels * bins * 4).ok()?).ok()?;
    let words = number(file)?;
    let mut missing: Vec<&'static [u8]> = vec![b" ", b" -", b" '"];
    let mut word = Vec::new();
    for _ in 0..words.min(60_000) {
        let len = number(file)?;
        if len > 1_024 {
            return None;
        }
        word.resize(len, 0);
        file.read_exact(&mut word).ok()?;
        missing.retain(|wanted| *wanted != word);
    }
    Some(missing)
}

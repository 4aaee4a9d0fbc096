//! `sphinx`: recognition against a grammar by PocketSphinx, offline, at a few percent of one core.
//!
//! Two searches hear each utterance: one follows the grammar, the other any sequence of phones. How much better the
//! second explains the sound tells whether the caller said something of the grammar at all (rejection).
//!
//! Everything is the measured choice: features are made here ([`features`]), a narrow band is filled up ([`band`]), the
//! level is settled once per utterance ([`level`]), and a path that the grammar's search was cut short on is read again
//! by the grammar before it is believed.

mod band;
mod dictionary;
mod features;
mod fsg;
mod level;
mod rejection;
mod spelling;
mod sys;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use codecs::SampleRate;

use self::dictionary::Dictionary;
use self::features::{Features, Frame, Mels};
use self::level::Level;
use self::sys::{Decoded, Decoder};
use super::worker::{Engine, Limits, MakeEngine, Workers};
use super::{EarError, Hypothesis, Recognizer, RecognizerStream, StreamConfig, Word};
use crate::grammar::Grammar;

/// Where Debian's package pocketsphinx-en-us puts the English model.
pub const DEBIAN_MODEL: &str = "/usr/share/pocketsphinx/model/en-us";

const PROVIDER: &str = "sphinx";
/// The model's parts: a folder and two files.
const ACOUSTIC: &str = "en-us";
const PHONES: &str = "en-us-phone.lm.bin";
const WORDS: &str = "cmudict-en-us.dict";
/// Audio that may wait for a decoder before an utterance is given up.
const BACKLOG: Duration = Duration::from_secs(20);
/// Decoder pairs kept for the next utterance.
const MAX_IDLE: usize = 16;
/// Words that one decoder learns before it is replaced by a fresh one.
const MAX_WORDS: usize = 4_000;
/// Milliseconds from one frame to the next.
const FRAME_MS: u32 = 10;
/// Frames between two partial hypotheses.
const PARTIAL_FRAMES: usize = 10;
/// How much the grammar's own probabilities count beside the sound.
const LANGUAGE_WEIGHT: f32 = 6.5;
/// The mean of the acoustic model's training data, which each utterance's features are taken relative to.
const MEAN: Frame = [41.0, -5.29, -0.12, 5.09, 2.48, -4.07, -1.37, -1.78, -5.08, -2.05, -6.45, -1.42, 1.17];

/// What can be set.
#[derive(Clone, Debug)]
pub struct SphinxConfig {
    /// The folder that holds `en-us/`, `cmudict-en-us.dict` and `en-us-phone.lm.bin`.
    pub model_dir: PathBuf,
    /// Threads that decode; 0: one for each core.
    pub threads: usize,
    /// Utterances recognised at once; each takes about 20 MB while it lasts.
    pub max_streams: usize,
}

impl Default for SphinxConfig {
    fn default() -> Self {
        Self { model_dir: DEBIAN_MODEL.into(), threads: 0, max_streams: 64 }
    }
}

/// The recogniser.
pub struct Sphinx {
    workers: Workers,
    shared: Arc<Shared>,
}

struct Shared {
    acoustic: PathBuf,
    phones: PathBuf,
    /// The model's own settings.
    settings: Vec<(String, String)>,
    dictionary: Dictionary,
    idle: Mutex<Vec<Pair>>,
}

/// The two decoders that hear one utterance.
struct Pair {
    grammar: Decoder,
    phones: Decoder,
    /// The grammar that `grammar` is set to, and the words it has learnt so far.
    loaded: Option<u64>,
    words: usize,
}

impl Sphinx {
    /// Checks the model's files, reads the dictionary and starts the threads.
    ///
    /// # Errors
    /// [`EarError::ModelMissing`] with the Debian package to install, [`EarError::ModelBad`].
    pub fn new(config: SphinxConfig) -> Result<Self, EarError> {
        Self::check(&config)?;
        let folder = &config.model_dir;
        let (acoustic, phones, words) = (folder.join(ACOUSTIC), folder.join(PHONES), folder.join(WORDS));
        let shared = Shared {
            settings: settings(&acoustic.join("feat.params"))?,
            dictionary: Dictionary::read(&words)?,
            acoustic,
            phones,
            idle: Mutex::default(),
        };
        let threads = if config.threads == 0 { available_parallelism().map_or(1, usize::from) } else { config.threads };
        let limits = Limits { provider: PROVIDER, streams: config.max_streams.max(1), backlog: BACKLOG };
        Ok(Self { workers: Workers::start(limits, threads)?, shared: Arc::new(shared) })
    }

    /// Whether its files are there, without loading them.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(config: &SphinxConfig) -> Result<(), EarError> {
        let folder = &config.model_dir;
        for file in ["mdef", "means", "variances", "sendump", "transition_matrices", "feat.params"] {
            must_be_there(&folder.join(ACOUSTIC).join(file))?;
        }
        must_be_there(&folder.join(PHONES))?;
        must_be_there(&folder.join(WORDS))
    }

    /// Loads a decoder for this grammar while nobody speaks, so that the first utterance does not wait for it.
    pub fn prepare(&self, grammar: Arc<Grammar>) {
        let shared = Arc::clone(&self.shared);
        self.workers.run_when_idle(Box::new(move || match shared.pair(&grammar) {
            Ok(pair) => shared.give_back(pair),
            Err(error) => tracing::warn!(%error, "sphinx can't prepare a grammar"),
        }));
    }

    /// How each word of the grammar is pronounced; for checking names that no dictionary has.
    pub fn pronunciations(&self, grammar: &Grammar) -> Vec<(String, Vec<String>)> {
        let said = |word: &str| (word.to_owned(), self.shared.dictionary.pronunciations(word));
        grammar.vocabulary().into_iter().map(said).collect()
    }
}

impl Recognizer for Sphinx {
    fn name(&self) -> &str {
        PROVIDER
    }

    fn open(&self, config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError> {
        let spoken = config.language.split(['-', '_']).next().unwrap_or("");
        if !spoken.is_empty() && !spoken.eq_ignore_ascii_case("en") {
            return Err(EarError::Language { provider: PROVIDER, language: config.language });
        }
        let missing = || EarError::Grammar("sphinx recognises against a grammar only: give it phrases".into());
        let grammar = config.grammar.ok_or_else(missing)?;
        if grammar.network().transitions().next().is_none() {
            return Err(EarError::Grammar("the grammar has no phrases".into()));
        }
        self.shared.check(&grammar)?;
        let shared = Arc::clone(&self.shared);
        let narrow = if config.rate == SampleRate::HZ_8000 { Some(true) } else { None };
        let make: MakeEngine = Box::new(move |_| Ok(Box::new(Listener::new(shared, grammar, narrow)?)));
        self.workers.open(config.rate, make)
    }
}

impl Shared {
    /// Every word must have a pronunciation.
    fn check(&self, grammar: &Grammar) -> Result<(), EarError> {
        match grammar.vocabulary().into_iter().find(|word| self.dictionary.pronunciations(word).is_empty()) {
            None => Ok(()),
            Some(word) => Err(EarError::Grammar(format!("`{word}` can't be pronounced: write it as it is spoken"))),
        }
    }

    /// Decoders set to this grammar: idle ones that know it already, else any idle ones, else new ones.
    fn pair(&self, grammar: &Grammar) -> Result<Pair, EarError> {
        let hash = Some(grammar.hash());
        let idle = {
            let mut idle = lock(&self.idle);
            let at = idle.iter().position(|pair| pair.loaded == hash).or_else(|| idle.len().checked_sub(1));
            at.map(|at| idle.swap_remove(at))
        };
        let mut pair = match idle {
            Some(pair) if pair.loaded == hash || pair.words < MAX_WORDS => pair,
            _ => self.new_pair().map_err(engine_error)?,
        };
        if pair.loaded != hash {
            pair.loaded = None;
            self.load(&mut pair, grammar).map_err(engine_error)?;
            pair.loaded = hash;
        }
        Ok(pair)
    }

    fn new_pair(&self) -> Result<Pair, String> {
        let acoustic = self.acoustic.display().to_string();
        let mut options: Vec<(&str, &str)> = vec![
            ("-hmm", &acoustic),
            // Else the model's own file would override what is set here.
            ("-featparams", "/dev/null"),
            ("-dict", "/dev/null"),
            ("-bestpath", "no"),
            ("-fwdflat", "no"),
            ("-compallsen", "yes"),
            ("-cmn", "none"),
            ("-allphone_ci", "yes"),
            // Twice the usual: over G.711, from 94 % right to 100 % of the voices it was chosen with, for 40 % more work.
            ("-topn", "8"),
        ];
        options.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let grammar = Decoder::new(&options)?;
        let mut phones = Decoder::new(&options)?;
        phones.set_phones("phones", &self.phones.display().to_string())?;
        phones.choose("phones")?;
        Ok(Pair { grammar, phones, loaded: None, words: 0 })
    }

    fn load(&self, pair: &mut Pair, grammar: &Grammar) -> Result<(), String> {
        for word in grammar.vocabulary() {
            if pair.grammar.knows(word) {
                continue;
            }
            for (phones, number) in self.dictionary.pronunciations(word).iter().zip(1..) {
                let name = if number == 1 { word.to_owned() } else { format!("{word}({number})") };
                pair.grammar.add_word(&name, phones)?;
                pair.words += 1;
            }
        }
        pair.grammar.set_grammar("said", &fsg::fsg("said", grammar.network()), LANGUAGE_WEIGHT)?;
        pair.grammar.choose("said")
    }

    fn give_back(&self, pair: Pair) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(pair);
        }
    }
}

/// One utterance.
struct Listener {
    shared: Arc<Shared>,
    grammar: Arc<Grammar>,
    /// Gone once given back.
    pair: Option<Pair>,
    features: Features,
    level: Level,
    /// Whether the upper band is empty: so by its rate, or by what was heard.
    narrow: Option<bool>,
    frames: usize,
    partial_at: usize,
    said: String,
}

impl Listener {
    fn new(shared: Arc<Shared>, grammar: Arc<Grammar>, narrow: Option<bool>) -> Result<Self, EarError> {
        let pair = shared.pair(&grammar)?;
        Ok(Self {
            shared,
            grammar,
            pair: Some(pair),
            features: Features::new(),
            level: Level::default(),
            narrow,
            frames: 0,
            partial_at: 0,
            said: String::new(),
        })
    }

    /// Hands on what is ready to both decoders.
    fn decode(&mut self) -> Result<(), String> {
        if self.narrow.is_none() {
            self.narrow = Some(band::is_narrow(self.level.speech()));
        }
        let mut cepstra = Vec::new();
        for mut mels in self.level.take() {
            if self.narrow == Some(true) {
                band::fill(&mut mels);
            }
            let mut frame = features::cepstrum(&mels);
            frame.iter_mut().zip(MEAN).for_each(|(value, mean)| *value -= mean);
            cepstra.push(frame);
        }
        let Some(pair) = self.pair.as_mut().filter(|_| !cepstra.is_empty()) else { return Ok(()) };
        if self.frames == 0 {
            pair.grammar.start()?;
            pair.phones.start()?;
        }
        self.frames += cepstra.len();
        pair.grammar.hear(&mut cepstra)?;
        pair.phones.hear(&mut cepstra)
    }

    fn partial(&mut self) -> Option<Hypothesis> {
        if self.frames < self.partial_at + PARTIAL_FRAMES {
            return None;
        }
        self.partial_at = self.frames;
        let pair = self.pair.as_mut()?;
        let text = pair.grammar.text();
        if text.is_empty() || text == self.said {
            return None;
        }
        self.said.clone_from(&text);
        let decoded = pair.grammar.decoded();
        Some(Hypothesis::Partial { text: decoded.text.clone(), words: words(&decoded, 0.0) })
    }

    fn judge(&mut self) -> Result<Hypothesis, String> {
        let mut pair = self.pair.take().ok_or("the utterance was concluded before")?;
        pair.grammar.end()?;
        pair.phones.end()?;
        let (said, sounded) = (pair.grammar.decoded(), pair.phones.decoded());
        self.shared.give_back(pair);
        let confidence = rejection::confidence(&said, &sounded);
        let known = self.grammar.match_text(&said.text).is_some();
        let accepted = known && confidence >= rejection::ACCEPT;
        let words = words(&said, confidence);
        Ok(Hypothesis::Final { text: said.text, words, confidence: if known { confidence } else { 0.0 }, accepted })
    }
}

impl Engine for Listener {
    fn hear(&mut self, pcm: &[i16]) -> Result<Option<Hypothesis>, EarError> {
        let mut mels: Vec<Mels> = Vec::new();
        self.features.push(pcm, &mut mels);
        self.level.push(&mut mels);
        if !self.level.is_settled() {
            return Ok(None);
        }
        self.decode().map_err(engine_error)?;
        Ok(self.partial())
    }

    fn conclude(&mut self) -> Result<Hypothesis, EarError> {
        if !self.level.settle() {
            if let Some(pair) = self.pair.take() {
                self.shared.give_back(pair);
            }
            return Ok(Hypothesis::Final { text: String::new(), words: Vec::new(), confidence: 0.0, accepted: false });
        }
        self.decode().map_err(engine_error)?;
        self.judge().map_err(engine_error)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Cancelled: the decoders must end the utterance before they can start another.
        if let Some(mut pair) = self.pair.take()
            && (self.frames == 0 || (pair.grammar.end().is_ok() && pair.phones.end().is_ok()))
        {
            self.shared.give_back(pair);
        }
    }
}

fn words(decoded: &Decoded, confidence: f32) -> Vec<Word> {
    let spoken = decoded.segments.iter().filter(|segment| !segment.word.starts_with(['<', '[', '(']));
    let word = spoken.map(|segment| Word {
        text: segment.word.split('(').next().unwrap_or("").to_owned(),
        start_ms: segment.first.max(0) as u32 * FRAME_MS,
        end_ms: (segment.last.max(0) as u32 + 1) * FRAME_MS,
        confidence,
    });
    word.collect()
}

fn must_be_there(path: &Path) -> Result<(), EarError> {
    if path.is_file() {
        return Ok(());
    }
    Err(EarError::ModelMissing {
        what: "PocketSphinx' English model".into(),
        path: path.display().to_string(),
        mend: "apt-get install pocketsphinx-en-us, or set the folder of the model".into(),
    })
}

/// The settings of `feat.params` that concern what follows the cepstra, which are made here.
fn settings(path: &Path) -> Result<Vec<(String, String)>, EarError> {
    let bad = |reason: String| EarError::ModelBad { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    let (own, other): (Vec<_>, Vec<_>) = pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .partition(|(name, _)| ["-feat", "-svspec", "-agc", "-varnorm"].contains(&name.as_str()));
    match other.iter().find(|(name, _)| name == "-nfilt") {
        Some((_, filters)) if filters.parse() == Ok(features::FILTERS) => Ok(own),
        _ => Err(bad(format!("this is a model for other features than {} mel filters", features::FILTERS))),
    }
}

fn engine_error(reason: String) -> EarError {
    EarError::Engine { provider: PROVIDER, reason }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

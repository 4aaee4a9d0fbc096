//! What every recogniser promises, and each provider's own errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agent::ear::openai::{OpenAiEar, OpenAiEarConfig};
use agent::ear::sphinx::{DEBIAN_MODEL, Sphinx, SphinxConfig};
use agent::ear::whisper::{Whisper, WhisperConfig};
use agent::ear::{
    EarError, Hypothesis, LEAD_IN, LEAD_OUT, MAX_UTTERANCE, Recognizer, RecognizerStream, StreamConfig, next_hypothesis,
};
use agent::grammar::{Grammar, Rule};
use codecs::SampleRate;
use tokio::time::timeout;

#[path = "ear_contract/server.rs"]
mod server;
#[path = "ear_contract/whisper_file.rs"]
mod whisper_file;

/// No single step takes longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

fn grammar() -> Arc<Grammar> {
    let rules = vec![
        Rule::new("hours", ["what are your opening hours", "when are you open"]),
        Rule::new("book", ["[i want to] (book|make) an appointment [on {day}]"]),
        Rule::new("bye", ["goodbye"]),
    ];
    Arc::new(Grammar::new(rules, BTreeMap::new()).unwrap())
}

fn config() -> StreamConfig {
    StreamConfig { rate: SampleRate::HZ_16000, grammar: Some(grammar()), language: "en-US".into() }
}

/// What Flite says, at 16 kHz, with a quiet line around it.
fn speech(said: &str) -> Vec<i16> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    let status = Command::new("flite").args(["-voice", "rms", "-t", said, "-o"]).arg(&file).status().unwrap();
    assert!(status.success(), "flite is needed: apt-get install flite");
    let voice = hound::WavReader::open(&file).unwrap().into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>();
    let pause = |of: Duration| (0..SampleRate::HZ_16000.samples_in(of)).map(|n| (n % 7) as i16 - 3).collect::<Vec<_>>();
    [pause(LEAD_IN), voice, pause(LEAD_OUT)].concat()
}

async fn next(stream: &mut dyn RecognizerStream) -> Option<Hypothesis> {
    timeout(PATIENCE, next_hypothesis(stream)).await.expect("the recogniser says nothing")
}

async fn last(stream: &mut dyn RecognizerStream) -> Hypothesis {
    loop {
        match next(stream).await.expect("the stream ended without a final hypothesis") {
            Hypothesis::Partial { .. } => {}
            other => return other,
        }
    }
}

fn push_all(stream: &mut dyn RecognizerStream, pcm: &[i16]) {
    for frame in pcm.chunks(320) {
        stream.push(frame).unwrap();
    }
}

async fn holds(recognizer: &dyn Recognizer) {
    let pcm = speech("when are you open");
    one_final_and_then_the_end(recognizer, &pcm).await;
    silence_has_no_words(recognizer).await;
    nothing_follows_cancel(recognizer, &pcm).await;
    two_streams_do_not_mix(recognizer, &pcm).await;
    a_dropped_stream_frees_its_place(recognizer, &pcm).await;
    too_long_an_utterance_is_refused(recognizer).await;
    an_odd_rate_is_refused(recognizer);
}

async fn one_final_and_then_the_end(recognizer: &dyn Recognizer, pcm: &[i16]) {
    let mut stream = recognizer.open(config()).unwrap();
    push_all(stream.as_mut(), pcm);
    stream.finish();
    stream.finish();
    assert_eq!(stream.push(&[0; 320]), Err(EarError::Closed));
    assert!(matches!(last(stream.as_mut()).await, Hypothesis::Final { .. }));
    assert_eq!(next(stream.as_mut()).await, None);
    assert_eq!(next(stream.as_mut()).await, None);
    stream.finish();
    assert_eq!(next(stream.as_mut()).await, None);
}

async fn silence_has_no_words(recognizer: &dyn Recognizer) {
    for samples in [0, 8_000] {
        let mut stream = recognizer.open(config()).unwrap();
        push_all(stream.as_mut(), &vec![0; samples]);
        stream.finish();
        let Hypothesis::Final { text, accepted, words, .. } = last(stream.as_mut()).await else { panic!("no final") };
        assert_eq!((text.as_str(), accepted, words.len()), ("", false, 0));
    }
}

async fn nothing_follows_cancel(recognizer: &dyn Recognizer, pcm: &[i16]) {
    let mut stream = recognizer.open(config()).unwrap();
    push_all(stream.as_mut(), pcm);
    stream.finish();
    stream.cancel();
    assert_eq!(next(stream.as_mut()).await, None);
    assert_eq!(stream.push(&[0; 320]), Err(EarError::Closed));
    stream.finish();
    assert_eq!(next(stream.as_mut()).await, None);
}

async fn two_streams_do_not_mix(recognizer: &dyn Recognizer, pcm: &[i16]) {
    let (mut speaks, mut is_silent) = (recognizer.open(config()).unwrap(), recognizer.open(config()).unwrap());
    for frame in pcm.chunks(320) {
        speaks.push(frame).unwrap();
        is_silent.push(&[0; 320]).unwrap();
    }
    is_silent.finish();
    speaks.finish();
    assert!(matches!(last(speaks.as_mut()).await, Hypothesis::Final { .. }));
    assert!(matches!(last(is_silent.as_mut()).await, Hypothesis::Final { text, .. } if text.is_empty()));
}

async fn a_dropped_stream_frees_its_place(recognizer: &dyn Recognizer, pcm: &[i16]) {
    // Each of these providers is set to four streams at once.
    for _ in 0..6 {
        let mut stream = recognizer.open(config()).unwrap();
        push_all(stream.as_mut(), pcm);
        drop(stream);
    }
    let mut open: Vec<_> = (0..4).map(|_| recognizer.open(config()).unwrap()).collect();
    let refused = recognizer.open(config()).err();
    assert!(matches!(refused, Some(EarError::Busy { limit: 4, .. })), "{refused:?}");
    open.pop();
    assert!(recognizer.open(config()).is_ok());
}

async fn too_long_an_utterance_is_refused(recognizer: &dyn Recognizer) {
    let mut stream = recognizer.open(config()).unwrap();
    let limit = SampleRate::HZ_16000.samples_in(MAX_UTTERANCE);
    let refused = stream.push(&vec![0; limit + 1]).unwrap_err();
    assert!(matches!(refused, EarError::TooLong { .. }), "{refused}");
    assert_eq!(last(stream.as_mut()).await, Hypothesis::Failed(refused));
    assert_eq!(next(stream.as_mut()).await, None);
}

fn an_odd_rate_is_refused(recognizer: &dyn Recognizer) {
    let odd = StreamConfig { rate: SampleRate(7_919), ..config() };
    assert!(matches!(recognizer.open(odd).err(), Some(EarError::WrongRate { got_hz: 7_919, .. })));
}

fn sphinx() -> Sphinx {
    Sphinx::new(SphinxConfig { max_streams: 4, threads: 2, ..SphinxConfig::default() }).unwrap()
}

#[tokio::test]
async fn sphinx_holds_the_contract() {
    holds(&sphinx()).await;
}

#[tokio::test]
async fn sphinx_understands_a_phrase_at_every_rate_with_word_times() {
    let ear = sphinx();
    let pcm = speech("book an appointment on friday");
    let narrow: Vec<i16> =
        pcm.chunks_exact(2).map(|pair| ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16).collect();
    for (rate, pcm) in [(SampleRate::HZ_16000, pcm), (SampleRate::HZ_8000, narrow)] {
        let mut stream = ear.open(StreamConfig { rate, ..config() }).unwrap();
        push_all(stream.as_mut(), &pcm);
        stream.finish();
        let Hypothesis::Final { text, words, confidence, accepted } = last(stream.as_mut()).await else {
            panic!("no final")
        };
        assert_eq!(text, "book an appointment on friday");
        assert!(accepted && confidence > 0.5, "{confidence}");
        assert_eq!(words.len(), 5);
        assert!(words.windows(2).all(|two| two[0].end_ms <= two[1].start_ms + 10), "{words:?}");
        assert!((200..800).contains(&words[0].start_ms), "{words:?}");
    }
}

#[tokio::test]
async fn sphinx_understands_callers_from_a_whisper_to_a_shout() {
    let ear = sphinx();
    let pcm = speech("what are your opening hours");
    // From 30 dB down to clipped.
    for gain in [0.03, 0.2, 4.0] {
        let pcm: Vec<i16> = pcm.iter().map(|sample| (f32::from(*sample) * gain) as i16).collect();
        let mut stream = ear.open(config()).unwrap();
        push_all(stream.as_mut(), &pcm);
        stream.finish();
        let heard = last(stream.as_mut()).await;
        assert!(
            matches!(&heard, Hypothesis::Final { text, accepted: true, .. } if text == "what are your opening hours"),
            "at {gain}: {heard:?}"
        );
    }
}

#[tokio::test]
async fn sphinx_hears_the_same_whoever_spoke_before() {
    let ear = Sphinx::new(SphinxConfig { threads: 1, max_streams: 4, ..SphinxConfig::default() }).unwrap();
    let mut results = Vec::new();
    for said in ["goodbye", "when are you open", "my cat is sleeping on the sofa", "when are you open"] {
        let mut stream = ear.open(config()).unwrap();
        push_all(stream.as_mut(), &speech(said));
        stream.finish();
        results.push(last(stream.as_mut()).await);
    }
    assert_eq!(results[1], results[3]);
}

#[tokio::test]
async fn sphinx_does_not_take_another_sentence_for_a_phrase() {
    let ear = sphinx();
    let mut stream = ear.open(config()).unwrap();
    push_all(stream.as_mut(), &speech("my cat is sleeping on the sofa"));
    stream.finish();
    assert!(matches!(last(stream.as_mut()).await, Hypothesis::Final { accepted: false, .. }));
}

#[tokio::test]
async fn sphinx_gives_partial_hypotheses_while_the_caller_speaks() {
    let ear = sphinx();
    let mut stream = ear.open(config()).unwrap();
    push_all(stream.as_mut(), &speech("i want to make an appointment on wednesday"));
    // Not finished: what comes is a guess.
    let Some(Hypothesis::Partial { text, words }) = next(stream.as_mut()).await else { panic!("no partial") };
    assert!(!text.is_empty() && !words.is_empty());
}

#[tokio::test]
async fn sphinx_says_what_it_needs() {
    let missing = SphinxConfig { model_dir: "/nowhere".into(), ..SphinxConfig::default() };
    let Err(error) = Sphinx::new(missing) else { panic!("it started") };
    assert!(error.to_string().contains("apt-get install pocketsphinx-en-us"), "{error}");
    assert!(Path::new(DEBIAN_MODEL).is_dir());
    let ear = sphinx();
    let refused = |config: StreamConfig| ear.open(config).err().expect("it opened");
    assert!(matches!(refused(StreamConfig { grammar: None, ..config() }), EarError::Grammar(_)));
    assert!(matches!(refused(StreamConfig { language: "de".into(), ..config() }), EarError::Language { .. }));
    let odd = Grammar::new(vec![Rule::new("odd", ["call ''"])], BTreeMap::new());
    assert!(odd.is_ok(), "an apostrophe alone is no word");
    let unknown = Grammar::new(vec![Rule::new("name", ["call zorbquist"])], BTreeMap::new()).unwrap();
    let said = ear.pronunciations(&unknown);
    assert!(said.iter().any(|(word, phones)| word == "zorbquist" && !phones.is_empty()), "{said:?}");
}

fn whisper(folder: &Path) -> Whisper {
    let model = std::env::var_os("OMNIVOX_WHISPER_MODEL").map_or_else(|| whisper_file::write(folder), Into::into);
    Whisper::new(WhisperConfig { max_streams: 4, workers: 2, threads: 1, ..WhisperConfig::new(model) }).unwrap()
}

#[tokio::test]
async fn whisper_holds_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    holds(&whisper(folder.path())).await;
}

#[tokio::test]
async fn whisper_says_what_is_wrong_with_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |path: &Path| Whisper::new(WhisperConfig::new(path)).err().expect("it loaded");
    let missing = fault(&folder.path().join("none.bin"));
    assert!(missing.to_string().contains("omnivox models pull"), "{missing}");
    let whole = std::fs::read(whisper_file::write(folder.path())).unwrap();
    let wrong = folder.path().join("wrong.bin");
    let mut huge = whole.clone();
    huge[8..12].copy_from_slice(&i32::MAX.to_le_bytes());
    // Cut inside the vocabulary, and with the words that are looked up spelled otherwise.
    let cut = &whole[..200_000];
    let mut wordless = whole.clone();
    let vocabulary = 48 + 8 + 80 * 201 * 4;
    wordless[vocabulary + 8] = b'x';
    for bytes in [&b""[..], b"RIFF", &[0; 4_096], &whole[..40], &huge, cut, &wordless] {
        std::fs::write(&wrong, bytes).unwrap();
        assert!(matches!(fault(&wrong), EarError::ModelBad { .. }), "{} bytes", bytes.len());
    }
    let ear = whisper(folder.path());
    let german = ear.open(StreamConfig { language: "de".into(), ..config() });
    assert!(matches!(german.err(), Some(EarError::Language { .. })));
}

fn remote(base_url: String) -> OpenAiEar {
    let key = Some("secret".to_owned());
    let timeout = Duration::from_secs(20);
    OpenAiEar::new(OpenAiEarConfig { base_url, api_key: key, max_streams: 4, timeout, ..OpenAiEarConfig::default() })
        .unwrap()
}

#[tokio::test]
async fn openai_holds_the_contract() {
    let server = server::start(server::Answer::Words).await;
    holds(&remote(server.base_url.clone())).await;
}

#[tokio::test]
async fn openai_sends_a_wav_file_and_reads_words_and_confidence() {
    let server = server::start(server::Answer::Words).await;
    let ear = remote(server.base_url.clone());
    let mut stream = ear.open(StreamConfig { rate: SampleRate::HZ_8000, ..config() }).unwrap();
    let pcm = speech("when are you open");
    push_all(stream.as_mut(), &pcm);
    stream.finish();
    let Hypothesis::Final { text, words, confidence, accepted } = last(stream.as_mut()).await else {
        panic!("no final")
    };
    assert_eq!(text, "when are you open?");
    assert!(accepted);
    assert_eq!((words.len(), words[3].text.as_str(), words[3].start_ms, words[3].end_ms), (4, "open", 900, 1_300));
    assert!((confidence - 0.9f32).abs() < 0.05, "{confidence}");
    let seen = server.seen();
    assert_eq!(seen.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(seen.fields["model"], "whisper-1");
    assert_eq!(seen.fields["language"], "en");
    assert_eq!(seen.fields["response_format"], "verbose_json");
    let mut wav = hound::WavReader::new(seen.file.as_slice()).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels, wav.spec().bits_per_sample), (8_000, 1, 16));
    assert_eq!(wav.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), pcm);
}

#[tokio::test]
async fn openai_tells_one_fault_from_another() {
    use server::Answer;
    for answer in [Answer::Unauthorised, Answer::Broken, Answer::NoJson, Answer::Cut, Answer::Huge, Answer::Never] {
        let server = server::start(answer).await;
        let limit = if answer == Answer::Never { Duration::from_millis(200) } else { Duration::from_secs(20) };
        let base_url = server.base_url.clone();
        let ear = OpenAiEar::new(OpenAiEarConfig { base_url, timeout: limit, ..OpenAiEarConfig::default() }).unwrap();
        let mut stream = ear.open(config()).unwrap();
        push_all(stream.as_mut(), &speech("when are you open"));
        stream.finish();
        let Hypothesis::Failed(error) = last(stream.as_mut()).await else { panic!("{answer:?} did not fail") };
        let right = match answer {
            Answer::Unauthorised => matches!(error, EarError::Unauthorised { status: 401, .. }),
            Answer::Broken => matches!(&error, EarError::Status { status: 503, body, .. } if body == "out of order"),
            Answer::NoJson | Answer::Huge => matches!(error, EarError::BadAnswer { .. }),
            Answer::Cut => matches!(error, EarError::Unreachable { .. }),
            Answer::Never => matches!(error, EarError::TimedOut { limit_ms: 200, .. }),
            Answer::Words => false,
        };
        assert!(right, "{answer:?}: {error}");
        assert_eq!(next(stream.as_mut()).await, None);
    }
}

#[test]
fn openai_refuses_an_address_that_is_none() {
    for base_url in ["", "nonsense", "ftp://example.org/v1"] {
        let config = OpenAiEarConfig { base_url: base_url.into(), ..OpenAiEarConfig::default() };
        assert!(OpenAiEar::new(config).is_err(), "{base_url}");
    }
}

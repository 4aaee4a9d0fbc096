//! Phrases said often, kept as PCM: bounded in bytes, the longest unused goes first.
//!
//! All calls share one [`PhraseCache`]. While a phrase is being made, others that ask for it read along: one synthesis
//! serves them all, each gets its audio as it comes, and it is cancelled when the last of them is gone. A synthesis
//! that failed is not kept.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use codecs::pcm::SampleRate;
use futures::Stream;

use super::{SpeechStream, Voice, VoiceError, check_text};

/// A phrase of more than this share of the cache is not kept.
const LARGEST_SHARE: usize = 4;

/// What a phrase takes besides its samples and its key, in bytes, about.
const OVERHEAD_BYTES: usize = 128;

/// PCM of phrases by voice and text.
#[derive(Debug)]
pub struct PhraseCache {
    state: Mutex<State>,
    limit_bytes: usize,
}

/// What a cache holds and did, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Phrases kept.
    pub phrases: usize,
    /// Their size with keys, in bytes.
    pub size_bytes: usize,
    /// Asked for and there.
    pub hits: u64,
    /// Asked for while being made for another.
    pub shared: u64,
    /// Asked for and not there.
    pub misses: u64,
    /// Dropped for lack of room.
    pub evicted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    voice: Arc<str>,
    text: String,
}

#[derive(Debug)]
struct Phrase {
    pcm: Arc<[i16]>,
    used: u64,
}

#[derive(Debug, Default)]
struct State {
    phrases: HashMap<Key, Phrase>,
    /// By last use, the oldest first.
    order: BTreeMap<u64, Key>,
    flights: HashMap<Key, Weak<Flight>>,
    uses: u64,
    stats: CacheStats,
}

impl PhraseCache {
    /// Holds at most `limit_bytes` bytes; 0 keeps nothing (readers still share what is being made).
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { state: Mutex::default(), limit_bytes }
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let state = self.lock();
        CacheStats { phrases: state.phrases.len(), ..state.stats }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phrase, if it is there or being made.
    fn find(&self, key: &Key) -> Option<Found> {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(phrase) = state.phrases.get_mut(key) {
            state.uses += 1;
            state.order.remove(&phrase.used);
            state.order.insert(state.uses, key.clone());
            phrase.used = state.uses;
            state.stats.hits += 1;
            return Some(Found::Pcm(Arc::clone(&phrase.pcm)));
        }
        let flight = state.flights.get(key).and_then(Weak::upgrade)?;
        state.stats.shared += 1;
        Some(Found::Flight(flight))
    }

    /// Registers a synthesis, unless another was quicker: then that one.
    fn take_off(&self, key: &Key, flight: Arc<Flight>) -> Arc<Flight> {
        let mut state = self.lock();
        if let Some(other) = state.flights.get(key).and_then(Weak::upgrade) {
            state.stats.shared += 1;
            return other;
        }
        state.stats.misses += 1;
        state.flights.insert(key.clone(), Arc::downgrade(&flight));
        flight
    }

    /// Ends a synthesis: `pcm` is kept if it fits.
    fn land(&self, key: &Key, pcm: Option<&[i16]>) {
        let mut state = self.lock();
        let state = &mut *state;
        // A younger flight of the same phrase stays: only one that is over is taken out.
        if pcm.is_some() || state.flights.get(key).is_some_and(|flight| flight.strong_count() == 0) {
            state.flights.remove(key);
        }
        let Some(pcm) = pcm else { return };
        let size_bytes = size_bytes(key, pcm);
        if size_bytes > self.limit_bytes / LARGEST_SHARE || state.phrases.contains_key(key) {
            return;
        }
        while state.stats.size_bytes + size_bytes > self.limit_bytes {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            if let Some(phrase) = state.phrases.remove(&oldest) {
                state.stats.size_bytes -= self::size_bytes(&oldest, &phrase.pcm);
                state.stats.evicted += 1;
            }
        }
        state.uses += 1;
        state.order.insert(state.uses, key.clone());
        state.phrases.insert(key.clone(), Phrase { pcm: pcm.into(), used: state.uses });
        state.stats.size_bytes += size_bytes;
    }
}

/// A voice whose phrases go through a cache.
pub struct CachedVoice {
    voice: Arc<dyn Voice>,
    identity: Arc<str>,
    cache: Arc<PhraseCache>,
}

impl CachedVoice {
    /// `voice` through `cache`.
    #[must_use]
    pub fn new(voice: Arc<dyn Voice>, cache: Arc<PhraseCache>) -> Self {
        let identity = voice.identity().into();
        Self { voice, identity, cache }
    }
}

impl Voice for CachedVoice {
    fn name(&self) -> &str {
        self.voice.name()
    }

    fn rate(&self) -> SampleRate {
        self.voice.rate()
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        check_text(text)?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let key = Key { voice: Arc::clone(&self.identity), text };
        let flight = match self.cache.find(&key) {
            Some(Found::Pcm(pcm)) => return Ok(SpeechStream::ready(pcm.to_vec()).kept()),
            Some(Found::Flight(flight)) => return Ok(SpeechStream::new(Reader { flight, read: 0 }).kept()),
            None => {
                // Not under the cache's lock: an engine may take its time here.
                let stream = self.voice.speak(&key.text)?;
                let flight = Arc::new(Flight::new(key.clone(), Arc::clone(&self.cache), stream));
                self.cache.take_off(&key, flight)
            }
        };
        Ok(SpeechStream::new(Reader { flight, read: 0 }))
    }

    fn identity(&self) -> String {
        self.identity.to_string()
    }
}

enum Found {
    Pcm(Arc<[i16]>),
    Flight(Arc<Flight>),
}

/// A synthesis with one reader or more, driven by whichever polls.
#[derive(Debug)]
struct Flight {
    key: Key,
    cache: Arc<PhraseCache>,
    progress: Mutex<Progress>,
    readers: Arc<Readers>,
}

#[derive(Debug)]
struct Progress {
    /// `None` when it is over.
    stream: Option<SpeechStream>,
    pcm: Vec<i16>,
    failed: Option<VoiceError>,
}

/// Wakes all who wait for a flight.
#[derive(Debug, Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Readers {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl Flight {
    fn new(key: Key, cache: Arc<PhraseCache>, stream: SpeechStream) -> Self {
        let progress = Progress { stream: Some(stream), pcm: Vec::new(), failed: None };
        Self { key, cache, progress: Mutex::new(progress), readers: Arc::default() }
    }

    /// Samples from `read` on, once there are any.
    fn poll_from(&self, read: usize, cx: &Context<'_>) -> Poll<Option<Result<Vec<i16>, VoiceError>>> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = &mut *progress;
        loop {
            if let Some(news) = progress.pcm.get(read..).filter(|news| !news.is_empty()) {
                return Poll::Ready(Some(Ok(news.to_vec())));
            }
            let Some(stream) = progress.stream.as_mut() else {
                return Poll::Ready(progress.failed.clone().map(Err));
            };
            // Before the poll: what happens between it and a later registration would wake nobody.
            self.readers.add(cx.waker());
            let waker = Waker::from(Arc::clone(&self.readers));
            match Pin::new(stream).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => progress.pcm.extend_from_slice(&chunk),
                Poll::Ready(Some(Err(error))) => {
                    progress.failed = Some(error);
                    progress.stream = None;
                }
                Poll::Ready(None) => {
                    progress.stream = None;
                    self.cache.land(&self.key, Some(&progress.pcm));
                }
            }
            // The others have something to read, too.
            self.readers.wake_all();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cache.land(&self.key, None);
    }
}

/// One reader's place in a flight.
struct Reader {
    flight: Arc<Flight>,
    read: usize,
}

impl Stream for Reader {
    type Item = Result<Vec<i16>, VoiceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let poll = self.flight.poll_from(self.read, cx);
        if let Poll::Ready(Some(Ok(news))) = &poll {
            self.read += news.len();
        }
        poll
    }
}

fn size_bytes(key: &Key, pcm: &[i16]) -> usize {
    size_of_val(pcm) + key.text.len() * 2 + OVERHEAD_BYTES
}

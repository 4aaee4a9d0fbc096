//! Flite's C interface, as much of it as is used: Debian's flite1-dev, version 2.2.
//!
//! Flite keeps state on its voices (which are one per process and name), and counts references without atomics: all
//! of this is called from one thread only, which [`super::engine`] owns.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_short, c_void};

/// What to do after a piece of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Make more.
    Continue,
    /// Make no more of this text.
    Stop,
}

/// The voices that are linked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Speaker {
    Rms,
    Slt,
    Awb,
    Kal16,
}

#[repr(C)]
struct RawWave {
    kind: *const c_char,
    sample_rate: c_int,
    num_samples: c_int,
    num_channels: c_int,
    samples: *mut c_short,
}

#[repr(C)]
struct RawStreaming {
    min_buffsize: c_int,
    on_audio: Option<unsafe extern "C" fn(*const RawWave, c_int, c_int, c_int, *mut RawStreaming) -> c_int>,
    utterance: *const c_void,
    item: *const c_void,
    userdata: *mut c_void,
}

/// The head of `cst_voice`: all that is reached into.
#[repr(C)]
struct RawVoice {
    name: *const c_char,
    features: *mut c_void,
}

// agent/build.rs names the libraries.
unsafe extern "C" {
    fn flite_init() -> c_int;
    fn register_cmu_us_rms(directory: *const c_char) -> *mut RawVoice;
    fn register_cmu_us_slt(directory: *const c_char) -> *mut RawVoice;
    fn register_cmu_us_awb(directory: *const c_char) -> *mut RawVoice;
    fn register_cmu_us_kal16(directory: *const c_char) -> *mut RawVoice;
    fn new_audio_streaming_info() -> *mut RawStreaming;
    fn audio_streaming_info_val(info: *const RawStreaming) -> *mut c_void;
    fn flite_feat_set(features: *mut c_void, name: *const c_char, value: *const c_void);
    fn flite_feat_set_float(features: *mut c_void, name: *const c_char, value: f32);
    fn flite_synth_text(text: *const c_char, voice: *mut RawVoice) -> *mut c_void;
    fn delete_utterance(utterance: *mut c_void);
}

const STREAM_CONTINUE: c_int = 0;
const STREAM_STOP: c_int = -1;

/// The smallest piece of audio asked for: Flite goes over it (256 gives 320 samples, 20 ms).
const MIN_PIECE_SAMPLES: c_int = 256;

/// What the callback hands each piece to.
type Sink<'a> = &'a mut dyn FnMut(&[i16], u32) -> Next;

/// Flite, set up once, on the one thread that may use it (it is neither `Send` nor `Sync`).
pub(super) struct Flite {
    voices: Vec<(Speaker, *mut RawVoice, *mut RawStreaming)>,
}

impl Flite {
    /// Sets the library up.
    ///
    /// # Safety
    /// Once per process, and all use of the value stays on the calling thread.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's promise makes this the only use of the library.
        unsafe {
            flite_init();
        }
        Self { voices: Vec::with_capacity(4) }
    }

    /// Speaks one sentence: `on_audio` gets each piece with its rate as soon as it is made, and may stop the rest.
    /// `stretch` is the length of the result over the voice's own. Returns `false` where Flite made nothing of it.
    pub(super) fn speak(
        &mut self,
        speaker: Speaker,
        text: &CStr,
        stretch: f32,
        on_audio: &mut dyn FnMut(&[i16], u32) -> Next,
    ) -> bool {
        let Some((voice, streaming)) = self.voice(speaker) else { return false };
        let mut sink: Sink<'_> = on_audio;
        // SAFETY: `voice` and `streaming` came from Flite and are never freed (they live as long as the process);
        // this thread alone uses them. `sink` outlives the synthesis, after which its address is taken out again.
        // The feature's name is a static string, as Flite keeps the pointer. The utterance is freed once.
        unsafe {
            (*streaming).userdata = (&raw mut sink).cast();
            flite_feat_set_float((*voice).features, c"duration_stretch".as_ptr(), stretch);
            let utterance = flite_synth_text(text.as_ptr(), voice);
            (*streaming).userdata = std::ptr::null_mut();
            if utterance.is_null() {
                return false;
            }
            delete_utterance(utterance);
        }
        true
    }

    /// The voice, registered at its first use.
    fn voice(&mut self, speaker: Speaker) -> Option<(*mut RawVoice, *mut RawStreaming)> {
        if let Some((_, voice, streaming)) = self.voices.iter().find(|(known, ..)| *known == speaker) {
            return Some((*voice, *streaming));
        }
        let register = match speaker {
            Speaker::Rms => register_cmu_us_rms,
            Speaker::Slt => register_cmu_us_slt,
            Speaker::Awb => register_cmu_us_awb,
            Speaker::Kal16 => register_cmu_us_kal16,
        };
        // SAFETY: `new` set the library up, and this thread alone uses it. A null directory means data that is linked
        // in. The voice takes over the reference to the streaming settings and never drops it.
        unsafe {
            let voice = register(std::ptr::null());
            let streaming = new_audio_streaming_info();
            if voice.is_null() || streaming.is_null() {
                return None;
            }
            (*streaming).min_buffsize = MIN_PIECE_SAMPLES;
            (*streaming).on_audio = Some(receive_audio);
            (*streaming).userdata = std::ptr::null_mut();
            flite_feat_set((*voice).features, c"streaming_info".as_ptr(), audio_streaming_info_val(streaming));
            self.voices.push((speaker, voice, streaming));
            Some((voice, streaming))
        }
    }
}

/// Flite's callback: samples `start..start + size` of `wave` are new. The last piece may have none.
unsafe extern "C" fn receive_audio(
    wave: *const RawWave,
    start: c_int,
    size: c_int,
    _last: c_int,
    streaming: *mut RawStreaming,
) -> c_int {
    // SAFETY: Flite calls with the streaming settings that `voice` made and a wave that lives through the call;
    // `userdata` points to the sink in the frame of `speak` beneath, or is null.
    let (wave, sink) = unsafe {
        let userdata = (*streaming).userdata.cast::<Sink<'_>>();
        if userdata.is_null() || wave.is_null() {
            return STREAM_STOP;
        }
        (&*wave, &mut *userdata)
    };
    let (Ok(start), Ok(size)) = (usize::try_from(start), usize::try_from(size)) else { return STREAM_STOP };
    let total = usize::try_from(wave.num_samples).unwrap_or(0);
    let rate_hz = u32::try_from(wave.sample_rate).unwrap_or(0);
    if size == 0 || wave.samples.is_null() || start.saturating_add(size) > total {
        return if size == 0 { STREAM_CONTINUE } else { STREAM_STOP };
    }
    // SAFETY: the range lies within the wave's `num_samples`, and Flite doesn't touch it during the call.
    let pcm = unsafe { std::slice::from_raw_parts(wave.samples.add(start).cast_const(), size) };
    match sink(pcm, rate_hz) {
        Next::Continue => STREAM_CONTINUE,
        Next::Stop => STREAM_STOP,
    }
}

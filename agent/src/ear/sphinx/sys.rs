//! PocketSphinx' C interface, as far as it is needed, and a safe [`Decoder`] over it.
//!
//! The C side is Debian's `libpocketsphinx3` and `libsphinxbase3` (0.8+5prealpha). Its logging is switched off, for it
//! writes to stderr by itself; errors are told by what is returned.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_float, c_int, c_void};
use std::ptr::{self, NonNull};

/// Opaque C types.
#[repr(C)]
struct Raw {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn ps_args() -> *const c_void;
    fn ps_init(config: *mut Raw) -> *mut Raw;
    fn ps_free(ps: *mut Raw) -> c_int;
    fn ps_get_logmath(ps: *mut Raw) -> *mut Raw;
    fn ps_add_word(ps: *mut Raw, word: *const c_char, phones: *const c_char, update: c_int) -> c_int;
    fn ps_lookup_word(ps: *mut Raw, word: *const c_char) -> *mut c_char;
    fn ps_set_fsg(ps: *mut Raw, name: *const c_char, fsg: *mut Raw) -> c_int;
    fn ps_set_allphone_file(ps: *mut Raw, name: *const c_char, path: *const c_char) -> c_int;
    fn ps_set_search(ps: *mut Raw, name: *const c_char) -> c_int;
    fn ps_start_utt(ps: *mut Raw) -> c_int;
    fn ps_process_cep(
        ps: *mut Raw,
        frames: *mut *mut c_float,
        count: c_int,
        no_search: c_int,
        full_utt: c_int,
    ) -> c_int;
    fn ps_end_utt(ps: *mut Raw) -> c_int;
    fn ps_get_hyp(ps: *mut Raw, score: *mut i32) -> *const c_char;
    fn ps_seg_iter(ps: *mut Raw) -> *mut Raw;
    fn ps_seg_next(seg: *mut Raw) -> *mut Raw;
    fn ps_seg_word(seg: *mut Raw) -> *const c_char;
    fn ps_seg_frames(seg: *mut Raw, start: *mut c_int, end: *mut c_int);
    fn ps_seg_prob(seg: *mut Raw, acoustic: *mut i32, language: *mut i32, back: *mut i32) -> i32;
}

unsafe extern "C" {
    fn cmd_ln_parse_r(inout: *mut Raw, defn: *const c_void, argc: i32, argv: *mut *mut c_char, strict: i32)
    -> *mut Raw;
    fn cmd_ln_free_r(config: *mut Raw) -> c_int;
    fn err_set_callback(callback: Option<unsafe extern "C" fn()>, user: *mut c_void);
    fn err_set_logfp(stream: *mut c_void);
    fn fsg_model_read(file: *mut Raw, logmath: *mut Raw, lw: c_float) -> *mut Raw;
    fn fsg_model_free(fsg: *mut Raw) -> c_int;
    fn ckd_free(memory: *mut c_void);
}

unsafe extern "C" {
    fn fmemopen(buffer: *mut c_void, size: usize, mode: *const c_char) -> *mut Raw;
    fn fclose(file: *mut Raw) -> c_int;
}

/// No callback means no messages; the dump of all settings goes to a stream that each thread has of its own.
fn silence_log() {
    // SAFETY: the C library checks both for null before it uses them.
    unsafe {
        err_set_callback(None, ptr::null_mut());
        err_set_logfp(ptr::null_mut());
    }
}

/// What a decoder made of an utterance, so far or at last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decoded {
    /// The words' or phones' text, without fillers.
    pub(super) text: String,
    /// The score of the whole path, in the decoder's log units.
    pub(super) score: i32,
    /// Each segment, fillers included.
    pub(super) segments: Vec<Segment>,
}

/// A stretch of frames that one word, phone or filler was found in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) word: String,
    /// First and last frame.
    pub(super) first: i32,
    pub(super) last: i32,
    pub(super) acoustic: i32,
}

impl Segment {
    /// How many frames it lasts.
    pub(super) fn frames(&self) -> i32 {
        (self.last - self.first + 1).max(0)
    }
}

/// One PocketSphinx decoder: an acoustic model, a dictionary and one search at a time. Used by one thread at a time.
pub(super) struct Decoder {
    ps: NonNull<Raw>,
}

// SAFETY: a ps_decoder_t has no thread-local state of its own; `&mut self` keeps two threads from using it at once.
unsafe impl Send for Decoder {}

impl Decoder {
    /// A decoder with these options (`-hmm`, path, ...).
    pub(super) fn new(options: &[(&str, &str)]) -> Result<Self, String> {
        silence_log();
        let mut texts = Vec::new();
        for (name, value) in options {
            for text in [name, value] {
                texts.push(CString::new(*text).map_err(|_| format!("option {name} holds a zero byte"))?);
            }
        }
        let mut argv: Vec<*mut c_char> = texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
        // SAFETY: argv holds as many live C strings as told, and the parser copies them.
        let config = unsafe { cmd_ln_parse_r(ptr::null_mut(), ps_args(), argv.len() as i32, argv.as_mut_ptr(), 1) };
        let config = NonNull::new(config).ok_or("the options were refused")?;
        // SAFETY: config is a live command line; ps_init takes its own reference, so ours is given back.
        let ps = unsafe {
            let ps = ps_init(config.as_ptr());
            cmd_ln_free_r(config.as_ptr());
            ps
        };
        NonNull::new(ps).map(|ps| Self { ps }).ok_or_else(|| "the acoustic model could not be loaded".to_owned())
    }

    /// Whether the dictionary holds the word.
    pub(super) fn knows(&mut self, word: &str) -> bool {
        let Ok(word) = CString::new(word) else { return false };
        // SAFETY: ps and word are live; what comes back is ours to free.
        unsafe {
            let phones = ps_lookup_word(self.ps.as_ptr(), word.as_ptr());
            if phones.is_null() {
                return false;
            }
            ckd_free(phones.cast());
        }
        true
    }

    /// Adds a word (`word`, and `word(2)` for a second pronunciation) with its phones.
    pub(super) fn add_word(&mut self, word: &str, phones: &str) -> Result<(), String> {
        let fault = || format!("word `{word}` with phones `{phones}` was refused");
        let (word_c, phones_c) = (CString::new(word).map_err(|_| fault())?, CString::new(phones).map_err(|_| fault())?);
        // SAFETY: ps and both texts are live; 0: searches are told later, by setting them anew.
        let id = unsafe { ps_add_word(self.ps.as_ptr(), word_c.as_ptr(), phones_c.as_ptr(), 0) };
        if id < 0 { Err(fault()) } else { Ok(()) }
    }

    /// Sets a grammar, written in Sphinx' FSG format, as the search named `name`, in place of an older one.
    pub(super) fn set_grammar(&mut self, name: &str, fsg: &str, language_weight: f32) -> Result<(), String> {
        let name = CString::new(name).map_err(|_| "the search's name holds a zero byte")?;
        let text = fsg.as_bytes();
        // SAFETY: the file only reads `text`, which outlives it; the model, where it was read, is held by the search
        // through a reference of its own, so ours is given back.
        let set = unsafe {
            let file = fmemopen(text.as_ptr().cast_mut().cast(), text.len(), c"r".as_ptr());
            if file.is_null() {
                return Err("no memory file for the grammar".into());
            }
            let model = fsg_model_read(file, ps_get_logmath(self.ps.as_ptr()), language_weight);
            fclose(file);
            if model.is_null() {
                return Err("the grammar could not be read".into());
            }
            let set = ps_set_fsg(self.ps.as_ptr(), name.as_ptr(), model);
            fsg_model_free(model);
            set
        };
        if set < 0 { Err("the grammar was refused".into()) } else { Ok(()) }
    }

    /// Sets a search for phones with this phone language model.
    pub(super) fn set_phones(&mut self, name: &str, path: &str) -> Result<(), String> {
        let fault = |_| "a name or path holds a zero byte".to_owned();
        let (name, path_c) = (CString::new(name).map_err(fault)?, CString::new(path).map_err(fault)?);
        // SAFETY: ps and both texts are live.
        let set = unsafe { ps_set_allphone_file(self.ps.as_ptr(), name.as_ptr(), path_c.as_ptr()) };
        if set < 0 { Err(format!("the phone model {path} was refused")) } else { Ok(()) }
    }

    /// Chooses the search for the next utterance.
    pub(super) fn choose(&mut self, name: &str) -> Result<(), String> {
        let name_c = CString::new(name).map_err(|_| "the search's name holds a zero byte")?;
        // SAFETY: ps and name are live.
        let set = unsafe { ps_set_search(self.ps.as_ptr(), name_c.as_ptr()) };
        if set < 0 { Err(format!("there is no search {name}")) } else { Ok(()) }
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        // SAFETY: ps is live.
        if unsafe { ps_start_utt(self.ps.as_ptr()) } < 0 {
            Err("the utterance could not be started".into())
        } else {
            Ok(())
        }
    }

    /// Adds frames of cepstra.
    pub(super) fn hear(&mut self, frames: &mut [[f32; 13]]) -> Result<(), String> {
        let mut rows: Vec<*mut c_float> = frames.iter_mut().map(|frame| frame.as_mut_ptr()).collect();
        // SAFETY: rows points to live frames of the model's length (13), which the decoder copies.
        let done = unsafe { ps_process_cep(self.ps.as_ptr(), rows.as_mut_ptr(), rows.len() as c_int, 0, 0) };
        if done < 0 { Err("features were refused".into()) } else { Ok(()) }
    }

    pub(super) fn end(&mut self) -> Result<(), String> {
        // SAFETY: ps is live.
        if unsafe { ps_end_utt(self.ps.as_ptr()) } < 0 {
            Err("the utterance could not be ended".into())
        } else {
            Ok(())
        }
    }

    /// The best text so far.
    pub(super) fn text(&mut self) -> String {
        self.text_and_score().0
    }

    fn text_and_score(&mut self) -> (String, i32) {
        let mut score = 0;
        // SAFETY: ps is live; the text belongs to the decoder and is copied before the next call.
        let text = unsafe {
            let text = ps_get_hyp(self.ps.as_ptr(), &mut score);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        (text, score)
    }

    /// The best path so far with its segments.
    pub(super) fn decoded(&mut self) -> Decoded {
        let (text, score) = self.text_and_score();
        let mut segments = Vec::new();
        // SAFETY: the iterator is used until it answers null, when it has freed itself; words are copied at once.
        unsafe {
            let mut seg = ps_seg_iter(self.ps.as_ptr());
            while !seg.is_null() {
                let (mut first, mut last, mut acoustic, mut language, mut back) = (0, 0, 0, 0, 0);
                ps_seg_frames(seg, &mut first, &mut last);
                ps_seg_prob(seg, &mut acoustic, &mut language, &mut back);
                let word = ps_seg_word(seg);
                let word =
                    if word.is_null() { String::new() } else { CStr::from_ptr(word).to_string_lossy().into_owned() };
                segments.push(Segment { word, first, last, acoustic });
                seg = ps_seg_next(seg);
            }
        }
        Decoded { text, score, segments }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: ps is live and this is its only reference.
        unsafe { ps_free(self.ps.as_ptr()) };
    }
}

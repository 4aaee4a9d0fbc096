//! Stops a decoding when its stream is cancelled.
//!
//! By hand, for the crate's safe way reads its closure through a pointer to something else.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whisper_rs::FullParams;

/// Makes decodings with these settings end as soon as `flag` is set. `flag` must outlive the decoding, which
/// `Listener` sees to: it holds the flag for as long as it decodes.
pub(super) fn on(params: &mut FullParams<'_, '_>, flag: &Arc<AtomicBool>) {
    // SAFETY: the callback gets back the very pointer that is set here, to a flag that its Listener keeps alive, and
    // only reads it atomically.
    unsafe {
        params.set_abort_callback(Some(is_set));
        params.set_abort_callback_user_data(Arc::as_ptr(flag).cast_mut().cast::<c_void>());
    }
}

unsafe extern "C" fn is_set(flag: *mut c_void) -> bool {
    // SAFETY: see `on`.
    unsafe { flag.cast::<AtomicBool>().as_ref() }.is_some_and(|flag| flag.load(Ordering::Acquire))
}

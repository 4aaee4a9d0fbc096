//! Silero's detector. With `OMNIVOX_SILERO=FILE` (and flite installed) the net itself is tested; without, its errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use agent::ear::EarError;
use agent::ear::silero::{SileroModel, SileroVad};

#[test]
fn a_missing_file_is_an_error_that_says_how_to_get_it() {
    let Err(error) = SileroModel::load(Path::new("/nowhere/silero_vad.onnx")) else { panic!("it loaded") };
    assert!(matches!(error, EarError::ModelMissing { .. }));
    assert!(error.to_string().contains("omnivox models pull silero-vad"), "{error}");
}

#[test]
fn a_file_of_another_kind_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.onnx");
    std::fs::write(&path, b"this is no net").unwrap();
    let Err(error) = SileroModel::load(&path) else { panic!("it loaded") };
    assert!(matches!(&error, EarError::ModelBad { path, .. } if path.ends_with("odd.onnx")), "{error}");
}

#[test]
fn hears_speech_and_no_speech_in_silence_and_tones() {
    let Some(path) = std::env::var_os("OMNIVOX_SILERO").map(PathBuf::from) else {
        println!("OMNIVOX_SILERO names no file: the net itself is not tested here");
        return;
    };
    let model = SileroModel::load(&path).unwrap();
    let mut vad = SileroVad::new(model);
    let mut most = |pcm: &[i16]| {
        vad.reset();
        let probabilities = pcm.chunks(320).filter_map(|frame| vad.push(frame).unwrap());
        probabilities.fold(0.0f32, f32::max)
    };
    assert!(most(&[0; 16_000]) < 0.3);
    let tone: Vec<i16> = (0..16_000).map(|n| ((n as f32 * 0.17).sin() * 9_000.0) as i16).collect();
    assert!(most(&tone) < 0.5);
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("speech.wav");
    let said = "are you open on saturday";
    let status = std::process::Command::new("flite").args(["-voice", "rms", "-t", said, "-o"]).arg(&wav).status();
    assert!(status.unwrap().success());
    let speech: Vec<i16> = hound::WavReader::open(&wav).unwrap().samples::<i16>().map(Result::unwrap).collect();
    assert!(most(&speech) > 0.9);
}

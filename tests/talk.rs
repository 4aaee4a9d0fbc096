//! The microphone where there is none.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// Runs `omnivox` where the sound system has no devices, whatever this machine has.
fn omnivox(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omnivox"));
    command.args(arguments).env("ALSA_CONFIG_PATH", "/dev/null").output().unwrap()
}

#[test]
fn without_a_sound_device_it_is_said_what_to_do() {
    let output = omnivox(&["talk"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["no microphone", "arecord --list-devices", "omnivox serve"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn without_a_sound_device_the_list_is_empty_and_no_fault() {
    let output = omnivox(&["talk", "--list-devices"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "microphones:\n  none\nloudspeakers:\n  none");
}

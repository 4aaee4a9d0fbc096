//! What a headless softphone does on its call, line by line:
//!
//! ```text
//! say What are your opening hours?     # once the far side has fallen silent
//! after 1200 Actually, never mind.     # 1.2 s after the far side began to speak: talks over it
//! press 12#                            # keys, once the far side has fallen silent; press-now does not wait
//! wait 500                             # milliseconds
//! hangup
//! ```
//!
//! `now TEXT` speaks without waiting for anything. `play FILE.wav` and `play-after MS FILE.wav` play a file instead of speaking.

use std::path::PathBuf;
use std::time::Duration;

/// Steps in one script at most.
pub const STEPS_LIMIT: usize = 1_000;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Speak at once.
    Now(Sound),
    /// Speak once the far side has fallen silent.
    Say(Sound),
    /// Speak this long after the far side began to.
    Interrupt(Duration, Sound),
    /// Press keys once the far side has fallen silent.
    Press(String),
    /// Press keys at once.
    PressNow(String),
    /// Do nothing for a while.
    Wait(Duration),
    /// Hang up once the far side has fallen silent.
    HangUp,
}

/// What is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// Text for the voice.
    Text(String),
    /// A WAV file.
    File(PathBuf),
}

/// Why a script cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// A line that is no step.
    #[error("line {line}: `{text}`: {fix}")]
    Line {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
        /// What to write instead.
        fix: &'static str,
    },
    /// Too many steps.
    #[error("more than {STEPS_LIMIT} steps")]
    TooLong,
}

/// Reads a script. Empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// The line that is no step, and what to write instead.
pub fn parse(text: &str) -> Result<Vec<Step>, ScriptError> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if steps.len() >= STEPS_LIMIT {
            return Err(ScriptError::TooLong);
        }
        steps.push(step(line).map_err(|fix| ScriptError::Line { line: number + 1, text: line.to_owned(), fix })?);
    }
    Ok(steps)
}

fn step(line: &str) -> Result<Step, &'static str> {
    let (word, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()));
    match word {
        "now" if !rest.is_empty() => Ok(Step::Now(Sound::Text(rest.to_owned()))),
        "now" => Err("write what to say, such as: now hello"),
        "say" if !rest.is_empty() => Ok(Step::Say(Sound::Text(rest.to_owned()))),
        "say" => Err("write what to say, such as: say hello"),
        "play" if !rest.is_empty() => Ok(Step::Say(Sound::File(rest.into()))),
        "play" => Err("name the file, such as: play question.wav"),
        "after" | "play-after" => {
            let fix = "write milliseconds and what to say, such as: after 1200 stop please";
            let (delay, rest) = rest.split_once(char::is_whitespace).ok_or(fix)?;
            let delay = Duration::from_millis(delay.parse().map_err(|_| fix)?);
            let rest = rest.trim();
            let sound = if word == "after" { Sound::Text(rest.to_owned()) } else { Sound::File(rest.into()) };
            Ok(Step::Interrupt(delay, sound))
        }
        "press-now" if is_keys(rest) => Ok(Step::PressNow(rest.to_ascii_uppercase())),
        "press" if is_keys(rest) => Ok(Step::Press(rest.to_ascii_uppercase())),
        "press" | "press-now" => Err("name keys of 0-9, *, # and A-D, such as: press 12#"),
        "wait" => {
            Ok(Step::Wait(Duration::from_millis(rest.parse().map_err(|_| "write milliseconds, such as: wait 500")?)))
        }
        "hangup" if rest.is_empty() => Ok(Step::HangUp),
        _ => Err("steps are say, now, after, play, play-after, press, press-now, wait and hangup"),
    }
}

/// Whether these are keys of a telephone.
#[must_use]
pub fn is_keys(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|key| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_step_is_read() {
        let steps =
            parse("# a caller\nsay hello there\n\nafter 1200 stop\npress 1a#\nwait 500\nplay x.wav\nhangup\n").unwrap();
        assert_eq!(
            steps,
            vec![
                Step::Say(Sound::Text("hello there".into())),
                Step::Interrupt(Duration::from_millis(1_200), Sound::Text("stop".into())),
                Step::Press("1A#".into()),
                Step::Wait(Duration::from_millis(500)),
                Step::Say(Sound::File("x.wav".into())),
                Step::HangUp,
            ]
        );
    }

    #[test]
    fn what_is_no_step_is_refused_with_its_line() {
        for text in ["sing", "say", "after soon stop", "after 12", "press x", "press", "wait long", "hangup now"] {
            let message = parse(&format!("\n{text}")).unwrap_err().to_string();
            assert!(message.starts_with("line 2"), "{text}: {message}");
        }
    }
}

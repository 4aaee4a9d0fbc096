//! Both sides' waveforms on one time axis, with turns, gaps and interruptions, as inline SVG.

use std::fmt::Write;

use agent::history::Speaker;
use agent::session::{Means, TurnRecord};

use super::Heard;
use super::page::{clock, escape};
use super::sound::{FRAME_MS, Frame, Sound};

const PIXELS_A_SECOND: f64 = 60.0;
/// Short calls are drawn wider, to fill the page.
const MOST_PIXELS_A_SECOND: f64 = 130.0;
const PAGE_WIDTH: f64 = 1_046.0;
/// Long calls are drawn narrower.
const MAX_WIDTH: f64 = 20_000.0;
const LANE: f64 = 84.0;
const CALLER_TOP: f64 = 38.0;
const MIDDLE: f64 = CALLER_TOP + LANE;
const AGENT_TOP: f64 = MIDDLE + 34.0;
const HEIGHT: f64 = AGENT_TOP + LANE + 22.0;

/// Pixels a second for a recording of this length.
pub(super) fn scale(duration_ms: f64) -> f64 {
    let seconds = (duration_ms / 1_000.0).max(1.0);
    (PAGE_WIDTH / seconds).clamp(PIXELS_A_SECOND, MOST_PIXELS_A_SECOND).min(MAX_WIDTH / seconds)
}

/// The drawing; `offset_ms` is added to a turn's times to stand on the recording's.
pub(super) fn draw(heard: &Heard, turns: &[TurnRecord], offset_ms: f64) -> String {
    let duration_ms = heard.measured.duration_ms;
    let scale = scale(duration_ms);
    let x = |ms: f64| ms / 1_000.0 * scale;
    let width = x(duration_ms).max(300.0);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg id=\"map\" role=\"img\" aria-labelledby=\"map-title\" width=\"{width:.0}\" height=\"{HEIGHT:.0}\" \
         viewBox=\"0 0 {width:.0} {HEIGHT:.0}\"><title id=\"map-title\">Waveforms of the caller (above) and the agent \
         (below) over {}</title>",
        clock(duration_ms)
    );
    ticks(&mut svg, duration_ms, scale);
    for turn in turns {
        draw_turn(&mut svg, turn, offset_ms, &x);
    }
    let loudest = loudest(&heard.sound);
    wave(&mut svg, &heard.sound.caller, "wave-caller", CALLER_TOP, scale, loudest);
    wave(&mut svg, &heard.sound.agent, "wave-agent", AGENT_TOP, scale, loudest);
    for answer in heard.measured.answers.iter().filter(|answer| answer.gap_ms > 0.0) {
        let (from, to) = (x(answer.caller_end_ms), x(answer.agent_start_ms));
        let y = MIDDLE + 17.0;
        let _ = write!(
            svg,
            "<path class=\"gap\" d=\"M{from:.1} {:.1}V{y}H{to:.1}V{:.1}\" fill=\"none\"/><text x=\"{:.1}\" y=\"{:.1}\">{:.0} ms</text>",
            MIDDLE + 4.0,
            AGENT_TOP - 4.0,
            to + 5.0,
            y + 9.0,
            answer.gap_ms
        );
    }
    for cut in &heard.measured.interruptions {
        let _ = write!(
            svg,
            "<path class=\"cut\" stroke-dasharray=\"3 3\" d=\"M{0:.1} {CALLER_TOP}V{1}M{2:.1} {AGENT_TOP}V{1}\"/>\
             <text class=\"cut\" x=\"{3:.1}\" y=\"{4:.1}\">silent after {5:.0} ms</text>",
            x(cut.onset_ms),
            AGENT_TOP + LANE,
            x(cut.silent_ms),
            x(cut.silent_ms) + 5.0,
            AGENT_TOP + LANE - 5.0,
            cut.took_ms
        );
    }
    let _ = write!(svg, "<path id=\"head\" class=\"head\" d=\"M0 18V{:.0}\"/></svg>", AGENT_TOP + LANE);
    svg
}

/// A line each so many seconds, so that they stand at least 60 pixels apart.
fn ticks(svg: &mut String, duration_ms: f64, scale: f64) {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0];
    let step = steps.into_iter().find(|step| step * scale >= 60.0).unwrap_or(3_600.0);
    let mut at = 0.0;
    while at * 1_000.0 <= duration_ms {
        let x = at * scale;
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} 18V{:.0}\"/><text class=\"soft\" x=\"{:.1}\" y=\"13\">{}</text>",
            AGENT_TOP + LANE,
            x + 3.0,
            clock(at * 1_000.0)
        );
        at += step;
    }
}

fn draw_turn(svg: &mut String, turn: &TurnRecord, offset_ms: f64, x: &impl Fn(f64) -> f64) {
    let (class, top, text_y) = match turn.who {
        Speaker::Caller => ("turn-caller", CALLER_TOP, CALLER_TOP - 6.0),
        Speaker::Agent => ("turn-agent", AGENT_TOP, AGENT_TOP + LANE + 15.0),
    };
    let from = x(turn.started_ms + offset_ms).max(0.0);
    let width = (x(turn.ended_ms + offset_ms) - from).max(6.0);
    let text = escape(&turn.text);
    let keys = turn.who == Speaker::Caller && turn.by == Means::Keys;
    let text = if keys { format!("keys: {text}") } else { text };
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{LANE}\" rx=\"4\"><title>{text}</title></rect>\
         <svg x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\" overflow=\"hidden\"><text x=\"4\" y=\"13\">{text}</text></svg>",
        text_y - 13.0,
        if keys { width.max(70.0) } else { width },
    );
}

fn wave(svg: &mut String, frames: &[Frame], class: &str, top: f64, scale: f64, loudest: f64) {
    let frames_a_pixel = (1_000.0 / FRAME_MS / scale).max(0.1);
    let columns = (frames.len() as f64 / frames_a_pixel).ceil() as usize;
    let middle = top + LANE / 2.0;
    let _ = write!(svg, "<path class=\"{class}\" fill=\"none\" d=\"");
    for column in 0..columns {
        let from = (column as f64 * frames_a_pixel) as usize;
        let to = (((column + 1) as f64 * frames_a_pixel) as usize).clamp(from + 1, frames.len().max(from + 1));
        let Some(part) = frames.get(from..to.min(frames.len())).filter(|part| !part.is_empty()) else { continue };
        let high = part.iter().map(|frame| frame.high).max().unwrap_or(0);
        let low = part.iter().map(|frame| frame.low).min().unwrap_or(0);
        let reach = |sample: i16| f64::from(sample) / loudest * (LANE / 2.0 - 3.0);
        let (up, down) = (reach(high), reach(low));
        let _ = write!(svg, "M{column} {:.0}v{:.0}", middle - up, (up - down).max(1.0));
    }
    svg.push_str("\"/>");
}

fn loudest(sound: &Sound) -> f64 {
    let reach = |frame: &Frame| f64::from(frame.high).max(-f64::from(frame.low));
    sound.caller.iter().chain(&sound.agent).map(reach).fold(1_000.0, f64::max)
}

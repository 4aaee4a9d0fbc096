//! A load over time, as SVG.

use std::fmt::Write;

use super::figures::Figures;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 36.0;

/// Calls at once and calls ended, over time; the figures below.
pub(super) fn svg(figures: &Figures) -> String {
    let end_s = figures.samples.last().map_or(1.0, |sample| sample.at_s).max(1.0);
    let most = figures.samples.iter().map(|sample| sample.running.max(sample.ended)).max().unwrap_or(1).max(1) as f64;
    let x = |at_s: f64| LEFT + at_s / end_s * (WIDTH - LEFT - 16.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM);
    let line = |value: fn(&super::figures::Sample) -> usize| {
        figures.samples.iter().fold(String::new(), |mut points, sample| {
            let _ = write!(points, "{:.1},{:.1} ", x(sample.at_s), y(value(sample) as f64));
            points
        })
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for part in [0.0, 0.5, 1.0] {
        let (value, at) = (most * part, y(most * part));
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value:.0}</text>",
            WIDTH - 16.0,
            LEFT - 8.0,
            at + 4.0
        );
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{:.0} s</text>",
            x(end_s * part),
            HEIGHT - 14.0,
            end_s * part
        );
    }
    let running = line(|sample| sample.running);
    let ended = line(|sample| sample.ended);
    let _ = writeln!(text, "<polyline points=\"{running}\" fill=\"none\" stroke=\"#0d8a6a\" stroke-width=\"2\"/>");
    let _ = writeln!(text, "<polyline points=\"{ended}\" fill=\"none\" stroke=\"#2f6fdd\" stroke-width=\"2\"/>");
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"18\" fill=\"#0d8a6a\">calls at once</text><text x=\"{}\" y=\"18\" fill=\"#2f6fdd\">calls ended</text>\
         <text x=\"{}\" y=\"18\" text-anchor=\"end\" fill=\"#555\">set-up p50 {:.0} ms, p99 {:.0} ms; sound back after p50 {:.0} ms, p99 {:.0} ms</text>\n</svg>",
        LEFT + 100.0,
        WIDTH - 16.0,
        figures.setup_ms.p50,
        figures.setup_ms.p99,
        figures.round_trip_ms.p50,
        figures.round_trip_ms.p99
    );
    text
}

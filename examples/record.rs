//! Answers `sip:record@`, beeps, and records what is said until a key is pressed or ten seconds have passed:
//! `cargo run --example record -- OUT.wav`

use std::f32::consts::TAU;
use std::path::PathBuf;

use anyhow::Context;
use omnivox::config::Sources;
use omnivox::{Config, SampleRate, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file: PathBuf = std::env::args_os().nth(1).context("usage: record OUT.wav")?.into();
    let beep: Vec<i16> = (0..3_200).map(|n| ((n as f32 * 880.0 / 16_000.0 * TAU).sin() * 6_000.0) as i16).collect();
    let server = Server::builder(Config::load(&Sources::from_environment())?)
        .number("record", move |mut call| {
            let (beep, file) = (beep.clone(), file.clone());
            async move {
                call.play(&beep, SampleRate::HZ_16000, false).await;
                let rate = call.rate();
                let mut heard = Vec::new();
                while heard.len() < rate.hz() as usize * 10 && call.pressed().is_none() {
                    let Some(frame) = call.hear().await else { break };
                    heard.extend(frame.pcm);
                }
                match omnivox::wav::write_mono(&file, &heard, rate) {
                    Ok(()) => println!("recorded {:.1} s to {}", heard.len() as f32 / rate.hz() as f32, file.display()),
                    Err(fault) => eprintln!("{fault:#}"),
                }
                call
            }
        })
        .start()
        .await?;
    println!("call sip:record@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}

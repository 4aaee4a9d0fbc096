//! Answers `sip:play@` and plays a WAV file: `cargo run --example answer_and_play -- FILE.wav`

use std::path::PathBuf;

use anyhow::Context;
use omnivox::config::Sources;
use omnivox::{Config, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file: PathBuf = std::env::args_os().nth(1).context("usage: answer_and_play FILE.wav")?.into();
    let (pcm, rate) = omnivox::wav::read_mono(&file)?;
    let server = Server::builder(Config::load(&Sources::from_environment())?)
        .number("play", move |mut call| {
            let pcm = pcm.clone();
            async move {
                call.play(&pcm, rate, false).await;
                call // given back, the call is hung up
            }
        })
        .start()
        .await?;
    println!("call sip:play@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}

//! Places a call, says a sentence once the far side is silent, and prints how the call went:
//! `cargo run --example dial -- sip:echo@127.0.0.1 "Hello, is anybody there?"`

use std::time::Duration;

use anyhow::Context;
use omnivox::Config;
use omnivox::config::Sources;
use omnivox::softphone::dialer::{DialRequest, Phone};
use omnivox::softphone::script::{Sound, Step};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().context("usage: dial sip:USER@HOST [TEXT]")?;
    let text = arguments.next().unwrap_or_else(|| "Hello!".to_owned());
    let mut phone = Phone::open(Config::load(&Sources::from_environment())?, &uri, None).await?;
    let record = phone
        .dial(DialRequest {
            steps: vec![Step::Wait(Duration::from_millis(300)), Step::Now(Sound::Text(text))],
            ..DialRequest::default()
        })
        .await?;
    phone.close().await;
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(())
}

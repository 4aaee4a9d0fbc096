//! The smallest server: `sip:echo@` says back what it hears.
//!
//! `cargo run --example echo`, then call sip:echo@127.0.0.1 with any softphone, or
//! `omnivox call sip:echo@127.0.0.1 --play speech.wav --record echoed.wav`.
//! The environment configures it: `OMNIVOX_SIP__LISTEN=udp:127.0.0.1:5070`.

use omnivox::config::Sources;
use omnivox::{Config, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = Server::builder(Config::load(&Sources::from_environment())?).start().await?;
    println!("call sip:echo@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}

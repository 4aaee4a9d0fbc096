//! A bad network in front of a phone or a server, for one call: what is sent through it is lost, delayed and reordered by a seed.
//!
//! `cargo run --example bad_network -- 127.0.0.1:5060 --loss 5 --burst 3 --jitter 60` says where to call instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // the relay is the tests' own

#[path = "../tests/common/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::net::SocketAddr;

use clap::Parser;
use relay::{Relay, Weather};

#[derive(Parser)]
struct Arguments {
    /// Where SIP is answered, by UDP.
    server: SocketAddr,
    /// Media packets lost, in percent.
    #[arg(long, default_value_t = 0)]
    loss: u64,
    /// Packets that a loss takes in a row, on average.
    #[arg(long, default_value_t = 1)]
    burst: u64,
    /// Packets are delayed by up to so many milliseconds.
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// Media packets that arrive after the two that follow them, in percent.
    #[arg(long, default_value_t = 0)]
    reorder: u64,
    /// SIP datagrams lost, in percent.
    #[arg(long, default_value_t = 0)]
    sip_loss: u64,
    /// Harms what goes to the server only.
    #[arg(long)]
    one_way: bool,
    /// Decides what happens to which packet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let weather = Weather {
        loss_percent: arguments.loss,
        burst: arguments.burst,
        jitter_ms: arguments.jitter,
        reorder_percent: arguments.reorder,
        sip_loss_percent: arguments.sip_loss,
        one_way: arguments.one_way,
        seed: arguments.seed,
        ..Weather::default()
    };
    let relay = Relay::start(arguments.server, weather);
    println!("call sip:echo@{}", relay.address);
    println!("enter ends it");
    std::io::stdin().read_line(&mut String::new())?;
    println!("{:?}", relay.counts());
    Ok(())
}

//! A menu by keys at `sip:menu@`: 1 tells the time, 2 hangs up. Prompts are spoken by Flite; a key cuts them short.

use std::time::{Duration, SystemTime};

use omnivox::config::Sources;
use omnivox::{Config, Server, say};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = Server::builder(Config::load(&Sources::from_environment())?)
        .number("menu", |mut call| async move {
            let mut prompt = "Press one for the time, or two to hang up.".to_owned();
            while !call.is_closed() {
                let Ok((pcm, rate)) = say::speak("flite:rms", &prompt).await else { break };
                call.play(&pcm, rate, true).await;
                prompt = match call.key(Duration::from_secs(5)).await {
                    Some('1') => time_of_day(),
                    Some('2') => break,
                    Some(key) => format!("There is nothing behind {key}. Press one or two."),
                    None => "I did not get that. Press one for the time, or two to hang up.".to_owned(),
                };
                println!("{prompt}");
            }
            call
        })
        .start()
        .await?;
    println!("call sip:menu@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}

fn time_of_day() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("It is {} hours and {} minutes, universal time. Press two to hang up.", seconds / 3_600, seconds / 60 % 60)
}

//! `omnivox load`: many calls at once, each with a sound of its own, to find out how many a server carries and how they sound.

pub mod figures;
mod plot;
pub mod probe;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::mpsc;

use self::figures::{Figures, Sample};
use self::probe::{Expect, Heard};
use self::watch::Watched;
use crate::call::record::CallRecord;
use crate::config::{Config, SrtpPolicy};
use crate::output::{self, print_line};
use crate::softphone::{Phone, PlaceRequest};

/// Calls end within this after they were told to.
const ENDS_WITHIN: Duration = Duration::from_secs(40);
/// How often figures over time are taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// `omnivox load`
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Whom to call: `sip:echo@HOST`; several in turn. They share one transport, the first's.
    #[arg(required = true, value_name = "URI")]
    pub uris: Vec<String>,
    /// Calls at once.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub calls: usize,
    /// New calls a second.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub rate: f64,
    /// Each call lasts so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub hold: f64,
    /// Calls in all; without it each of the calls at once is placed once.
    #[arg(long, value_name = "N")]
    pub total: Option<usize>,
    /// What has to come back: its own sound, any sound, or nothing in particular.
    #[arg(long, value_enum, default_value_t = Expect::Echo)]
    pub expect: Expect,
    /// Presses these keys, one every two seconds, over and over.
    #[arg(long, value_name = "KEYS")]
    pub press: Option<String>,
    /// Offers only these codecs, best first.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub codec: Vec<String>,
    /// Whether the sound is protected (SRTP): off, preferred, required, sdes or dtls.
    #[arg(long, value_name = "POLICY", default_value = "off")]
    pub srtp: SrtpPolicy,
    /// Measures processor time and memory of this process too, the server's.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
    /// Prints the figures as one line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Draws calls, set-up times and round trips over time.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// Runs the load.
///
/// # Errors
/// Arguments that make no sense, an address that cannot be reached. Calls that fail are in the figures.
pub async fn run(args: LoadArgs, mut config: Config) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((1..=20_000).contains(&args.calls), "--calls {}: write a number from 1 to 20000", args.calls);
    anyhow::ensure!(
        args.rate > 0.0 && args.rate <= 10_000.0,
        "--rate {}: write calls a second, up to 10000",
        args.rate
    );
    anyhow::ensure!(args.hold >= 1.0 && args.hold <= 86_400.0, "--hold {}: write seconds, from 1", args.hold);
    crate::softphone::offer_only(&mut config, &args.codec)?;
    config.rtp.srtp = args.srtp;
    config.calls.max = args.calls * 2;
    let keys: Arc<[char]> = args.press.as_deref().unwrap_or_default().chars().collect();
    if let Some(key) = keys.iter().find(|key| !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D')) {
        anyhow::bail!("--press: {key} is no key of a telephone: write 0 to 9, *, # or A to D");
    }
    let watched = args.watch.map(Watched::of);
    if let (Some(pid), Some(false)) = (args.watch, watched.as_ref().map(Watched::is_there)) {
        anyhow::bail!("--watch {pid}: there is no such process: write that of the server, as `pidof omnivox` tells it");
    }
    let first = args.uris.first().map(String::as_str).unwrap_or_default();
    let phone = Phone::open_with(config, first, None, 0).await?;
    let figures = drive(&args, &keys, phone, watched).await;
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&figures))
            .map_err(|fault| anyhow::anyhow!("cannot write {}: {fault}", path.display()))?;
    }
    if args.json {
        print_line!("{}", serde_json::to_string(&figures)?)?;
    } else {
        output::bytes(figures.table().as_bytes())?;
    }
    Ok(if figures.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Places the calls at their rate and gathers what came of them.
async fn drive(args: &LoadArgs, keys: &Arc<[char]>, mut phone: Phone, mut server: Option<Watched>) -> Figures {
    let total = args.total.unwrap_or(args.calls).max(1);
    let (heard_in, mut heard) = mpsc::unbounded_channel::<Heard>();
    let hold = Duration::from_secs_f64(args.hold);
    let begun = Instant::now();
    let mut own = Watched::of(std::process::id());
    let mut samples = Vec::new();
    let (mut placed, mut running) = (0_usize, 0_usize);
    let mut records: Vec<CallRecord> = Vec::with_capacity(total.min(100_000));
    let mut next = tokio::time::Instant::now();
    let mut sampling = tokio::time::interval(SAMPLE_EVERY);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut is_over = false;
    while (placed < total && !is_over) || running > 0 {
        let may_place = placed < total && running < args.calls && !is_over;
        tokio::select! {
            () = tokio::time::sleep_until(next), if may_place => {
                next += Duration::from_secs_f64(1.0 / args.rate);
                let request = PlaceRequest {
                    from_user: format!("load{placed}"),
                    credentials: None,
                    record: None,
                    max_duration: hold + Duration::from_secs(30),
                    is_duration_asked: false,
                    answer_within: Duration::from_secs(30),
                };
                let Some(uri) = args.uris.get(placed % args.uris.len()) else { break };
                let call = probe::Probe { number: placed, hold, expect: args.expect, keys: Arc::clone(keys) };
                phone.place_to(uri, call.app(heard_in.clone()), request);
                (placed, running) = (placed + 1, running + 1);
            }
            record = phone.next_record() => match record {
                Some(record) => {
                    records.push(record);
                    running -= 1;
                }
                None => break,
            },
            _ = sampling.tick() => {
                samples.push(Sample { at_s: begun.elapsed().as_secs_f64(), running, ended: records.len() });
            }
            _ = &mut interrupted, if !is_over => {
                is_over = true;
                phone.hang_up_all();
            }
            () = tokio::time::sleep(ENDS_WITHIN + hold), if placed >= total || is_over => break,
        }
    }
    let took = begun.elapsed();
    let usage = (own.since(), server.as_mut().and_then(Watched::since));
    phone.close().await;
    drop(heard_in);
    let mut probes = Vec::new();
    while let Ok(one) = heard.try_recv() {
        probes.push(one);
    }
    Figures::of(took, placed, &records, &probes, samples, usage)
}

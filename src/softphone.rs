//! `omnivox call`: a headless softphone. It places one call, plays or speaks, presses keys, records, and reports how the
//! call went.

pub mod dialer;
pub mod performer;
pub mod script;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::call::end::EndClass;
use crate::call::record::CallRecord;
use crate::config::Config;
use crate::output::print_line;
pub use dialer::{Credentials, DialRequest, Phone, PlaceRequest};
use script::{Sound, Step};

/// Arguments of `omnivox call`.
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// Whom to call: sip:USER@HOST[:PORT][;transport=tcp]
    pub uri: String,
    /// Plays this WAV file once the call is up; may be given several times.
    #[arg(long, value_name = "FILE.wav")]
    pub play: Vec<PathBuf>,
    /// Says this once the far side has spoken and fallen silent; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub say: Vec<String>,
    /// Performs a script: lines of `say TEXT`, `after MS TEXT`, `press KEYS`, `wait MS`, `play FILE`, `hangup`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["play", "say", "dtmf"])]
    pub script: Option<PathBuf>,
    /// The voice for `--say` and scripts, as `omnivox say` takes it.
    #[arg(long, value_name = "VOICE", default_value = "flite:slt")]
    pub voice: String,
    /// Records the call in stereo, the far side left, what is sent right: as Ogg Opus where the name ends in .opus, otherwise as WAV.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Presses these keys after what is played or said.
    #[arg(long, value_name = "KEYS")]
    pub dtmf: Option<String>,
    /// Hangs up so many seconds after the answer. Without it: when all is played and said and the far side is silent, or, with nothing to do, when the far side hangs up.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Gives up when there is no answer after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub answer_within: u64,
    /// Offers only these codecs, best first (PCMU, PCMA, G722, opus, L16).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub codec: Vec<String>,
    /// Whether the sound is protected (SRTP): off, preferred, required, or, required with our offer in one form, sdes or dtls.
    #[arg(long, value_name = "POLICY")]
    pub srtp: Option<crate::config::SrtpPolicy>,
    /// Our own SIP address: ADDRESS:PORT. By default the address that leads to the far side, any port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Who is calling: the user part of the From URI.
    #[arg(long, value_name = "USER", default_value = "omnivox")]
    pub from: String,
    /// The user name for digest authentication; by default that of `--from`.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The password for digest authentication.
    #[arg(long, value_name = "PASSWORD", env = "OMNIVOX_CALL_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Prints the call's record as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Places the call.
///
/// # Errors
/// A URI, a file or a script that cannot be used; an address that cannot be bound.
pub async fn run(args: CallArgs, mut config: Config) -> anyhow::Result<ExitCode> {
    let steps = steps(&args)?;
    offer_only(&mut config, &args.codec)?;
    if let Some(srtp) = args.srtp.filter(|srtp| *srtp != crate::config::SrtpPolicy::Default) {
        config.rtp.srtp = srtp;
    }
    let duration = match args.duration {
        Some(seconds) if seconds > 0.0 && seconds < 86_400.0 => Some(Duration::from_secs_f64(seconds)),
        Some(seconds) => anyhow::bail!("--duration {seconds}: write seconds, more than 0 and less than a day"),
        None => None,
    };
    if let Some(path) = &args.record {
        may_write(path).map_err(|fault| {
            anyhow::anyhow!(
                "--record {}: {fault}. Name a file in a folder that is there and can be written",
                path.display()
            )
        })?;
    }
    let mut phone = Phone::open(config, &args.uri, args.listen).await?;
    let request = DialRequest {
        from_user: args.from.clone(),
        credentials: args
            .password
            .clone()
            .map(|password| Credentials { username: args.user.clone().unwrap_or_else(|| args.from.clone()), password }),
        steps,
        voice: args.voice.clone(),
        record: args.record.clone(),
        duration,
        answer_within: Duration::from_secs(args.answer_within.max(1)),
    };
    let record = phone.dial(request).await?;
    phone.close().await;
    report(&args, &record)?;
    Ok(if record.end.class == EndClass::Ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a file can be made there, or written anew where it is there; said before anybody is called.
fn may_write(path: &Path) -> std::io::Result<()> {
    let was_there = path.exists();
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if was_there { Ok(()) } else { std::fs::remove_file(path) }
}

/// Offers these codecs alone, where there are any.
pub(crate) fn offer_only(config: &mut Config, codecs: &[String]) -> anyhow::Result<()> {
    for name in codecs {
        anyhow::ensure!(
            codecs::registry::SPECS.iter().any(|spec| spec.name.eq_ignore_ascii_case(name)),
            "--codec {name}: known codecs are opus, G722, PCMU, PCMA and L16"
        );
    }
    if !codecs.is_empty() {
        config.rtp.codecs = codecs.to_vec();
    }
    Ok(())
}

/// What the arguments ask to be done on the call.
fn steps(args: &CallArgs) -> anyhow::Result<Vec<Step>> {
    if let Some(path) = &args.script {
        let text = std::fs::read_to_string(path)
            .map_err(|fault| anyhow::anyhow!("cannot read {}: {fault}", path.display()))?;
        return script::parse(&text).map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()));
    }
    let mut steps: Vec<Step> = args.play.iter().map(|path| Step::Now(Sound::File(path.clone()))).collect();
    steps.extend(args.say.iter().map(|text| Step::Say(Sound::Text(text.clone()))));
    if let Some(keys) = &args.dtmf {
        anyhow::ensure!(script::is_keys(keys), "--dtmf {keys}: keys are 0-9, *, # and A-D");
        steps.push(if steps.is_empty() {
            Step::Wait(Duration::from_millis(500))
        } else {
            Step::Wait(Duration::from_millis(100))
        });
        steps.push(Step::PressNow(keys.to_ascii_uppercase()));
    }
    Ok(steps)
}

fn report(args: &CallArgs, record: &CallRecord) -> anyhow::Result<()> {
    if args.json {
        print_line!("{}", serde_json::to_string(record)?)?;
        return Ok(());
    }
    print_line!("{}: {} ({})", args.uri, record.end.reason.as_str(), record.end.class.as_str())?;
    if !record.end.detail.is_empty() {
        print_line!("  {}", record.end.detail)?;
    }
    if let Some(media) = &record.media {
        print_line!(
            "  {:.1} s of {}: {} packets in, {} out, {} lost, jitter {:.1} ms",
            record.duration_ms as f64 / 1_000.0,
            record.codec,
            media.packets_in,
            media.packets_out,
            media.lost,
            media.jitter_ms
        )?;
    }
    // Of a call that was never up there is none.
    if let Some(path) = record.recording.as_ref().filter(|path| record.answered_at.is_some() && path.exists()) {
        print_line!("  recorded to {}", path.display())?;
    }
    Ok(())
}

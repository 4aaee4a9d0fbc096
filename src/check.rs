//! `omnivox check`: configuration, folders, ports, agents with their models and providers; for each fault what to do.

mod prices;
mod stored;

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use agent::registry::Registry;
use clap::Args;
use control::identity::oidc::{CALLBACK, Oidc};
use control::store::settings::StoredSetting;
use control::store::{Store, StoreError};
use serde::Serialize;
use sip::endpoint::Transport;

use crate::agents::Agents;
use crate::call::music::HoldMusic;
use crate::call::notice::RecordNotice;
use crate::config::{Config, IceMode, PlainHttp, Sources, SrtpPolicy};
use crate::ice;
use crate::output::print_line;
use crate::plane;
use crate::stir::Stir;

use prices::InUse;

/// Servers of `[[ice_servers]]` may take this long to answer.
const ICE_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `omnivox check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Prints the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with something missed.
    Note,
    /// `serve` would not work.
    Fault,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub says: String,
}

/// Checks everything that can be checked without taking a call. The exit code is 0 when nothing is at fault.
///
/// # Errors
/// The findings cannot be printed.
pub async fn run(args: CheckArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let mut findings = tokio::task::spawn_blocking({
        let sources = sources.clone();
        move || findings(&sources)
    })
    .await?;
    if let Ok(config) = Config::load(sources) {
        check_ice(&config, &mut |what, verdict, says| {
            findings.push(Finding { what: what.to_owned(), verdict, says });
        })
        .await;
    }
    if args.json {
        print_line!("{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Ok => "ok   ",
                Verdict::Note => "note ",
                Verdict::Fault => "FAULT",
            };
            print_line!("{mark}  {}: {}", finding.what, finding.says)?;
        }
    }
    let is_faulty = findings.iter().any(|finding| finding.verdict == Verdict::Fault);
    Ok(if is_faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn findings(sources: &Sources) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |what: &str, verdict, says: String| found.push(Finding { what: what.to_owned(), verdict, says });
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(fault) => {
            tell("configuration", Verdict::Fault, fault.to_string());
            return found;
        }
    };
    let file = sources.file.as_ref().map_or("no file, defaults".to_owned(), |path| path.display().to_string());
    tell("configuration", Verdict::Ok, file);
    match check_folder(&config) {
        Ok(()) => tell("data.dir", Verdict::Ok, config.data.dir.display().to_string()),
        Err(fault) => tell(
            "data.dir",
            Verdict::Fault,
            format!(
                "cannot write {}: {fault}. Set data.dir to a folder that can be written",
                config.data.dir.display()
            ),
        ),
    }
    check_tls(&config, &mut tell);
    check_stir(&config, &mut tell);
    check_ports(&config, &mut tell);
    check_sound(&config, &mut tell);
    check_web(&config, &mut tell);
    check_calls(&config, &mut tell);
    let database = check_control(&config, &mut tell);
    let whole = database.as_ref().and_then(|database| stored::check(&config, &database.settings, &mut tell));
    let added = whole.as_ref().map(|whole| stored::alone(&config, whole));
    if let Some(added) = &added {
        check_trunks(added, " (database)", &mut tell);
    }
    let published = database.as_ref().map(|database| database.agents.as_slice());
    check_agents(&config, (whole.as_ref().unwrap_or(&config), added.as_ref()), published, &mut tell);
    found
}

/// What calls hear of ours is there.
fn check_calls(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    if let Err(fault) = HoldMusic::open(&config.calls.music) {
        tell("configuration", Verdict::Fault, format!("{fault:#}"));
    }
    if !config.records_calls() {
        return;
    }
    if let Err(fault) = tokio::runtime::Handle::current().block_on(RecordNotice::open(&config.calls)) {
        tell("configuration", Verdict::Fault, format!("{fault:#}"));
    }
}

fn check_folder(config: &Config) -> std::io::Result<()> {
    std::fs::create_dir_all(&config.data.dir)?;
    let probe = config.data.dir.join(".check");
    std::fs::write(&probe, b"x")?;
    std::fs::remove_file(probe)
}

fn check_tls(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    match config.tls.for_sip().check() {
        Ok(()) if config.tls.certificates.is_empty() => {}
        Ok(()) => tell("tls", Verdict::Ok, format!("{} certificates", config.tls.certificates.len())),
        Err(fault) => {
            let key = config.tls.key_of(&fault);
            tell(key, Verdict::Fault, format!("{fault}. Set {key} to a file that this user can read"));
        }
    }
    let Some(addr) = config.http.tls_addr() else { return };
    match config.http.for_tls(&config.tls).check() {
        Ok(()) => tell("http.tls_listen", Verdict::Ok, format!("https://{addr}")),
        Err(fault) => {
            let key = config.http.key_of(&config.tls, &fault);
            tell(key, Verdict::Fault, format!("{fault}. Set {key} to a file that this user can read"));
        }
    }
}

fn check_stir(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    match Stir::open(config) {
        Ok(None) => {}
        Ok(Some(stir)) => {
            let does = |does: bool, what: &str| if does { what.to_owned() } else { format!("not {what}") };
            let (verified, signed) = (does(stir.verifies(), "verified"), does(stir.signer().is_some(), "signed"));
            tell("stir", Verdict::Ok, format!("callers are {verified}, calls are {signed}"));
        }
        Err(fault) => tell("stir", Verdict::Fault, format!("{fault:#}")),
    }
}

fn check_ports(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    for listen in &config.sip.listen {
        let bound = match listen.transport {
            Transport::Udp => UdpSocket::bind(listen.addr).map(drop),
            _ => TcpListener::bind(listen.addr).map(drop),
        };
        match bound {
            Ok(()) => tell("sip.listen", Verdict::Ok, format!("{listen} is free")),
            Err(fault) => tell(
                "sip.listen",
                Verdict::Fault,
                format!("{listen}: {fault}. Stop what uses it (ss -lnp), or set sip.listen"),
            ),
        }
    }
    let plain = (config.http.plain != PlainHttp::Off).then_some(("http.listen", config.http.listen));
    for (key, addr) in plain.into_iter().chain(config.http.tls_addr().map(|addr| ("http.tls_listen", addr))) {
        match TcpListener::bind(addr) {
            Ok(_) => tell(key, Verdict::Ok, format!("{addr} is free")),
            Err(fault) => {
                tell(key, Verdict::Fault, format!("{addr}: {fault}. Stop what uses it (ss -lnp), or set {key}"));
            }
        }
    }
    let reserved = media::Media::start(crate::config::engines::media(config)).and_then(|media| {
        let port = media.reserve().map(|port| port.rtp_port());
        media.shutdown();
        port
    });
    match reserved {
        Ok(port) => {
            let calls = (config.rtp.ports.last - config.rtp.ports.first).div_ceil(2);
            tell("rtp.ports", Verdict::Ok, format!("{}: room for {calls} calls, {port} is free", config.rtp.ports));
        }
        Err(fault @ media::MediaError::Cpu { .. }) => tell("rtp.worker_cpus", Verdict::Fault, fault.to_string()),
        Err(fault) => tell("rtp.ports", Verdict::Fault, fault.to_string()),
    }
}

/// What protects the sound, and what of it does not do what it seems to.
fn check_sound(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    tell("rtp.srtp", Verdict::Ok, config.rtp.srtp.to_string());
    check_trunks(config, "", tell);
    let is_public = |ip: &std::net::IpAddr| !crate::config::Network::Private.contains(*ip) && !ip.is_loopback();
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    if config.rtp.ice == IceMode::Lite && config.sip.advertise.is_empty() && !own.iter().any(|at| is_public(&at.ip())) {
        let says =
            "lite is for a public address, and this machine has none of its own: write full, or set sip.advertise";
        tell("rtp.ice", Verdict::Note, says.to_owned());
    }
}

/// What trunks do not protect; `whose`: where those of this configuration stand, where that is not its file.
fn check_trunks(config: &Config, whose: &str, tell: &mut impl FnMut(&str, Verdict, String)) {
    let is_private =
        |host: &crate::config::TrunkHost| host.uri.contains("transport=tls") || host.uri.starts_with("sips:");
    for trunk in &config.trunks {
        if trunk.srtp == SrtpPolicy::Sdes && !trunk.hosts.iter().all(is_private) {
            let says = "sdes puts the keys into signalling that anybody on the way can read: reach it by transport=tls, or write dtls";
            tell(&format!("trunks.{}.srtp{whose}", trunk.name), Verdict::Note, says.to_owned());
        }
    }
}

/// Asks the servers of `[[ice_servers]]` as a call does, with more patience.
async fn check_ice(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    if config.ice_servers.is_empty() {
        if config.rtp.ice == IceMode::Relay {
            let says = "relay goes by TURN servers alone, and there is none: add one to [[ice_servers]], or write full";
            tell("rtp.ice", Verdict::Fault, says.to_owned());
        }
        return;
    }
    let (found, missing) = ice::find(config).await;
    for (url, why) in missing {
        tell("ice_servers", Verdict::Fault, format!("{url}: {why}. Mend its URL, or the name server"));
    }
    let media = match media::Media::start(crate::config::engines::media(config)) {
        Ok(media) => media,
        // Said already, of rtp.ports.
        Err(_) => return,
    };
    for server in found {
        let Ok(mut port) = media.reserve() else { break };
        let name = server.name.clone();
        media.set_ice_servers(vec![server]);
        let faults = media.gather(&mut port, ICE_PATIENCE).await;
        match faults.first() {
            Some(fault) => {
                let fix = "Mend its URL, its login, or what keeps us from it";
                tell("ice_servers", Verdict::Fault, format!("{fault}. {fix}"));
            }
            None => tell("ice_servers", Verdict::Ok, format!("{name} answers")),
        }
        for at in port.relayed().map(|at| format!("media has a server's address {}", at.ip())) {
            tell("ice_servers", Verdict::Ok, at);
        }
        for at in port.reflexive().iter().map(|at| format!("media is seen from outside at {}", at.ip())) {
            tell("ice_servers", Verdict::Ok, at);
        }
    }
    media.shutdown();
}

fn check_web(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    if !config.web.calls {
        return;
    }
    let (way, at) = match config.http.tls_addr() {
        Some(at) => ("https", at),
        None => ("http", config.http.listen),
    };
    if !at.ip().is_loopback() && config.web.token.is_empty() {
        let whom = config.web.numbers.join(", ");
        let says = format!(
            "whoever reaches {at} may call {whom} from a web page: set web.token_file, or listen on loopback alone"
        );
        return tell("web", Verdict::Note, says);
    }
    tell("web", Verdict::Ok, format!("pages may call {}: {way}://{at}/call", config.web.numbers.join(", ")));
}

/// What is read of the database.
#[derive(Debug, Default)]
struct Database {
    /// The agents that take calls by it.
    agents: Vec<String>,
    /// Devices, trunks, routes and numbers.
    settings: Vec<StoredSetting>,
}

/// The database answers. One that is not there yet is not made here. Returns what is to be checked of it; `None` where that cannot be told.
fn check_control(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) -> Option<Database> {
    if !config.control.on {
        tell("control", Verdict::Note, "off: no users, no /api/v1; records are in calls.jsonl alone".to_owned());
        return Some(Database::default());
    }
    let plain = &config.http;
    if plain.plain == PlainHttp::Serve && !plain.listen.ip().is_loopback() && plain.trusted_proxies.is_empty() {
        let says = format!(
            "passwords and records travel to {} as anybody on the way can read them: set http.tls_listen and \
             http.plain=redirect, or have a proxy with TLS before it (http.trusted_proxies)",
            plain.listen
        );
        tell("http.plain", Verdict::Note, says);
    }
    check_provider(config, tell);
    if config.control.database.is_empty() && !config.data.dir.join("omnivox.db").exists() {
        tell("control.database", Verdict::Ok, "SQLite in data.dir, made at the first start".to_owned());
        return Some(Database::default());
    }
    let url = plane::options(config).database;
    let answer = tokio::runtime::Handle::current().block_on(async {
        let store = Store::open(&url).await?;
        let steps = store.migrations().await?;
        let is_new = steps.iter().all(|step| step.applied);
        let found = match is_new {
            true => {
                let agents = store.published_agents().await?.into_iter().map(|(name, _)| name).collect();
                Some((store.administrators().await?, Database { agents, settings: store.settings().await? }))
            }
            false => None,
        };
        store.close().await;
        Ok::<_, StoreError>(found)
    });
    const UNREAD: &str = "agents, devices, trunks, routes and numbers that stand in it are not checked";
    let (verdict, says, found) = match answer {
        Ok(None) => {
            let says = format!(
                "its schema is older than this program's: serve brings it up, or omnivox migrate up. Until then {UNREAD}"
            );
            (Verdict::Note, says, None)
        }
        Ok(Some((0, found))) => (Verdict::Note, "nobody administers it: omnivox user add NAME".to_owned(), Some(found)),
        Ok(Some((_, found))) => (Verdict::Ok, "it answers".to_owned(), Some(found)),
        Err(fault) => (Verdict::Fault, format!("{fault}. As it is not open, {UNREAD}"), None),
    };
    tell("control.database", verdict, says);
    found
}

/// The provider that people log in by answers as one does.
fn check_provider(config: &Config, tell: &mut impl FnMut(&str, Verdict, String)) {
    let Some(options) = config.control.oidc.options(&config.control.url) else { return };
    let back = format!("{}{CALLBACK}", options.url.trim_end_matches('/'));
    let reached = Oidc::new(options)
        .map_err(|fault| fault.to_string())
        .and_then(|oidc| tokio::runtime::Handle::current().block_on(oidc.reach()).map_err(|fault| fault.to_string()));
    match reached {
        Ok(()) => tell("control.oidc", Verdict::Ok, format!("the provider answers; have it lead back to {back}")),
        Err(fault) => tell("control.oidc", Verdict::Fault, fault),
    }
}

/// Agents of files can be loaded, and routes lead to agents that there are: those, and the `published` of the database. `whole`: the configuration
/// with what the database adds, and that alone.
fn check_agents(
    config: &Config,
    (whole, added): (&Config, Option<&Config>),
    published: Option<&[String]>,
    tell: &mut impl FnMut(&str, Verdict, String),
) {
    let agents = match Agents::load(config, Registry::built_in(), HashMap::new()) {
        Ok(agents) => agents,
        Err(fault) => return tell("agents", Verdict::Fault, format!("{fault:#}")),
    };
    // With a control plane they may be published while it serves: it starts without them, and warns.
    let verdict = if config.control.on { Verdict::Note } else { Verdict::Fault };
    for missed in agents.missed_by(config, published.unwrap_or_default()) {
        tell("configuration", verdict, missed.to_string());
    }
    for missed in added.into_iter().flat_map(|added| agents.missed_by(added, published.unwrap_or_default())) {
        // A number is a route in short.
        tell("database", Verdict::Note, missed.to_string().replace("routes.number ", "numbers."));
    }
    let mut in_use = InUse::default();
    for name in agents.names() {
        let what = format!("agent {name}");
        let faults = agents.faults(&name);
        faults.iter().for_each(|fault| tell(&what, Verdict::Fault, fault.to_string()));
        match agents.build(&name) {
            Ok(agent) => {
                in_use.add(&agent);
                if faults.is_empty() {
                    tell(&what, Verdict::Ok, format!("takes calls to sip:{name}@"));
                }
                for note in &agent.notes {
                    tell(&what, Verdict::Note, note.clone());
                }
            }
            Err(fault) if faults.is_empty() => tell(&what, Verdict::Fault, format!("{fault:#}")),
            // Said already.
            Err(_) => {}
        }
    }
    prices::check(whole, &in_use, tell);
}

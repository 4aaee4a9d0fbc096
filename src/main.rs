//! The command line of Omnivox.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use omnivox::config::{Config, LogConfig, Sources};
use omnivox::telemetry::reports::Reports;

/// Calls are set up on one thread and let go on another; the system's allocator grows and shrinks its arenas all the while.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Answers and places phone calls and talks with people.
#[derive(Debug, Parser)]
#[command(name = "omnivox", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Configuration file (TOML). Without it `omnivox.toml` in the working folder is read, where there is one (not by `call`, `load`, `say` and
    /// `report`, which are no server's); otherwise the defaults hold.
    #[arg(long, global = true, value_name = "FILE", env = "OMNIVOX_CONFIG")]
    config: Option<PathBuf>,
    /// Sets one key, over file and environment; may be given several times.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers calls until it is told to stop.
    Serve(omnivox::serve::ServeArgs),
    /// Places one call: a headless softphone.
    Call(Box<omnivox::softphone::CallArgs>),
    /// Places many calls at once, each with a sound of its own, and says how they went: for capacity.
    Load(omnivox::load::LoadArgs),
    /// Talks with an agent over this machine's microphone and loudspeaker.
    Talk(omnivox::talk::TalkArgs),
    /// Lists, fetches and verifies downloadable models.
    Models(omnivox::models::ModelsArgs),
    /// Checks configuration, ports, models and providers, and says what to do about each fault.
    Check(omnivox::check::CheckArgs),
    /// Speaks text into a WAV file.
    Say(omnivox::say::SayArgs),
    /// Shows the signalling of a call of a running server, as a ladder of text or as a capture for Wireshark.
    Trace(omnivox::trace::show::TraceArgs),
    /// Adds users and sets passwords, on the server's own machine.
    User(omnivox::user::UserArgs),
    /// Brings the database's schema up, takes it down, shows where it stands.
    Migrate(omnivox::user::MigrateArgs),
    /// Puts everything that the server keeps into one file, also while it runs.
    Backup(omnivox::backup::BackupArgs),
    /// Restores a backup, into SQLite or PostgreSQL, while the server does not run.
    Restore(omnivox::backup::RestoreArgs),
    /// Makes keys for sealed recordings, and opens them.
    Recording(omnivox::recording::RecordingArgs),
    /// Makes an HTML report of a recorded call.
    Report(omnivox::report::ReportArgs),
}

impl Command {
    /// Whether it is about the server whose folder it is called in.
    fn is_of_a_server(&self) -> bool {
        !matches!(self, Self::Call(_) | Self::Load(_) | Self::Say(_) | Self::Report(_))
    }

    /// Whether what it does depends on the configuration so much that the log says which it was.
    fn tells_its_sources(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::User(_) | Self::Migrate(_) | Self::Backup(_) | Self::Restore(_))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(fault) => {
            omnivox::output::tell(format_args!("omnivox: {fault:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if !matches!(cli.command, Command::Models(_) | Command::Say(_) | Command::Load(_)) {
        // Before there are threads, and before anything is made: the rest writes what tells of calls and people.
        omnivox::private::keep();
    }
    let mut sources = Sources::from_command_line(cli.global.config.as_deref(), &cli.global.sets);
    if cli.command.is_of_a_server() {
        sources = sources.find_file(Path::new(""));
    }
    if let Command::Check(args) = cli.command {
        return block_on(omnivox::check::run(args, &sources));
    }
    let mut config = Config::load(&sources).map_err(|fault| anyhow::anyhow!("configuration: {fault}"))?;
    if matches!(cli.command, Command::Load(_)) && config.log == LogConfig::default() {
        // Two lines for each of thousands of calls hide what matters.
        config.log.level = "warn".to_owned();
    }
    let dsn = config.telemetry.sentry_dsn.reveal();
    let reports = match cli.command {
        Command::Serve(_) if !dsn.is_empty() => Some(Reports::start(dsn, &config.control.node)?),
        _ => None,
    };
    omnivox::telemetry::init_logs(&config.log, reports)?;
    if cli.command.tells_its_sources() {
        tracing::info!("{}", sources.described());
    }
    match cli.command {
        Command::Serve(args) => block_on(omnivox::serve::run(args, config)),
        Command::Call(args) => block_on(omnivox::softphone::run(*args, config)),
        Command::Load(args) => block_on(omnivox::load::run(args, config)),
        Command::Talk(args) => block_on(omnivox::talk::run(args, config)),
        Command::Models(args) => block_on(omnivox::models::run(args, config)),
        Command::Say(args) => block_on(omnivox::say::run(args)),
        Command::Trace(args) => block_on(omnivox::trace::show::run(args, config)),
        Command::User(args) => block_on(omnivox::user::run(args, config)),
        Command::Migrate(args) => block_on(omnivox::user::migrate(args, config)),
        Command::Backup(args) => block_on(omnivox::backup::back_up(args, config, sources.file)),
        Command::Restore(args) => block_on(omnivox::backup::restore(args, config)),
        Command::Recording(args) => omnivox::recording::run(args, &config),
        Command::Report(args) => omnivox::report::run(&args),
        Command::Check(_) => Ok(ExitCode::SUCCESS),
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

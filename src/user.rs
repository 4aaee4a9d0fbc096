//! `omnivox user` and `omnivox migrate`: what has to work before anybody can log in, on the server's own machine.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use control::api::users::no_device;
use control::identity::{Role, password};
use control::ports::settings::SettingKind;
use control::store::Store;
use control::store::migrate::{self, Applied};
use control::store::users::NewUser;
use control::time::Moment;
use serde_json::json;

use crate::config::Config;
use crate::output::print_line;
use crate::plane;

/// Who changes something by the command line, as the audit log has it.
const ACTOR: &str = "command line";

/// `omnivox user`
#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Adds a user; the password is asked for, or read as a line from stdin.
    Add {
        /// The name to log in with.
        name: String,
        /// The name that people see; by default that to log in with.
        #[arg(long)]
        display: Option<String>,
        /// What they may do.
        #[arg(long, value_enum, default_value = "administrator")]
        role: RoleArg,
        /// The SIP account they take calls with: a device of the configuration or of the database.
        #[arg(long)]
        device: Option<String>,
    },
    /// Sets a user's password; every session and token of theirs ends, a lock is taken away.
    Passwd {
        /// The name to log in with.
        name: String,
    },
    /// Lists the users.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    Operator,
    Supervisor,
    Administrator,
}

/// `omnivox migrate`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Brings the database's schema to the newest version; `serve` does so by itself.
    Up,
    /// Takes the schema back to a version, for an older program. What later versions brought is lost.
    Down {
        /// The version to go back to.
        version: i64,
    },
    /// Shows which versions the database has.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs `omnivox user`.
///
/// # Errors
/// The database does not open, a name is taken or not there, a password is weak.
pub async fn run(args: UserArgs, config: Config) -> anyhow::Result<ExitCode> {
    let store = open(&config).await?;
    store.migrate().await?;
    let now = Moment::now();
    match args.command {
        UserCommand::Add { name, display, role, device } => {
            let name = control::api::extract::name("NAME", &name).map_err(|problem| anyhow::anyhow!(problem.detail))?;
            if let Some(device) = &device {
                let there = devices(&config, &store).await?;
                anyhow::ensure!(there.contains(device), "--device: {}", no_device(device, there));
            }
            let display = display.unwrap_or_else(|| name.clone());
            let password_hash = new_password(&[&name, &display]).await?;
            let role = Role::from(role);
            let new = NewUser { name, display, role, team: None, device, password_hash };
            let user = store.add_user(new, now).await?;
            store.add_audit(ACTOR, "user.create", &user.name, &json!({ "role": role }), now).await?;
            print_line!("{} is there: {}", user.name, role.as_str())?;
        }
        UserCommand::Passwd { name } => {
            let known = store.credentials(&name.to_lowercase()).await?;
            let user = known.with_context(|| format!("no user is called {name}: `omnivox user list`"))?.user;
            let hash = new_password(&[&user.name, &user.display]).await?;
            store.set_password(&user.id, &hash, now).await?;
            store.add_audit(ACTOR, "user.password", &user.name, &json!({}), now).await?;
            print_line!("{} has a new password", user.name)?;
        }
        UserCommand::List { json } => list(&store, json).await?,
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Runs `omnivox migrate`.
///
/// # Errors
/// The database does not open, or refuses.
pub async fn migrate(args: MigrateArgs, config: Config) -> anyhow::Result<ExitCode> {
    let steps = match args.command {
        MigrateCommand::Status { json } => {
            let steps = status(&config).await?;
            if json {
                print_line!("{}", serde_json::to_string(&steps)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            steps
        }
        MigrateCommand::Up => {
            let store = open(&config).await?;
            store.migrate().await?;
            let steps = store.migrations().await?;
            store.close().await;
            steps
        }
        MigrateCommand::Down { version } => {
            let store = open(&config).await?;
            may_go_down(&store.migrations().await?, version)?;
            store.migrate_down(version).await?;
            let steps = store.migrations().await?;
            store.close().await;
            steps
        }
    };
    for step in steps {
        print_line!("{:4}  {:12}  {}", step.version, step.name, if step.applied { "applied" } else { "not applied" })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the database stands; one that is not there yet is not made.
async fn status(config: &Config) -> anyhow::Result<Vec<Applied>> {
    let database = plane::options(config).database;
    if Store::file_of(&database).is_some_and(|path| !path.exists()) {
        return Ok(migrate::none_applied());
    }
    let store = Store::open(&database).await?;
    let steps = store.migrations().await?;
    store.close().await;
    Ok(steps)
}

/// Whether this is a version below the one that the database has.
fn may_go_down(steps: &[Applied], to: i64) -> anyhow::Result<()> {
    let has = steps.iter().filter(|step| step.applied).map(|step| step.version).max().unwrap_or_default();
    let known: Vec<String> = steps.iter().map(|step| step.version.to_string()).collect();
    anyhow::ensure!(
        to == 0 || steps.iter().any(|step| step.version == to),
        "there is no version {to}: write one of {}, or 0, which takes everything away",
        known.join(", ")
    );
    anyhow::ensure!(
        to <= has,
        "the database has version {has}, which is below {to}: `omnivox migrate up` brings it up"
    );
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    let options = plane::options(config);
    std::fs::create_dir_all(&options.folder)
        .with_context(|| format!("cannot make the data folder {}", options.folder.display()))?;
    Ok(Store::open(&options.database).await?)
}

/// The devices that there are: of the configuration, and of the database.
async fn devices(config: &Config, store: &Store) -> anyhow::Result<Vec<String>> {
    let stored = store.settings().await?.into_iter().filter(|setting| setting.kind == SettingKind::Device.as_str());
    let configured = config.devices.iter().map(|device| device.user.clone());
    Ok(configured.chain(stored.map(|setting| setting.name)).collect())
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    const PAGE: i64 = 200;
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = store.users(None, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        all.extend(page);
    }
    if as_json {
        print_line!("{}", serde_json::to_string(&all)?)?;
        return Ok(());
    }
    for user in all {
        let state = if user.disabled { "disabled" } else { "" };
        print_line!("{:20}  {:13}  {:16}  {state}", user.name, user.role.as_str(), user.device.unwrap_or_default())?;
    }
    Ok(())
}

/// Asks for a password where somebody sits there, reads a line where not.
async fn new_password(names: &[&str]) -> anyhow::Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        anyhow::ensure!(first == rpassword::prompt_password("Again: ")?, "the two differ");
        first
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    password::check(&password, names).map_err(|weak| anyhow::anyhow!("the password is not taken: {weak}"))?;
    Ok(password::hash(password).await?)
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Operator => Self::Operator,
            RoleArg::Supervisor => Self::Supervisor,
            RoleArg::Administrator => Self::Administrator,
        }
    }
}

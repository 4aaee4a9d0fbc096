//! `omnivox models`: lists, fetches and verifies what is too large to ship.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use agent::models::{CATALOGUE, Model, Progress, State, Store, Trust, find};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::Config;
use crate::output::{self, print_line};

/// Arguments of `omnivox models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ModelsCommand {
    /// Lists the models there are, and which are here.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetches models; one that broke off is gone on with.
    Pull {
        /// Their names, as `list` shows them.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Compares models that are here with their checksums.
    Verify {
        /// Their names; all that are here, if none is given.
        names: Vec<String>,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    state: &'static str,
    bytes: u64,
    about_mib: u32,
    licence: &'static str,
    about: &'static str,
    path: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// An unknown name, or a model that cannot be had: what, and how to mend it.
pub async fn run(args: ModelsArgs, config: Config) -> anyhow::Result<ExitCode> {
    let store =
        Store::new(config.models_dir()).with_base_url(Some(config.models.url.clone()).filter(|url| !url.is_empty()));
    match args.command {
        ModelsCommand::List { json } => list(&store, json)?,
        ModelsCommand::Pull { names } => {
            for model in named(&names)? {
                pull(&store, model).await?;
            }
        }
        ModelsCommand::Verify { names } => return verify(&store, &names),
    }
    Ok(ExitCode::SUCCESS)
}

fn named(names: &[String]) -> anyhow::Result<Vec<&'static Model>> {
    let known = || CATALOGUE.iter().map(|model| model.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| find(name).ok_or_else(|| anyhow::anyhow!("there is no model {name}. There are {}", known())))
        .collect()
}

fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let listed: Vec<Listed> = store.list().into_iter().map(|(model, state)| listed(store, model, state)).collect();
    if json {
        print_line!("{}", serde_json::to_string_pretty(&listed)?)?;
        return Ok(());
    }
    for model in listed {
        print_line!(
            "{:<24} {:<8} {:>4} MiB  {:<13} {}",
            model.name,
            model.state,
            model.about_mib,
            model.licence,
            model.about
        )?;
    }
    Ok(())
}

fn listed(store: &Store, model: &'static Model, state: State) -> Listed {
    let (state, bytes) = match state {
        State::Here { size_bytes } => ("here", size_bytes),
        State::Partial { done_bytes } => ("partial", done_bytes),
        State::Absent => ("absent", 0),
    };
    Listed {
        name: model.name,
        state,
        bytes,
        about_mib: model.about_mib,
        licence: model.licence,
        about: model.about,
        path: store.path_of(model),
    }
}

async fn pull(store: &Store, model: &Model) -> anyhow::Result<()> {
    let shows = std::io::stderr().is_terminal();
    let mut shown = 0;
    output::tell(format_args!("{}: from {}", model.name, store.url_of(model)));
    let pulled = store
        .pull(model, |progress: Progress| {
            let mib = progress.done_bytes >> 20;
            if shows && mib != shown {
                shown = mib;
                let total = progress.total_bytes.map(|total| format!(" of {}", total >> 20)).unwrap_or_default();
                let mut err = std::io::stderr().lock();
                let _ = write!(err, "\r  {mib}{total} MiB").and_then(|()| err.flush());
            }
        })
        .await?;
    if shows {
        output::tell("");
    }
    let trust = match pulled.trust {
        Trust::Catalogue => "as in the catalogue",
        Trust::FirstPull => "noted at this first pull: it will show damage, not a wrong download",
        Trust::Nothing => "compared with nothing: the file was put there by hand",
    };
    let already = if pulled.already_here { " (was here already)" } else { "" };
    print_line!("{}: {}{already}\n  sha256 {}, {trust}", model.name, pulled.path.display(), pulled.digest)?;
    Ok(())
}

fn verify(store: &Store, names: &[String]) -> anyhow::Result<ExitCode> {
    let models = match names {
        [] => store
            .list()
            .into_iter()
            .filter(|(_, state)| matches!(state, State::Here { .. }))
            .map(|(model, _)| model)
            .collect(),
        names => named(names)?,
    };
    if models.is_empty() {
        print_line!(
            "no model is here: `omnivox models list` shows what there is, `omnivox models pull NAME` fetches it"
        )?;
    }
    let mut all_good = true;
    for model in models {
        match store.verify(model) {
            Ok(verified) => print_line!("{}: ok, sha256 {}", model.name, verified.digest)?,
            Err(fault) => {
                all_good = false;
                print_line!("{}: {fault}", model.name)?;
            }
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

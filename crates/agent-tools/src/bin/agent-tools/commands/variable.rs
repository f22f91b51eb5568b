//! The subcommand `variable`: variables of every session's environment. Reads values from standard
//! input, and prints one only if it is asked for.

use std::io::IsTerminal;
use std::process::ExitCode;

use agent_tools::printable;
use agent_tools::secrets::sql::Encryption;
use agent_tools::secrets::{LoadedVariables, VariableSource};
use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln, print_bytes};
use crate::stdin;

#[derive(Debug, Subcommand)]
pub(crate) enum VariableCommand {
    /// Set a variable to the text on standard input, without one line end at its end.
    #[command(after_help = "Example:\n  $ printf %s secret | agent-tools variable set API_TOKEN")]
    Set {
        /// Name of the variable.
        name: String,
        /// Encrypt the value with the passphrase of --secret-file or AGENT_TOOLS_SECRET.
        #[arg(long)]
        encrypted: bool,
    },
    /// Print the value of a variable as it is, decrypted.
    #[command(after_help = "Example:\n  $ token=$(agent-tools variable get API_TOKEN)")]
    Get {
        /// Name of the variable.
        name: String,
    },
    /// List the names of the variables, never their values.
    List,
    /// Remove a variable.
    Remove {
        /// Name of the variable.
        name: String,
    },
}

pub(crate) async fn run(context: &Context, command: VariableCommand) -> Result<ExitCode, Failure> {
    match command {
        VariableCommand::Set { name, encrypted } => set(context, &name, encrypted).await,
        VariableCommand::Get { name } => get(context, &name).await,
        VariableCommand::List => list(context).await,
        VariableCommand::Remove { name } => remove(context, &name).await,
    }
    .map_err(Failure::into_failed)
}

async fn set(context: &Context, name: &str, encrypted: bool) -> Result<ExitCode, Failure> {
    let encryption = if encrypted { Encryption::CryptoJs } else { Encryption::Plain };
    if encrypted && context.passphrase()?.is_none() {
        return Err(Failure::usage(
            "--encrypted needs the passphrase in AGENT_TOOLS_SECRET or --secret-file",
        ));
    }
    let value = String::from_utf8(stdin::read("the value")?)
        .map_err(|_| Failure::usage("the value is not UTF-8"))?;
    let value = SecretString::from(value.strip_suffix('\n').unwrap_or(&value));
    let variables = context.writable_variables().await?;
    variables.set(name, value, encryption).await.map_err(Failure::failed)?;
    context.print(&serde_json::json!({ "set": name, "encrypted": encrypted }), || {
        outln!("set {name}");
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn get(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let loaded = match context.existing_variables().await? {
        Some(variables) => variables.load().await.map_err(Failure::failed)?,
        None => LoadedVariables::default(),
    };
    let Some(value) = loaded.variables.get(name) else {
        let skipped = loaded.skipped.iter().find(|skipped| skipped.name == name);
        return Err(Failure::failed_text(match skipped {
            Some(skipped) => format!("variable {name}: {}", skipped.reason),
            None => format!("there is no variable {name}"),
        }));
    };
    let value = value.expose_secret();
    context.print(&serde_json::json!({ "name": name, "value": value }), || {
        print_bytes(value.as_bytes());
        if std::io::stdout().is_terminal() || !value.ends_with('\n') {
            print_bytes(b"\n");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let variables = match context.existing_variables().await? {
        Some(variables) => variables.list().await.map_err(Failure::failed)?,
        None => Vec::new(),
    };
    let listed: Vec<_> = variables
        .iter()
        .map(|variable| {
            let encrypted = variable.encryption.map(|form| form == Encryption::CryptoJs);
            serde_json::json!({ "name": variable.name, "encrypted": encrypted })
        })
        .collect();
    context.print(&listed, || {
        for variable in &variables {
            let note = match variable.encryption {
                Some(Encryption::Plain) => "",
                Some(_) => " (encrypted)",
                None => " (skipped: its column `encrypted` is neither true nor false)",
            };
            outln!("{}{note}", printable(&variable.name));
        }
        if variables.is_empty() {
            errln!("agent-tools: no variable is set");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let was_there = match context.existing_variables().await? {
        Some(variables) => variables.remove(name).await.map_err(Failure::failed)?,
        None => false,
    };
    if !was_there {
        return Err(Failure::failed_text(format!("there is no variable {name}")));
    }
    context.print(&serde_json::json!({ "removed": name }), || outln!("removed {name}"))?;
    Ok(ExitCode::SUCCESS)
}

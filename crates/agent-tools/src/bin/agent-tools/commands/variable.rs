//! The subcommand `variable`: variables of every session's environment. Reads values from standard
//! input and never prints them.

use std::process::ExitCode;

use agent_tools::secrets::sql::Encryption;
use clap::Subcommand;
use secrecy::SecretString;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
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
    context.variables().await?.set(name, value, encryption).await.map_err(Failure::failed)?;
    context.print(&serde_json::json!({ "set": name, "encrypted": encrypted }), || {
        outln!("set {name}");
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let variables = context.variables().await?.list().await.map_err(Failure::failed)?;
    let listed: Vec<_> = variables
        .iter()
        .map(|variable| {
            let encrypted = variable.encrypted;
            serde_json::json!({ "name": variable.name, "encrypted": encrypted })
        })
        .collect();
    context.print(&listed, || {
        for variable in &variables {
            outln!("{}{}", variable.name, if variable.encrypted { " (encrypted)" } else { "" });
        }
        if variables.is_empty() {
            errln!("agent-tools: no variable is set");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    if !context.variables().await?.remove(name).await.map_err(Failure::failed)? {
        return Err(Failure::failed_text(format!("there is no variable {name}")));
    }
    context.print(&serde_json::json!({ "removed": name }), || outln!("removed {name}"))?;
    Ok(ExitCode::SUCCESS)
}

//! The subcommand `variable`: variables of every session's environment. Reads values from standard
//! input, and prints one only if it is asked for.

use std::io::IsTerminal;
use std::process::ExitCode;

use agent_tools::printable;
use agent_tools::secrets::sql::{Encryption, VariableHosts};
use agent_tools::secrets::{LoadedVariables, MaskSpec, Masks, RequestPart, VariableSource};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln, print_bytes};
use crate::stdin;

#[derive(Debug, Subcommand)]
pub(crate) enum VariableCommand {
    /// Set a variable to the text on standard input, without one line end at its end. A terminal
    /// does not show the text.
    #[command(
        after_help = "Examples:\n  $ printf %s secret | agent-tools variable set API_TOKEN\n  \
                            $ printf %s secret | agent-tools variable set API_TOKEN \
                            --host api.example.com"
    )]
    Set(SetArgs),
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

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name of the variable.
    name: String,
    /// Encrypt the value with the passphrase of --secret-file or AGENT_TOOLS_SECRET.
    #[arg(long)]
    encrypted: bool,
    /// Hide the value from commands: they get a placeholder, which becomes the value in requests
    /// over TLS to this host. HOST is a name, *.DOMAIN or an address, with or without a port.
    /// Repeatable. Without this option, a variable keeps its hosts.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Vec<String>,
    /// Parts of a request that get the value [default: headers,query]. A server can return what it
    /// gets in a body.
    #[arg(long = "in", value_name = "PART", value_delimiter = ',', requires = "host")]
    parts: Vec<Part>,
    /// Let requests without TLS have the value too.
    #[arg(long, requires = "host")]
    allow_plaintext: bool,
    /// Let a pattern have names of different owners, such as *.github.io.
    #[arg(long, requires = "host")]
    allow_shared_domains: bool,
    /// Give commands the value itself, whatever its hosts are.
    #[arg(long)]
    unmasked: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Headers,
    Query,
    Body,
}

impl From<Part> for RequestPart {
    fn from(part: Part) -> Self {
        match part {
            Part::Headers => Self::Headers,
            Part::Query => Self::Query,
            Part::Body => Self::Body,
        }
    }
}

/// The change of a variable's hosts.
enum Hosts {
    Keep,
    Set(Option<VariableHosts>),
}

impl SetArgs {
    /// Returns the hosts. Fails if a session would not accept them.
    fn hosts(&self, value: &SecretString) -> Result<Hosts, Failure> {
        if self.host.is_empty() {
            return Ok(if self.unmasked { Hosts::Set(None) } else { Hosts::Keep });
        }
        let mut mask = MaskSpec::new(&self.host);
        if !self.parts.is_empty() {
            mask = mask.parts(self.parts.iter().copied().map(Into::into));
        }
        if self.allow_plaintext {
            mask = mask.allow_plaintext();
        }
        if self.allow_shared_domains {
            mask = mask.allow_shared_domains();
        }
        if self.unmasked {
            return Ok(Hosts::Set(Some(VariableHosts::unmasked(mask))));
        }
        let checked = mask.mask(&self.name, value.clone());
        egress::check_hosts(&checked).map_err(|error| Failure::usage(error.to_string()))?;
        Masks::new([checked]).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Hosts::Set(Some(VariableHosts::masked(mask))))
    }
}

pub(crate) async fn run(context: &Context, command: VariableCommand) -> Result<ExitCode, Failure> {
    match command {
        VariableCommand::Set(args) => set(context, &args).await,
        VariableCommand::Get { name } => get(context, &name).await,
        VariableCommand::List => list(context).await,
        VariableCommand::Remove { name } => remove(context, &name).await,
    }
    .map_err(Failure::into_failed)
}

/// Returns whether a shell can read a variable of this name (POSIX, 3.216).
fn is_shell_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
}

async fn set(context: &Context, args: &SetArgs) -> Result<ExitCode, Failure> {
    let SetArgs { name, encrypted, .. } = args;
    if !is_shell_name(name) {
        return Err(Failure::usage(format!(
            "{name:?} is no name of a variable for shells: it needs letters, digits and `_`, and \
             no digit at its beginning"
        )));
    }
    let encrypted = *encrypted;
    let encryption = if encrypted { Encryption::CryptoJs } else { Encryption::Plain };
    if encrypted && context.passphrase()?.is_none() {
        return Err(Failure::usage(
            "--encrypted needs the passphrase in AGENT_TOOLS_SECRET or --secret-file",
        ));
    }
    let value = String::from_utf8(stdin::read_secret("the value").await?)
        .map_err(|_| Failure::usage("the value is not UTF-8"))?;
    let value = SecretString::from(value.strip_suffix('\n').unwrap_or(&value));
    let hosts = args.hosts(&value)?;
    let variables = context.writable_variables().await?;
    let stored = match hosts {
        Hosts::Keep => variables.set(name, value, encryption).await,
        Hosts::Set(hosts) => {
            variables.set_with_hosts(name, value, encryption, hosts.as_ref()).await
        }
    };
    stored.map_err(Failure::failed)?;
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
            let mut listed = serde_json::json!({ "name": variable.name, "encrypted": encrypted });
            if let Some(hosts) = &variable.hosts {
                listed["hosts"] = hosts.mask.hosts.clone().into();
                listed["masked"] = hosts.is_masked.into();
            }
            listed
        })
        .collect();
    context.print(&listed, || {
        for variable in &variables {
            let note = match variable.encryption {
                Some(Encryption::Plain) => "",
                Some(_) => " (encrypted)",
                None => " (skipped: its column `encrypted` is neither true nor false)",
            };
            let hosts = variable.hosts.as_ref().map(|hosts| {
                let use_of = if hosts.is_masked { "masked for" } else { "not masked, for" };
                format!(" ({use_of} {})", hosts.mask.hosts.join(", "))
            });
            let line = format!("{}{note}{}", variable.name, hosts.unwrap_or_default());
            outln!("{}", printable(&line));
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

//! The subcommand `variable`: variables of every session's environment. Reads values from standard
//! input, and prints one only if it is asked for.

use std::ffi::OsString;
use std::process::ExitCode;

use agent_tools::printable;
use agent_tools::secrets::sql::{Encryption, VariableHosts, VariableSummary};
use agent_tools::secrets::{
    LoadedVariables, MaskSpec, Masks, RequestPart, SkipReason, SourceError, VariableSource,
};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use egress::MasksError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::host_pattern;
use crate::output::{errln, outln, print_bytes};
use crate::stdin;

/// Variables that every session sets itself, of those that a source may have.
const OF_SESSIONS: [&str; 2] = ["SHELL", "TMPDIR"];

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
    /// Print the value of a variable as it is, decrypted, and a line end.
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
    /// Words that are no arguments: a value on the command line is visible to other users.
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Encrypt the value with the passphrase of --secret-file or AGENT_TOOLS_SECRET. Without this
    /// option, a variable that is encrypted stays so.
    #[arg(long)]
    encrypted: bool,
    /// Store the value as it is, also if the variable was encrypted.
    #[arg(long, conflicts_with = "encrypted")]
    plain: bool,
    /// Hide the value from commands: they get a placeholder, which becomes the value in requests
    /// over TLS to this host. HOST is a name, *.DOMAIN or an address, with or without a port.
    /// Repeatable. Without this option, a variable keeps its hosts.
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        value_parser = host_pattern::masked
    )]
    host: Vec<String>,
    /// Parts of a request that get the value [default: headers,query]. A server can return what it
    /// gets in a body.
    #[arg(
        long = "in",
        value_name = "PART",
        value_delimiter = ',',
        value_parser = request_part(),
        requires = "host"
    )]
    parts: Vec<RequestPart>,
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

/// Returns the parser of a part of a request, by its name.
fn request_part() -> impl TypedValueParser<Value = RequestPart> {
    let names = PossibleValuesParser::new(RequestPart::ALL.map(RequestPart::name));
    names.try_map(|name| RequestPart::named(&name).ok_or("it is no part of a request"))
}

/// The change of a variable's hosts.
enum Hosts {
    Keep,
    Set(Option<VariableHosts>),
}

impl SetArgs {
    /// Checks the name. Neither it nor the words are shown, because they may have the value.
    fn check_name(&self) -> Result<(), Failure> {
        let name = self.name.split('=').next().unwrap_or_default();
        if name.len() < self.name.len() || !self.words.is_empty() {
            let name = if is_shell_name(name) { name } else { "NAME" };
            return Err(Failure::usage(format!(
                "the value comes from standard input, because other users can read a command line: \
                 `printf %s VALUE | agent-tools variable set {name}`"
            )));
        }
        if !is_shell_name(name) {
            return Err(Failure::usage(format!(
                "{name:?} is no name of a variable for shells: it needs letters, digits and `_`, \
                 and no digit at its beginning"
            )));
        }
        if OF_SESSIONS.contains(&name) {
            return Err(Failure::usage(format!("a session sets {name} itself; use another name")));
        }
        Ok(())
    }

    /// Returns the form to store the value in. A variable that is encrypted stays so.
    fn encryption(&self, stored: &[VariableSummary]) -> Encryption {
        let was_encrypted = stored.iter().any(|one| one.encryption != Some(Encryption::Plain));
        if self.encrypted || (was_encrypted && !self.plain) {
            Encryption::CryptoJs
        } else {
            Encryption::Plain
        }
    }

    /// Returns the hosts. Fails if a session would not accept the mask.
    fn hosts(&self, value: &SecretString) -> Result<Hosts, Failure> {
        if self.host.is_empty() {
            return Ok(if self.unmasked { Hosts::Set(None) } else { Hosts::Keep });
        }
        let mut mask = MaskSpec::new(&self.host);
        if !self.parts.is_empty() {
            mask = mask.parts(self.parts.iter().copied());
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
        self.check_mask(&mask, value)?;
        Ok(Hosts::Set(Some(VariableHosts::masked(mask))))
    }

    /// Fails if a session would not accept the new value with the mask that stays.
    fn check_kept(&self, value: &SecretString, stored: &[VariableSummary]) -> Result<(), Failure> {
        let kept = stored.iter().filter_map(|one| one.hosts.as_ref());
        kept.filter(|hosts| hosts.is_masked)
            .try_for_each(|hosts| self.check_mask(&hosts.mask, value))
    }

    fn check_mask(&self, mask: &MaskSpec, value: &SecretString) -> Result<(), Failure> {
        let mask = mask.mask(&self.name, value.clone());
        egress::check_hosts(&mask).map_err(|error| {
            let failure = Failure::usage(error.to_string());
            match error {
                MasksError::SharedDomain { .. } => {
                    failure.with_remedy("name one host, or add --allow-shared-domains")
                }
                MasksError::StandIn { .. } => failure.with_remedy("use --host with the name"),
                MasksError::Loopback { .. } | MasksError::NoServer { .. } => failure.with_remedy(
                    "use --host NAME.host.internal for a server that --expose NAME=HOST:PORT gives \
                     to a session",
                ),
                _ => failure,
            }
        })?;
        Masks::new([mask]).map_err(|error| Failure::usage(error.to_string()))?;
        if is_url(value.expose_secret()) {
            let name = &self.name;
            errln!(
                "agent-tools: warning: the value of {name} is a URL, and commands get a \
                 placeholder; mask the password alone, as in https://USER:${name}@HOST"
            );
        }
        Ok(())
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

/// Returns a text without one line end at its end, also that of DOS.
fn without_line_end(text: &str) -> &str {
    let line = text.strip_suffix('\n');
    line.map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// Returns whether a shell can read a variable of this name (POSIX, 3.216).
fn is_shell_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
}

/// Returns whether a text begins as a URL with a host does (RFC 3986, section 3.1).
fn is_url(text: &str) -> bool {
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(of_scheme)
    })
}

async fn set(context: &Context, args: &SetArgs) -> Result<ExitCode, Failure> {
    args.check_name()?;
    let name = &args.name;
    if args.encrypted {
        check_passphrase(context)?;
    }
    let value = String::from_utf8(stdin::read_secret("the value").await?)
        .map_err(|_| Failure::usage("the value is not UTF-8"))?;
    let value = SecretString::from(without_line_end(&value));
    let hosts = args.hosts(&value)?;
    let variables = context.writable_variables().await?;
    let mut stored = variables.list().await.map_err(Failure::failed)?;
    stored.retain(|one| one.name == *name);
    let encryption = args.encryption(&stored);
    let encrypted = encryption == Encryption::CryptoJs;
    if encrypted {
        check_passphrase(context)?;
    }
    let result = match hosts {
        Hosts::Keep => {
            args.check_kept(&value, &stored)?;
            variables.set(name, value, encryption).await
        }
        Hosts::Set(hosts) => {
            variables.set_with_hosts(name, value, encryption, hosts.as_ref()).await
        }
    };
    result.map_err(|error| match error {
        SourceError::InvalidVariable { reason: SkipReason::LooksEncrypted, .. } => Failure::usage(
            "the value is encrypted already; give the plain text, and encrypt it with --encrypted",
        ),
        error => Failure::failed(error),
    })?;
    context.print(&json!({ "set": name, "encrypted": encrypted }), || {
        outln!("set {name}{}", if encrypted { " (encrypted)" } else { "" });
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check_passphrase(context: &Context) -> Result<(), Failure> {
    match context.passphrase()? {
        Some(_) => Ok(()),
        None => Err(Failure::usage(
            "an encrypted variable needs the passphrase in AGENT_TOOLS_SECRET or --secret-file",
        )),
    }
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
    context.print(&json!({ "name": name, "value": value }), || {
        print_bytes(value.as_bytes());
        print_bytes(b"\n");
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let variables = match context.existing_variables().await? {
        Some(variables) => variables.list().await.map_err(Failure::failed)?,
        None => Vec::new(),
    };
    let listed: Vec<_> = variables.iter().map(json).collect();
    context.print(&listed, || {
        for variable in &variables {
            outln!("{}", printable(&line(variable)));
        }
        if variables.is_empty() {
            errln!("agent-tools: no variable is set");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn json(variable: &VariableSummary) -> Value {
    let encrypted = variable.encryption.map(|form| form == Encryption::CryptoJs);
    let mut listed = json!({ "name": variable.name, "encrypted": encrypted });
    if let Some(VariableHosts { mask, is_masked, .. }) = &variable.hosts {
        listed["hosts"] = mask.hosts.clone().into();
        listed["masked"] = (*is_masked).into();
        listed["in"] = parts(mask).into();
        listed["allowsPlaintext"] = mask.allows_plaintext.into();
        listed["allowsSharedDomains"] = mask.allows_shared_domains.into();
    }
    if let Some(reason) = &variable.skipped {
        listed["skipped"] = reason.to_string().into();
    }
    listed
}

/// Returns a variable with notes in parentheses.
fn line(variable: &VariableSummary) -> String {
    let mut notes = Vec::new();
    if variable.encryption == Some(Encryption::CryptoJs) {
        notes.push("encrypted".to_owned());
    }
    if let Some(VariableHosts { mask, is_masked, .. }) = &variable.hosts {
        let use_of = if *is_masked { "masked for" } else { "not masked, for" };
        let mut note = format!("{use_of} {}", mask.hosts.join(", "));
        if mask.parts != MaskSpec::new([""; 0]).parts {
            note.push_str(&format!("; in {}", parts(mask).join(", ")));
        }
        if mask.allows_plaintext {
            note.push_str("; also without TLS");
        }
        if mask.allows_shared_domains {
            note.push_str("; also names of different owners");
        }
        notes.push(note);
    }
    if let Some(reason) = &variable.skipped {
        notes.push(format!("skipped: {reason}"));
    }
    let notes = notes.iter().map(|note| format!(" ({note})"));
    std::iter::once(variable.name.clone()).chain(notes).collect()
}

fn parts(mask: &MaskSpec) -> Vec<&'static str> {
    mask.parts.iter().map(|part| part.name()).collect()
}

async fn remove(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let was_there = match context.existing_variables().await? {
        Some(variables) => variables.remove(name).await.map_err(Failure::failed)?,
        None => false,
    };
    if !was_there {
        return Err(Failure::failed_text(format!("there is no variable {name}")));
    }
    context.print(&json!({ "removed": name }), || outln!("removed {name}"))?;
    Ok(ExitCode::SUCCESS)
}

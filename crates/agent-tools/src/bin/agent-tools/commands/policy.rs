//! The subcommand `policy`: policies of sessions as sandbox-runtime settings.

mod check;
mod import;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::policy::{Access, Host, Policy, Remedy, Rule, SandboxRuntimeConfig, Verdict};
use clap::Subcommand;
use sandbox_core::NativeSandbox;
use serde::Serialize;

use self::import::ImportArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::SessionArgs;
use crate::output::{outln, print_json};
use crate::settings;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the policy of a session as sandbox-runtime settings.
    Show(SessionArgs),
    /// Explain whether a session can read and write a path or reach a host, with the rule and the
    /// remedy.
    #[command(after_help = "Examples:\n  $ agent-tools policy explain /etc/shadow\n  \
                            $ agent-tools policy explain --allow-read /srv /srv\n  \
                            $ agent-tools policy explain example.com:443")]
    Explain {
        /// Explain for `sandbox --settings FILE` in the working directory. The options of a session
        /// have no effect then.
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// Path, or a host with or without a port. A name without `/` is a path if it exists in
        /// the working directory, and a host otherwise.
        #[arg(value_name = "PATH|HOST[:PORT]")]
        target: OsString,
        #[command(flatten)]
        session: SessionArgs,
    },
    /// Check whether a sandbox opens with these settings, and list all settings that have no effect
    /// or another effect than they say, each with its line and a remedy.
    ///
    /// The exit code is 1 if no sandbox would open. A note `hidden-start` says that `sandbox` runs
    /// nothing in this working directory; it does in another one.
    Check {
        /// File of sandbox-runtime settings (JSON).
        file: PathBuf,
    },
    /// Print settings of another sandbox as sandbox-runtime settings, and what is lost.
    #[command(after_help = "Examples:\n  $ agent-tools policy import --from claude-code \
                            .claude/settings.json > settings.json\n  \
                            $ agent-tools policy import --from codex ~/.codex/config.toml")]
    Import(ImportArgs),
    /// Print the JSON Schema of sandbox-runtime settings, for editors.
    Schema,
}

pub(crate) fn run(context: &Context, command: PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Show(args) => {
            let policy = context
                .described_sessions(&args)?
                .policy(&context.spec(&args)?)
                .map_err(Failure::failed)?;
            print_json(&policy.config().to_json());
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain { session, settings, target } => {
            explain(context, &session, settings.as_deref(), &target)
        }
        PolicyCommand::Check { file } => check::check(context, &file),
        PolicyCommand::Import(args) => import::import(context, &args),
        PolicyCommand::Schema => {
            print_json(&SandboxRuntimeConfig::json_schema());
            Ok(ExitCode::SUCCESS)
        }
    }
    .map_err(Failure::into_failed)
}

fn explain(
    context: &Context,
    args: &SessionArgs,
    settings: Option<&Path>,
    target: &OsStr,
) -> Result<ExitCode, Failure> {
    let tier = context.tier();
    let (policy, session_dir, network) = match settings {
        Some(file) => (policy_of_command(context, file)?, None, None),
        None => {
            let (sessions, spec) = (context.described_sessions(args)?, context.spec(args)?);
            let policy = sessions.policy(&spec).map_err(Failure::failed)?;
            let session_dir = canonical(&sessions.home().session_dir(&args.session));
            (policy, Some(session_dir), spec.network)
        }
    };
    if let Err(error) = NativeSandbox::check(&policy, &tier) {
        return Err(Failure::not_run(error).with_remedy("so nothing is allowed: no sandbox opens"));
    }
    let mut kind = "path";
    let (subject, verdicts) = match path_of(target)? {
        Some(path) => {
            let path = match &session_dir {
                Some(dir) => from_working_directory(path, dir),
                None => from_working_directory(path, &settings::working_directory()?),
            };
            // Opening the session creates its directory.
            let to_come = session_dir.filter(|dir| !dir.exists());
            let to_come =
                to_come.and_then(|dir| Some(canonical(&path)).filter(|path| path.starts_with(dir)));
            let judge = |name, access| {
                let verdict = if let Some(path) = &to_come {
                    policy.explain(path, access)
                } else {
                    NativeSandbox::explain_policy(&policy, &tier, &path, access)
                        .map_err(Failure::not_run)?
                };
                Ok::<_, Failure>((name, verdict))
            };
            (
                path.display().to_string(),
                vec![judge("read", Access::Read)?, judge("write", Access::Write)?],
            )
        }
        None => {
            kind = "host";
            let target = target.to_string_lossy();
            let (host, port) = host_of(&target)?;
            let verdict = match agent_tools::explain_host(&policy, &tier, &host.to_string(), port) {
                verdict if verdict.allowed && network.unwrap_or_default().lacks_server(&host) => {
                    let expose = Remedy::AllowDomain(host.to_pattern(port));
                    Verdict::denied(Rule::Unlisted { list: "--expose" }, Some(expose))
                }
                verdict => verdict,
            };
            (target.into_owned(), vec![("connect", verdict)])
        }
    };
    let restrictions = context.project()?.restrictions();
    let verdicts: Vec<Explained> = verdicts
        .into_iter()
        .map(|(access, Verdict { allowed, rule, remedy, .. })| Explained {
            access,
            allowed,
            rule: rule.to_string(),
            remedy: remedy.and_then(|remedy| {
                let change = restrictions.as_ref().and_then(|file| file.change(&remedy));
                let change = change.or_else(|| match settings {
                    Some(_) => agent_tools::remedy_setting(&remedy),
                    None => agent_tools::remedy_option(&remedy, |_| true),
                })?;
                // An entry opens what exists.
                Some(match &remedy {
                    Remedy::AllowRead(path) if !is_there(path) => {
                        format!("create {} and {change}", path.display())
                    }
                    _ => change,
                })
            }),
        })
        .collect();
    let result = serde_json::json!({ "target": subject, "kind": kind, "verdicts": verdicts });
    context.print(&result, || {
        match kind {
            "host" if Host::parse(&subject).is_ok_and(|host| host.as_name().is_some()) => {
                outln!("{subject} (a host; write ./{subject} for a path)");
            }
            "host" => outln!("{subject} (a host)"),
            _ => outln!("{subject}"),
        }
        for Explained { access, allowed, rule, remedy } in &verdicts {
            outln!("  {access}: {}: {rule}", if *allowed { "allowed" } else { "denied" });
            remedy.iter().for_each(|remedy| outln!("    to allow it, {remedy}"));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns whether a path exists, as far as the host tells.
fn is_there(path: &Path) -> bool {
    !path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[derive(Serialize)]
struct Explained {
    access: &'static str,
    allowed: bool,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Returns the path that `target` names, or `None` for a host. A name that exists in the working
/// directory is a path, and so is one with a slash or one that is not UTF-8.
fn path_of(target: &OsStr) -> Result<Option<PathBuf>, Failure> {
    let path = Path::new(target);
    if let Ok(below) = path.strip_prefix("~") {
        return Ok(Some(std::env::home_dir().unwrap_or_default().join(below)));
    }
    let is_path = target.as_bytes().starts_with(b"/")
        || target.as_bytes().starts_with(b".")
        || target.to_str().is_none_or(|text| text.contains('/') && !text.contains("://"))
        || (!target.is_empty() && path.symlink_metadata().is_ok());
    let absolute = || {
        std::path::absolute(path).or_else(|error| {
            settings::working_directory()?;
            Err(Failure::not_run(error))
        })
    };
    is_path.then(absolute).transpose()
}

/// Returns the path in the directory in which a command begins, if `path` is in that of its process
/// (`proc_pid_cwd(5)`).
fn from_working_directory(path: PathBuf, dir: &Path) -> PathBuf {
    let links = ["/proc/self/cwd", "/proc/thread-self/cwd"];
    let below = links.iter().find_map(|link| path.strip_prefix(link).ok());
    below.map(|below| dir.join(below).components().collect()).unwrap_or(path)
}

/// Returns a path with its existing part canonical.
fn canonical(path: &Path) -> PathBuf {
    let resolved = path
        .ancestors()
        .find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    resolved
        .map_or_else(|| path.to_owned(), |(above, below)| above.join(below).components().collect())
}

/// Returns the host of a target, and its port, which must be valid.
fn host_of(target: &str) -> Result<(Host, Option<u16>), Failure> {
    Host::parse_with_port(target).map_err(|error| {
        if target.contains("://") {
            return Failure::usage(format!("{target:?} {error}"));
        }
        Failure::usage(format!(
            "{target:?} is neither an existing path nor HOST[:PORT], because it {error}; write \
             ./{target} for a file of that name"
        ))
    })
}

/// Returns the policy of `sandbox` with a file of settings in the working directory.
fn policy_of_command(context: &Context, file: &Path) -> Result<Policy, Failure> {
    let (home, cwd) = (context.home().ok(), settings::working_directory()?);
    let mut config = settings::read(file)?;
    context.project()?.restrict_settings(&mut config);
    let protected = context.protected_files(Some(file))?;
    settings::policy_of_command(config, &cwd, home.as_ref(), &protected, &context.tier())
}

//! The subcommand `policy`: policies of sessions as sandbox-runtime settings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::policy::{Access, Lint, Policy, Verdict};
use clap::Subcommand;
use sandbox_core::NativeSandbox;
use serde::Serialize;

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
    Explain {
        #[command(flatten)]
        session: SessionArgs,
        /// Path that begins with /, ~/ or ./, or a host with or without a port.
        #[arg(value_name = "PATH|HOST[:PORT]")]
        target: OsString,
    },
    /// Check sandbox-runtime settings for errors and for rules that are not enforced.
    Check {
        /// The file.
        file: PathBuf,
    },
}

pub(crate) fn run(context: &Context, command: PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Show(args) => {
            let policy =
                context.sessions()?.policy(&context.spec(&args)?).map_err(Failure::failed)?;
            print_json(&policy.config().to_json());
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain { session, target } => explain(context, &session, &target),
        PolicyCommand::Check { file } => check(context, &file),
    }
    .map_err(Failure::into_failed)
}

fn explain(context: &Context, args: &SessionArgs, target: &OsStr) -> Result<ExitCode, Failure> {
    let policy = context.sessions()?.policy(&context.spec(args)?).map_err(Failure::failed)?;
    let (subject, verdicts) = match path_of(target)? {
        Some(path) => {
            let path = canonical(&path);
            let judge = |name, access| (name, policy.explain(&path, access));
            (
                path.display().to_string(),
                vec![judge("read", Access::Read), judge("write", Access::Write)],
            )
        }
        None => {
            let target = target.to_string_lossy();
            let (host, port) = host_of(&target)?;
            (target.into_owned(), vec![("connect", policy.explain_host(&host, port))])
        }
    };
    let verdicts: Vec<Explained> = verdicts
        .into_iter()
        .map(|(access, Verdict { allowed, rule, remedy, .. })| Explained {
            access,
            allowed,
            rule: rule.to_string(),
            remedy,
        })
        .collect();
    context.print(&serde_json::json!({ "target": subject, "verdicts": verdicts }), || {
        outln!("{subject}");
        for Explained { access, allowed, rule, remedy } in &verdicts {
            outln!("  {access}: {}: {rule}", if *allowed { "allowed" } else { "denied" });
            remedy.iter().for_each(|remedy| outln!("    to allow it, {remedy}"));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Explained {
    access: &'static str,
    allowed: bool,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Returns the path that `target` names, or `None` for a host. A name that is not UTF-8 is a path.
fn path_of(target: &OsStr) -> Result<Option<PathBuf>, Failure> {
    let path = Path::new(target);
    if let Ok(below) = path.strip_prefix("~") {
        return Ok(Some(std::env::home_dir().unwrap_or_default().join(below)));
    }
    let is_path = target.as_bytes().starts_with(b"/")
        || target.as_bytes().starts_with(b".")
        || target.to_str().is_none();
    is_path.then(|| std::path::absolute(path).map_err(Failure::not_run)).transpose()
}

/// Returns a path with its existing part canonical.
fn canonical(path: &Path) -> PathBuf {
    let resolved = path
        .ancestors()
        .find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    resolved
        .map_or_else(|| path.to_owned(), |(above, below)| above.join(below).components().collect())
}

fn host_of(target: &str) -> Result<(String, Option<u16>), Failure> {
    let bad = || {
        Failure::usage(format!(
            "{target:?} is neither a path nor HOST[:PORT]; write ./{target} for a file of that name"
        ))
    };
    let (host, port) = match target.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => target.split_once(':').map_or((target, None), |(host, port)| (host, Some(port))),
    };
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '*', '@']);
    let port = port.map(str::parse).transpose().map_err(|_| bad())?;
    if is_host { Ok((host.to_owned(), port)) } else { Err(bad()) }
}

fn check(context: &Context, file: &Path) -> Result<ExitCode, Failure> {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root"));
    let policy = Policy::from_config(settings::read(file)?, &home).map_err(|error| {
        Failure::not_run_text(format!("{}: {}", file.display(), agent_tools::with_causes(&error)))
    })?;
    let lints = Lint::combine(policy.lint(), NativeSandbox::lint(&policy));
    let lints: Vec<String> = lints.iter().map(ToString::to_string).collect();
    context.print(&serde_json::json!({ "valid": true, "lints": lints }), || {
        outln!("{} is valid", file.display());
        lints.iter().for_each(|lint| outln!("note: {lint}"));
    })?;
    Ok(ExitCode::SUCCESS)
}

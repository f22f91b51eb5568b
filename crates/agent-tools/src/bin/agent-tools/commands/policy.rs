//! `policy`: what sessions may do, as sandbox-runtime settings.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_tools::policy::{Access, Lint, Policy, SandboxRuntimeConfig, Verdict};
use sandbox_core::NativeSandbox;
use serde::Serialize;

use crate::args::{PolicyCommand, SessionArgs};
use crate::context::Context;
use crate::failure::Failure;

pub(crate) fn run(context: &Context, command: PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Show(args) => {
            let policy = context.sessions()?.policy(&context.spec(&args)?).map_err(Failure::new)?;
            println!("{}", policy.config().to_json());
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain { session, target } => explain(context, &session, &target),
        PolicyCommand::Check { file } => check(context, &file),
    }
    .map_err(Failure::plain)
}

fn explain(context: &Context, args: &SessionArgs, target: &str) -> Result<ExitCode, Failure> {
    let policy = context.sessions()?.policy(&context.spec(args)?).map_err(Failure::new)?;
    let (shown, verdicts) = match path_of(target)? {
        Some(path) => {
            let judge = |name, access| (name, policy.explain(&path, access));
            (
                path.display().to_string(),
                vec![judge("read", Access::Read), judge("write", Access::Write)],
            )
        }
        None => {
            let (host, port) = host_of(target)?;
            (target.to_owned(), vec![("connect", policy.explain_host(&host, port))])
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
    context.print(&serde_json::json!({ "target": shown, "verdicts": verdicts }), || {
        println!("{shown}");
        for Explained { access, allowed, rule, remedy } in &verdicts {
            println!("  {access}: {}: {rule}", if *allowed { "allowed" } else { "denied" });
            remedy.iter().for_each(|remedy| println!("    to allow it, {remedy}"));
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

/// The path that is meant, symlinks resolved as far as something is there; `None` for a host.
fn path_of(target: &str) -> Result<Option<PathBuf>, Failure> {
    let path = match target
        .strip_prefix('~')
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        Some(below) => std::env::home_dir().unwrap_or_default().join(below.trim_start_matches('/')),
        None if target.starts_with(['/', '.']) => {
            std::path::absolute(target).map_err(Failure::setting)?
        }
        None => return Ok(None),
    };
    let resolved = path
        .ancestors()
        .find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    Ok(Some(
        resolved.map_or_else(
            || path.clone(),
            |(above, below)| above.join(below).components().collect(),
        ),
    ))
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

fn check(context: &Context, file: &PathBuf) -> Result<ExitCode, Failure> {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root"));
    let policy = Policy::from_config(read(file)?, &home).map_err(|error| {
        Failure::setting_text(format!("{}: {}", file.display(), agent_tools::with_causes(&error)))
    })?;
    let lints = Lint::combine(policy.lint(), NativeSandbox::lint(&policy));
    let lints: Vec<String> = lints.iter().map(ToString::to_string).collect();
    context.print(&serde_json::json!({ "valid": true, "lints": lints }), || {
        println!("{} is valid", file.display());
        lints.iter().for_each(|lint| println!("note: {lint}"));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads settings from a file; an error names it.
pub(crate) fn read(file: &PathBuf) -> Result<SandboxRuntimeConfig, Failure> {
    let fail = |error: &dyn std::error::Error| {
        Failure::setting_text(format!(
            "settings {}: {}",
            file.display(),
            agent_tools::with_causes(error)
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|error| fail(&error))?;
    SandboxRuntimeConfig::from_json(&text).map_err(|error| fail(&error))
}

//! `policy`: what sessions may do, as sandbox-runtime settings.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_tools::policy::{Policy, SandboxRuntimeConfig};

use crate::args::PolicyCommand;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) fn run(context: &Context, command: PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Show(args) => {
            let policy = context.sessions()?.policy(&context.spec(&args)?).map_err(Failure::new)?;
            println!("{}", policy.config().to_json());
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Check { file } => check(context, &file),
    }
    .map_err(Failure::plain)
}

fn check(context: &Context, file: &PathBuf) -> Result<ExitCode, Failure> {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root"));
    let policy = Policy::from_config(read(file)?, &home)
        .map_err(|error| Failure::setting_text(format!("{}: {}", file.display(), agent_tools::with_causes(&error))))?;
    let lints: Vec<String> = policy.lint().iter().map(ToString::to_string).collect();
    context.print(&serde_json::json!({ "valid": true, "lints": lints }), || {
        println!("{} is valid", file.display());
        lints.iter().for_each(|lint| println!("note: {lint}"));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads settings from a file; an error names it.
pub(crate) fn read(file: &PathBuf) -> Result<SandboxRuntimeConfig, Failure> {
    let fail = |error: &dyn std::error::Error| {
        Failure::setting_text(format!("policy {}: {}", file.display(), agent_tools::with_causes(error)))
    };
    let text = std::fs::read_to_string(file).map_err(|error| fail(&error))?;
    SandboxRuntimeConfig::from_json(&text).map_err(|error| fail(&error))
}

//! `policy import`: settings of other sandboxes as sandbox-runtime settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::policy::import::{self, Imported};
use clap::{Args, ValueEnum};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, print_json};
use crate::settings;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Program that the file belongs to.
    #[arg(long, value_enum)]
    from: Origin,
    /// Directory in which the commands work, where relative paths begin [default: the working
    /// directory].
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// A `settings.json` of Claude Code, or a `config.toml` of Codex.
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Origin {
    /// Claude Code: `sandbox`, and the rules of `permissions` that its sandbox uses.
    ClaudeCode,
    /// Codex: `sandbox_mode` and `sandbox_workspace_write`.
    Codex,
}

/// Prints the settings, and the losses to standard error.
pub(super) fn import(context: &Context, args: &ImportArgs) -> Result<ExitCode, Failure> {
    let text = settings::text_of(&args.file)?;
    let project = match &args.project {
        Some(dir) => std::path::absolute(dir).map_err(Failure::not_run)?,
        None => std::env::current_dir().map_err(Failure::not_run)?,
    };
    let unreadable = |error: &dyn std::fmt::Display| {
        let problem = error.to_string();
        Failure::failed_text(format!("settings {}: {}", args.file.display(), problem.trim_end()))
    };
    let imported = match args.from {
        Origin::ClaudeCode => claude_code(&text, &project).map_err(|error| unreadable(&error)),
        Origin::Codex => codex(&text, &project).map_err(|error| unreadable(&error)),
    }?;
    let Imported { config, losses, .. } = &imported;
    let losses_json: Vec<_> = losses
        .iter()
        .map(|loss| serde_json::json!({ "path": loss.path.to_string(), "problem": loss.problem }))
        .collect();
    context.print(&serde_json::json!({ "settings": config, "losses": losses_json }), || {
        print_json(&config.to_json());
        for loss in losses {
            errln!("lost: {}: {}", loss.path, loss.problem);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn claude_code(text: &str, project: &Path) -> Result<Imported, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let imported = import::claude_code(&mut json, project)?;
    json.end()?;
    Ok(imported)
}

fn codex(text: &str, project: &Path) -> Result<Imported, toml::de::Error> {
    import::codex(toml::Deserializer::parse(text)?, project)
}

//! The subcommand `skill`: publishing, listing and installing skills.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::{SkillId, SkillRef, Storage};
use clap::Subcommand;
use skill_store::SKILLS_DIRECTORY;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// Store a directory with a SKILL.md as the skill's next version.
    Publish {
        /// Directory of the skill.
        dir: PathBuf,
        /// Id of the skill [default: the name in SKILL.md].
        #[arg(long, value_name = "ID")]
        id: Option<SkillId>,
    },
    /// List the skills of the store.
    List,
    /// List the versions of one skill.
    Versions {
        /// Id of the skill.
        id: SkillId,
    },
    /// Copy a skill to DIR/skills/NAME.
    Install {
        /// Skill, with its version (the latest by default) and another name for it.
        #[arg(value_name = "ID[@VERSION][=NAME]")]
        skill: SkillRef,
        /// Directory in which skills/NAME is created or replaced.
        dir: PathBuf,
    },
}

pub(crate) async fn run(context: &Context, command: SkillCommand) -> Result<ExitCode, Failure> {
    let storage = context.storage().map_err(Failure::into_failed)?;
    match command {
        SkillCommand::Publish { dir, id } => publish(context, &storage, &dir, id).await,
        SkillCommand::List => list(context, &storage).await,
        SkillCommand::Versions { id } => versions(context, &storage, &id).await,
        SkillCommand::Install { skill, dir } => install(context, &storage, &skill, &dir).await,
    }
}

async fn publish(
    context: &Context,
    storage: &Storage,
    dir: &Path,
    id: Option<SkillId>,
) -> Result<ExitCode, Failure> {
    let published = storage.skills().publish(dir, id.as_ref()).await.map_err(Failure::failed)?;
    let (id, version) = (published.id.to_string(), published.version.get());
    let result = serde_json::json!({ "id": id, "version": version, "files": published.files });
    let noun = if published.files == 1 { "file" } else { "files" };
    context.print(&result, || outln!("published {id}@{version} ({} {noun})", published.files))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, storage: &Storage) -> Result<ExitCode, Failure> {
    let skills = storage.skills().list().await.map_err(Failure::failed)?;
    let listed: Vec<_> = skills
        .iter()
        .map(
            |skill| serde_json::json!({ "id": skill.id.to_string(), "latest": skill.latest.get() }),
        )
        .collect();
    context.print(&listed, || {
        skills.iter().for_each(|skill| outln!("{}@{}", skill.id, skill.latest.get()));
        if skills.is_empty() {
            errln!("agent-tools: the store has no skill");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn versions(context: &Context, storage: &Storage, id: &SkillId) -> Result<ExitCode, Failure> {
    let versions: Vec<u32> = storage
        .skills()
        .versions(id)
        .await
        .map_err(Failure::failed)?
        .into_iter()
        .map(|version| version.get())
        .collect();
    if versions.is_empty() {
        return Err(Failure::failed_text(format!(
            "there is no skill {id}; `agent-tools skill list` shows the existing ones"
        )));
    }
    context.print(&versions, || versions.iter().for_each(|version| outln!("{version}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn install(
    context: &Context,
    storage: &Storage,
    skill: &SkillRef,
    dir: &Path,
) -> Result<ExitCode, Failure> {
    let report = storage.skills().install_into(skill, dir).await.map_err(Failure::failed)?;
    for warning in &report.warnings {
        errln!("agent-tools: warning: {warning}");
    }
    let installed = &report.skill;
    let path = dir.join(SKILLS_DIRECTORY).join(installed.name.as_str());
    let result = serde_json::json!({
        "id": installed.id.to_string(),
        "version": installed.version.get(),
        "path": path.to_string_lossy(),
    });
    context.print(&result, || outln!("{}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

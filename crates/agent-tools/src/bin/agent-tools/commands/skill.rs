//! The subcommand `skill`: publishing, inspecting and installing skills.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::{RelativePath, SkillId, SkillRef};
use clap::{Args, Subcommand};
use skill_store::{
    FrontMatterError, InstallReport, PublishOptions, PublishReport, SKILLS_DIRECTORY, SkillError,
    SkillLock, SkillRefError, Tag, Version, VersionSelector,
};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

mod history;
mod lockfile;

#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// Store a directory or zip archive with a SKILL.md as the skill's next version.
    Publish(PublishArgs),
    /// List the skills of the store.
    List,
    /// List the versions of one skill.
    Versions {
        /// Id of the skill.
        id: SkillId,
    },
    /// List the files of a version with their digests, or print one file.
    Show {
        /// Skill, with a version, a tag or `latest`, the default.
        #[arg(value_name = "ID[@VERSION]")]
        skill: SkillRef,
        /// Path of a file to print.
        path: Option<String>,
        /// Print the manifest as it is stored, for `minisign -S`.
        #[arg(long, conflicts_with = "path")]
        manifest: bool,
    },
    /// List the files that differ between two versions.
    Diff {
        /// Id of the skill.
        id: SkillId,
        /// Older version: a number, a tag or `latest`.
        from: VersionSelector,
        /// Newer version.
        to: VersionSelector,
    },
    /// Publish the content of an old version as the next version.
    Rollback {
        /// Id of the skill.
        id: SkillId,
        /// Version with the content: a number or a tag.
        version: VersionSelector,
    },
    /// Delete a version. Its number is never used again.
    Delete {
        /// Id of the skill.
        id: SkillId,
        /// Number of the version.
        #[arg(value_parser = version)]
        version: Version,
    },
    /// List the tags of a skill, or let one name a version.
    Tag {
        /// Id of the skill.
        id: SkillId,
        /// Name of the tag.
        #[arg(value_parser = tag)]
        tag: Option<Tag>,
        /// Version that the tag names: a number, another tag or `latest`.
        version: Option<VersionSelector>,
        /// Remove the tag.
        #[arg(long, requires = "tag", conflicts_with = "version")]
        remove: bool,
    },
    /// Attach a signature of the manifest, which minisign made.
    Sign {
        /// Id of the skill.
        id: SkillId,
        /// Number of the version.
        #[arg(value_parser = version)]
        version: Version,
        /// File with the signature.
        signature: PathBuf,
    },
    /// Write the versions and digests of skills to a lockfile.
    Lock {
        /// Skills to add to the lockfile, or to replace in it.
        #[arg(value_name = "ID[@VERSION][=NAME]", required = true)]
        skills: Vec<SkillRef>,
        /// Lockfile.
        #[arg(long, value_name = "FILE", default_value = lockfile::DEFAULT)]
        file: PathBuf,
    },
    /// Copy a skill to DIR/skills/NAME.
    Install(InstallArgs),
}

/// The source of a new version.
#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// Directory or zip archive of the skill.
    #[arg(value_name = "DIR|ZIP")]
    source: PathBuf,
    /// Id of the skill [default: the name in SKILL.md].
    #[arg(long, value_name = "ID")]
    id: Option<SkillId>,
    /// Accept a SKILL.md that other clients accept, and report each deviation.
    #[arg(long)]
    lenient: bool,
}

/// The skill to install, or a lockfile.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Skill, with its version, a tag or `latest`, the default, and another name for it.
    #[arg(value_name = "ID[@VERSION][=NAME]", required_unless_present = "locked")]
    skill: Option<OsString>,
    /// Directory in which skills/NAME is created or replaced [default with --locked: .].
    #[arg(required_unless_present = "locked")]
    dir: Option<PathBuf>,
    /// Install all skills of a lockfile or none, exactly as they were locked. Takes DIR only.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = lockfile::DEFAULT
    )]
    locked: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, command: SkillCommand) -> Result<ExitCode, Failure> {
    match command {
        SkillCommand::Publish(args) => publish(context, &args).await,
        SkillCommand::List => list(context).await,
        SkillCommand::Versions { id } => versions(context, &id).await,
        SkillCommand::Show { skill, path, manifest } => {
            let skill = context.with_version(skill);
            match path {
                Some(path) => history::print_file(context, skill, &relative(&path)?).await,
                None => history::show(context, skill, manifest).await,
            }
        }
        SkillCommand::Diff { id, from, to } => history::diff(context, &id, from, to).await,
        SkillCommand::Rollback { id, version } => history::rollback(context, &id, version).await,
        SkillCommand::Delete { id, version } => history::delete(context, &id, version).await,
        SkillCommand::Tag { id, tag, version, remove } => match (tag, version) {
            (Some(tag), Some(version)) => history::tag(context, &id, &tag, version).await,
            (Some(tag), None) if remove => history::untag(context, &id, &tag).await,
            (Some(tag), None) => Err(Failure::usage(format!(
                "name the version for the tag {tag}, or remove it with --remove"
            ))),
            (None, _) => history::tags(context, &id).await,
        },
        SkillCommand::Sign { id, version, signature } => {
            history::sign(context, &id, version, &signature).await
        }
        SkillCommand::Lock { skills, file } => {
            let skills: Vec<_> =
                skills.into_iter().map(|skill| context.with_version(skill)).collect();
            lockfile::lock(context, &skills, &file).await
        }
        SkillCommand::Install(args) => install(context, args).await,
    }
}

async fn publish(context: &Context, args: &PublishArgs) -> Result<ExitCode, Failure> {
    let mut options = PublishOptions::default();
    options.id.clone_from(&args.id);
    if args.lenient {
        options = options.lenient();
    }
    let skills = context.skills().map_err(Failure::into_failed)?;
    let publishing = async {
        if args.source.is_file() {
            skills.publish_zip(&args.source, &options).await
        } else {
            skills.publish(&args.source, &options).await
        }
    };
    let published = context.bars().during("publishing", publishing).await;
    print_published(context, &published.map_err(|error| refused(error, args))?)
}

/// Reports that a skill was not published, and names `--lenient` if that would publish it.
fn refused(error: SkillError, args: &PublishArgs) -> Failure {
    let lenient = match &error {
        SkillError::InvalidSkillFile {
            source: FrontMatterError::Deviations { lenient: Some(front_matter), .. },
            ..
        } => Some((SkillId::parse(&front_matter.name).is_ok(), args.id.is_some())),
        _ => None,
    };
    let has_bad_name = matches!(error, SkillError::Id { .. }) && args.id.is_none();
    let failure = Failure::failed(error);
    if has_bad_name {
        return failure
            .with_remedy("this is the name in SKILL.md; give the skill an id with --id ID");
    }
    match lenient {
        Some((true, _) | (_, true)) => {
            failure.with_remedy("publish it with --lenient, which reports this as a warning")
        }
        Some((false, false)) => failure
            .with_remedy("publish it with --lenient --id ID, because its name cannot be an id"),
        None => failure,
    }
}

fn print_published(context: &Context, published: &PublishReport) -> Result<ExitCode, Failure> {
    for deviation in &published.deviations {
        errln!("agent-tools: warning: SKILL.md:{deviation}");
    }
    let (id, version) = (published.id.to_string(), published.version.get());
    if !published.left_out.is_empty() {
        errln!("agent-tools: warning: not published: {}", published.left_out.join(", "));
    }
    if !published.likely_secrets.is_empty() {
        let secrets: Vec<_> = published.likely_secrets.iter().map(RelativePath::as_str).collect();
        errln!(
            "agent-tools: warning: published, and likely secret: {}; if so, remove it from the \
             directory, and run `agent-tools skill delete {id} {version}`",
            secrets.join(", ")
        );
    }
    let deviations = published.deviations.iter().map(|deviation| {
        serde_json::json!({
            "line": deviation.position.line,
            "column": deviation.position.column,
            "field": deviation.field,
            "problem": deviation.problem,
        })
    });
    let result = serde_json::json!({
        "id": id,
        "version": version,
        "files": published.files,
        "sha256": published.digest.to_string(),
        "deviations": deviations.collect::<Vec<_>>(),
        "leftOut": published.left_out,
        "likelySecrets": published.likely_secrets,
    });
    let noun = if published.files == 1 { "file" } else { "files" };
    context.print(&result, || outln!("published {id}@{version} ({} {noun})", published.files))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let skills = context.existing_skills()?;
    let skills = skills.list().await.map_err(Failure::failed)?;
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

async fn versions(context: &Context, id: &SkillId) -> Result<ExitCode, Failure> {
    let skills = context.existing_skills()?;
    let versions = skills.versions(id).await.map_err(Failure::failed)?;
    let versions: Vec<u32> = versions.into_iter().map(|version| version.get()).collect();
    if versions.is_empty() {
        return Err(no_skill(id));
    }
    context.print(&versions, || versions.iter().for_each(|version| outln!("{version}")))?;
    Ok(ExitCode::SUCCESS)
}

fn no_skill(id: &SkillId) -> Failure {
    Failure::failed_text(format!(
        "there is no skill {id}; `agent-tools skill list` shows the existing ones"
    ))
}

async fn install(context: &Context, args: InstallArgs) -> Result<ExitCode, Failure> {
    let (skill, dir) = match (args.locked, args.skill, args.dir) {
        (Some(file), dir, None) => {
            // The one argument is the directory.
            let dir = dir.map_or_else(|| PathBuf::from("."), PathBuf::from);
            if dir.is_file() || dir.extension().is_some_and(|extension| extension == "lock") {
                return Err(Failure::usage(format!(
                    "{path} is no directory; write --locked={path} for another lockfile",
                    path = dir.display()
                )));
            }
            return install_locked(context, &file, &dir).await;
        }
        (None, Some(skill), Some(dir)) => (context.with_version(skill_of(&skill)?), dir),
        _ => {
            return Err(Failure::usage(
                "--locked takes a directory, and no skill; another lockfile is --locked=FILE",
            ));
        }
    };
    let skills = context.existing_skills()?;
    let installing = skills.install_into(&skill, &dir);
    let report = context.bars().during("installing", installing).await.map_err(Failure::failed)?;
    print_warnings(&report);
    let (result, path) = describe(&report, &dir);
    context.print(&result, || outln!("{}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn skill_of(text: &OsStr) -> Result<SkillRef, Failure> {
    let skill = text.to_string_lossy().parse();
    skill.map_err(|error: SkillRefError| Failure::usage(error.to_string()))
}

async fn install_locked(context: &Context, file: &Path, dir: &Path) -> Result<ExitCode, Failure> {
    let lock: SkillLock = lockfile::read(file)?;
    let skills = context.existing_skills()?;
    let installing = skills.install_all_locked(&lock, dir);
    let reports = context.bars().during("installing", installing).await.map_err(Failure::failed)?;
    reports.iter().for_each(print_warnings);
    let installed: Vec<_> = reports.iter().map(|report| describe(report, dir)).collect();
    let results: Vec<_> = installed.iter().map(|(result, _)| result).collect();
    context.print(&results, || {
        installed.iter().for_each(|(_, path)| outln!("{}", path.display()));
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print_warnings(report: &InstallReport) {
    for warning in &report.warnings {
        errln!("agent-tools: warning: {warning}");
    }
}

fn describe(report: &InstallReport, dir: &Path) -> (serde_json::Value, PathBuf) {
    let installed = &report.skill;
    let path = dir.join(SKILLS_DIRECTORY).join(installed.name.as_str());
    let result = serde_json::json!({
        "id": installed.id.to_string(),
        "version": installed.version.get(),
        "sha256": installed.digest.to_string(),
        "path": path.to_string_lossy(),
    });
    (result, path)
}

fn tag(text: &str) -> Result<Tag, String> {
    Tag::parse(text).map_err(|_| {
        "a tag is 1 to 64 of a-z, 0-9 and -, begins with a letter, and is neither `latest` nor \
         like `v3`, which looks like a version"
            .to_owned()
    })
}

fn version(text: &str) -> Result<Version, String> {
    match text.parse() {
        Ok(VersionSelector::Number(version)) => Ok(version),
        _ => Err("a version is a whole number of 1 or more".to_owned()),
    }
}

fn relative(path: &str) -> Result<RelativePath, Failure> {
    RelativePath::parse(path).map_err(Failure::failed)
}

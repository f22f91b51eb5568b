//! Versions of a skill: showing, comparing, rolling back, deleting, tagging and signing.

use std::path::Path;
use std::process::ExitCode;

use agent_tools::{RelativePath, SkillId, SkillRef};
use base64::Engine as _;
use skill_store::{
    FileChange, FileDifference, SkillError, SkillStore, Tag, Version, VersionSelector,
};

use super::{no_skill, print_published};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln, print_bytes};

pub(super) async fn show(
    context: &Context,
    skill: SkillRef,
    as_stored: bool,
) -> Result<ExitCode, Failure> {
    // A publisher looks at a version before it has a signature.
    let skills = context.existing_unverified_skills()?;
    if as_stored {
        let manifest = skills.stored_manifest(&skill).await.map_err(Failure::failed)?;
        print_bytes(&manifest.to_json());
        return Ok(ExitCode::SUCCESS);
    }
    let manifest = skills.manifest(&skill).await.map_err(Failure::failed)?;
    let files = manifest.files.iter().map(|file| {
        serde_json::json!({
            "path": file.path.as_str(),
            "sha256": file.sha256.to_string(),
            "size": file.size,
            "executable": file.is_executable,
        })
    });
    let result = serde_json::json!({
        "id": manifest.skill.to_string(),
        "version": manifest.version.get(),
        "sha256": manifest.digest().to_string(),
        "files": files.collect::<Vec<_>>(),
    });
    context.print(&result, || {
        outln!("{}@{} {}", manifest.skill, manifest.version, manifest.digest());
        for file in &manifest.files {
            let mode = if file.is_executable { "755" } else { "644" };
            outln!("{mode} {:>9} {} {}", file.size, file.sha256, file.path);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn print_file(
    context: &Context,
    skill: SkillRef,
    path: &RelativePath,
) -> Result<ExitCode, Failure> {
    let skills = context.existing_skills()?;
    let content = skills.read(&skill, path).await.map_err(Failure::failed)?;
    let (text, encoding) = match std::str::from_utf8(&content) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (base64::engine::general_purpose::STANDARD.encode(&content), Some("base64")),
    };
    let mut result = serde_json::json!({ "path": path.as_str(), "content": text });
    if let Some(encoding) = encoding {
        result["encoding"] = encoding.into();
    }
    context.print(&result, || print_bytes(&content))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn diff(
    context: &Context,
    id: &SkillId,
    from: VersionSelector,
    to: VersionSelector,
) -> Result<ExitCode, Failure> {
    let skills = context.existing_unverified_skills()?;
    let (from, to) = (number(&skills, id, from).await?, number(&skills, id, to).await?);
    let differences = skills.diff(id, from, to).await.map_err(Failure::failed)?;
    let name = |change| match change {
        FileChange::Added => "added",
        FileChange::Removed => "removed",
        FileChange::Mode => "mode",
        _ => "content",
    };
    let describe = |found: &FileDifference| {
        let change = name(found.change);
        serde_json::json!({ "path": found.path.as_str(), "change": change })
    };
    let result: Vec<_> = differences.iter().map(describe).collect();
    context.print(&result, || {
        differences.iter().for_each(|found| outln!("{:<7} {}", name(found.change), found.path));
        if differences.is_empty() {
            errln!("agent-tools: {id}@{from} and {id}@{to} have the same files");
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rollback(
    context: &Context,
    id: &SkillId,
    version: VersionSelector,
) -> Result<ExitCode, Failure> {
    let skills = context.skills().map_err(Failure::into_failed)?;
    let version = number(&skills, id, version).await?;
    let published = skills.rollback(id, version).await.map_err(Failure::failed)?;
    print_published(context, &published)
}

pub(super) async fn delete(
    context: &Context,
    id: &SkillId,
    version: Version,
) -> Result<ExitCode, Failure> {
    let skills = context.skills().map_err(Failure::into_failed)?;
    skills.delete(id, version).await.map_err(Failure::failed)?;
    let result = serde_json::json!({ "id": id.to_string(), "version": version.get() });
    context.print(&result, || outln!("deleted {id}@{version}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn tag(
    context: &Context,
    id: &SkillId,
    tag: &Tag,
    version: VersionSelector,
) -> Result<ExitCode, Failure> {
    let skills = context.skills().map_err(Failure::into_failed)?;
    let version = number(&skills, id, version).await?;
    skills.tag(id, tag, version).await.map_err(Failure::failed)?;
    let result = serde_json::json!({ "tag": tag.as_str(), "version": version.get() });
    context.print(&result, || outln!("{id}@{tag} is {id}@{version}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn untag(context: &Context, id: &SkillId, tag: &Tag) -> Result<ExitCode, Failure> {
    let skills = context.skills().map_err(Failure::into_failed)?;
    skills.untag(id, tag).await.map_err(Failure::failed)?;
    let result = serde_json::json!({ "tag": tag.as_str(), "version": null });
    context.print(&result, || outln!("removed the tag {tag} of {id}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn tags(context: &Context, id: &SkillId) -> Result<ExitCode, Failure> {
    let skills = context.existing_skills()?;
    let tags = skills.tags(id).await.map_err(Failure::failed)?;
    if tags.is_empty() && skills.latest(id).await.map_err(Failure::failed)?.is_none() {
        return Err(no_skill(id));
    }
    let result: Vec<_> = tags
        .iter()
        .map(|found| {
            let (tag, version) = (found.tag.as_str(), found.version.get());
            serde_json::json!({ "tag": tag, "version": version, "isDeleted": found.is_deleted })
        })
        .collect();
    context.print(&result, || {
        for found in &tags {
            let note = if found.is_deleted { " (deleted)" } else { "" };
            outln!("{} {}{note}", found.tag, found.version);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn sign(
    context: &Context,
    id: &SkillId,
    version: Version,
    signature: &Path,
) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(signature).map_err(|error| {
        Failure::failed_text(format!("cannot read {}: {error}", signature.display()))
    })?;
    // A key verifies the signature if there is one. Before it is stored, the version has none.
    let skills = context.skills().map_err(Failure::into_failed)?;
    skills.sign(id, version, &text).await.map_err(|error| match error {
        SkillError::MalformedSignature => {
            Failure::failed_text(format!("{} cannot be used: {error}", signature.display()))
        }
        SkillError::Signed { .. } => Failure::failed(error)
            .with_remedy("pass the public key with --skill-key, so that the new one is verified"),
        error => Failure::failed(error),
    })?;
    if !context.has_skill_keys() {
        errln!(
            "agent-tools: warning: the signature was not verified, because no public key was \
             given with --skill-key"
        );
    }
    let result = serde_json::json!({
        "id": id.to_string(),
        "version": version.get(),
        "isVerified": context.has_skill_keys(),
    });
    context.print(&result, || outln!("signed {id}@{version}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the number of a version that a tag or `latest` names.
async fn number(
    skills: &SkillStore,
    id: &SkillId,
    version: VersionSelector,
) -> Result<Version, Failure> {
    skills.find(&SkillRef::new(id.clone(), version)).await.map_err(Failure::failed)
}

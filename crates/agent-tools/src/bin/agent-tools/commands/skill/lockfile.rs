//! The lockfile of skills.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use agent_tools::SkillRef;
use skill_store::SkillLock;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};

/// The name of the lockfile if none is given.
pub(super) const DEFAULT: &str = "skills.lock";

/// Reads a lockfile.
pub(super) fn read(file: &Path) -> Result<SkillLock, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed_text(format!("cannot read {}: {error}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    SkillLock::parse(&text).map_err(|error| failed(&error))
}

/// Adds skills to a lockfile, which is created if it is absent.
pub(super) async fn lock(
    context: &Context,
    skills: &[SkillRef],
    file: &Path,
) -> Result<ExitCode, Failure> {
    let is_absent = std::fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let mut lock = if is_absent { SkillLock::default() } else { read(file)? };
    for (at, skill) in skills.iter().enumerate() {
        if let Some(first) = skills[..at].iter().find(|first| first.name() == skill.name()) {
            return Err(Failure::usage(format!(
                "{first} and {skill} have the same directory; give one of them another name, as \
                 in ID=NAME"
            )));
        }
    }
    let store = context.existing_skills()?;
    for skill in skills {
        let locked = store.lock(skill).await.map_err(Failure::failed)?;
        let id = locked.id.clone();
        if let Some(old) = lock.insert(locked).filter(|old| old.id != id) {
            errln!(
                "agent-tools: warning: {id} replaces {}@{} in the lockfile, because both have the \
                 directory {}",
                old.id,
                old.version,
                old.name()
            );
        }
    }
    let staged = file.with_added_extension("new");
    let written =
        std::fs::write(&staged, lock.to_json()).and_then(|()| std::fs::rename(&staged, file));
    written.map_err(|error| {
        Failure::failed_text(format!("cannot write {}: {error}", file.display()))
    })?;
    let result = lock.skills();
    context.print(&result, || {
        for skill in result {
            let name = skill.name.as_ref().map(|name| format!("={name}")).unwrap_or_default();
            outln!("{}@{}{name} {}", skill.id, skill.version, skill.digest);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

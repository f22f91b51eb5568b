//! The skills of an open session.

use std::collections::BTreeSet;
use std::sync::Mutex;

use sandbox_core::RelativePath;
use sandbox_core::internal::lock;
use serde::{Deserialize, Serialize};
use skill_store::{
    InstalledSkill, SKILLS_DIRECTORY, SkillRef, SkillStore, Version, VersionSelector,
};

use super::Session;
use super::variables::{SessionVariables, requested_by_skill};
use crate::sessions::SessionError;
use crate::sharing::InstallSkills;
use crate::workspace::Workspace;

/// The skills of an open session, and the store that they come from.
#[derive(Debug)]
pub(crate) struct SessionSkills {
    store: Option<SkillStore>,
    installed: Mutex<Vec<InstalledSkill>>,
    /// Skills that were installed and whose requests for variables were not read.
    unread: Mutex<Vec<InstalledSkill>>,
    /// Held while skills are installed, so that the skill of the last request wins.
    installing: tokio::sync::Mutex<()>,
}

/// Report of an installation of skills in a session.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SkillsReport {
    /// All skills of the session.
    pub(crate) skills: Vec<InstalledSkill>,
    pub(crate) warnings: Vec<String>,
}

impl SessionSkills {
    pub(crate) fn new(store: Option<SkillStore>) -> Self {
        Self {
            store,
            installed: Mutex::default(),
            unread: Mutex::default(),
            installing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn installed(&self) -> Vec<InstalledSkill> {
        lock(&self.installed).clone()
    }

    /// Installs the skills that the session does not have in that version. The others stay.
    ///
    /// # Errors
    /// Returns [`SessionError::SameSkillName`] before anything is installed, and otherwise
    /// [`SessionError`] for the first skill that cannot be installed. The skills before it are
    /// installed.
    ///
    /// # Cancel safety
    /// Each skill has all files of the old version or all files of the new one.
    pub(crate) async fn install(
        &self,
        workspace: &Workspace,
        requested: &[SkillRef],
    ) -> Result<SkillsReport, SessionError> {
        check_names(requested)?;
        let _turn = self.installing.lock().await;
        let mut warnings = Vec::new();
        for skill in requested {
            if self.has(workspace, skill) {
                continue;
            }
            let Some(store) = &self.store else {
                return Err(SessionError::NoSkillStore { skill: skill.to_string() });
            };
            let report = store
                .install(skill, &workspace.dir, &workspace.state.skills_dir())
                .await
                .map_err(|source| SessionError::Skill { skill: skill.to_string(), source })?;
            warnings
                .extend(report.warnings.iter().map(|warning| format!("skill {skill}: {warning}")));
            lock(&self.unread).push(report.skill.clone());
            let mut installed = lock(&self.installed);
            match installed.iter_mut().find(|known| known.name == report.skill.name) {
                Some(known) => *known = report.skill,
                None => installed.push(report.skill),
            }
        }
        Ok(SkillsReport { skills: self.installed(), warnings })
    }

    /// Returns the skills that were installed since the last call.
    pub(crate) fn take_unread(&self) -> Vec<InstalledSkill> {
        std::mem::take(&mut *lock(&self.unread))
    }

    /// Selects the variables that the skills request that were installed since the last call.
    /// Returns warnings.
    ///
    /// The store is asked, because the agent can change the files of the session and request more.
    pub(crate) async fn request_variables(&self, variables: &SessionVariables) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(store) = &self.store else { return warnings };
        for skill in self.take_unread() {
            let version = SkillRef::new(skill.id.clone(), skill.version);
            let content = match RelativePath::parse("SKILL.md") {
                Ok(path) => store.read(&version, &path).await,
                Err(source) => Err(source.into()),
            };
            let names = match content {
                Ok(content) => requested_by_skill(&content),
                Err(error) => Err(sandbox_core::with_causes(&error)),
            };
            let names = names.unwrap_or_else(|cause| {
                warnings.push(unreadable_request(&skill, &cause));
                BTreeSet::new()
            });
            variables.request(skill.name, names).await;
        }
        warnings
    }

    /// Returns whether the session has the requested version, and the agent did not remove it. Only
    /// the store knows the version of a tag.
    fn has(&self, workspace: &Workspace, skill: &SkillRef) -> bool {
        let version = match &skill.version {
            None => Version::FIRST,
            Some(VersionSelector::Number(version)) => *version,
            Some(_) => return false,
        };
        let name = skill.name();
        let is_installed = lock(&self.installed)
            .iter()
            .any(|known| known.name == name && known.id == skill.id && known.version == version);
        let dir = RelativePath::parse(&format!("{SKILLS_DIRECTORY}/{name}"));
        is_installed && dir.is_ok_and(|dir| workspace.dir.has_plain_directory(&dir))
    }
}

/// Checks that different skills of a request have different directories.
fn check_names(requested: &[SkillRef]) -> Result<(), SessionError> {
    for (at, second) in requested.iter().enumerate() {
        let name = second.name();
        let is_other = |first: &&SkillRef| first.name() == name && *first != second;
        if let Some(first) = requested[..at].iter().find(is_other) {
            let second = SkillRef { name: None, ..second.clone() }.to_string();
            let name = name.as_str().to_owned();
            return Err(SessionError::SameSkillName { name, first: first.to_string(), second });
        }
    }
    Ok(())
}

/// Returns the warning about a skill without a readable request for variables.
pub(crate) fn unreadable_request(skill: &InstalledSkill, cause: &str) -> String {
    format!("skill {}: its request for variables could not be read: {cause}", skill.id)
}

impl Session {
    /// Returns the skills of the session as they are now, also if another process serves it. If
    /// that does not answer, they are those of the last answer.
    #[cfg(feature = "mcp")]
    pub(crate) async fn current_skills(&self) -> Vec<InstalledSkill> {
        // A request without skills installs none, and returns all.
        if self.is_served_elsewhere()
            && let Ok(report) = self.run(InstallSkills { skills: Vec::new() }).await
        {
            *lock(&self.skills) = report.skills;
        }
        self.skills()
    }

    /// Installs the skills that the session does not have in that version, and keeps the others.
    pub(crate) async fn install_skills(&self, skills: &[SkillRef]) -> Result<(), SessionError> {
        if skills.is_empty() {
            return Ok(());
        }
        let report = self.run(InstallSkills { skills: skills.to_vec() }).await?;
        *lock(&self.skills) = report.skills;
        lock(&self.unreported_warnings).extend(report.warnings);
        let requested = &mut lock(&self.spec).skills;
        for skill in skills {
            requested.retain(|known| known.name() != skill.name());
            requested.push(skill.clone());
        }
        Ok(())
    }
}

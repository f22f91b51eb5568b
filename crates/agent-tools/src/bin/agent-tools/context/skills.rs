//! The store of skills, with its cache and keys.

use std::path::PathBuf;
use std::sync::Arc;

use agent_tools::Storage;
use object_store::memory::InMemory;
use skill_store::{SkillCache, SkillStore, VerifyingKey};

use super::Context;
use crate::failure::Failure;
use crate::origins;

impl Context {
    /// Opens the skills of the store, with the cache of the home and the keys of `--skill-key`.
    pub(crate) fn skills(&self) -> Result<SkillStore, Failure> {
        let skills = self.unverified_skills()?;
        Ok(self.skill_keys()?.into_iter().fold(skills, SkillStore::with_key))
    }

    /// Opens the skills of the store to look at what is not signed yet.
    pub(crate) fn unverified_skills(&self) -> Result<SkillStore, Failure> {
        let cache = SkillCache::new(self.home()?.skill_cache());
        Ok(self.storage()?.skills().with_cache(cache))
    }

    /// Like [`Self::skills`], for a command that only reads. Creates no directory of a store.
    pub(crate) fn existing_skills(&self) -> Result<SkillStore, Failure> {
        let skills = self.existing_unverified_skills()?;
        let keys = self.skill_keys().map_err(Failure::into_failed)?;
        Ok(keys.into_iter().fold(skills, SkillStore::with_key))
    }

    /// Like [`Self::unverified_skills`], for a command that only reads.
    pub(crate) fn existing_unverified_skills(&self) -> Result<SkillStore, Failure> {
        let absent = match &self.global.store {
            Some(url) => {
                self.home()
                    .and_then(|home| home.check_store(url).map_err(Failure::not_run))
                    .map_err(Failure::into_failed)?;
                artifact_sync::internal::store_directory(url)
            }
            None => Some(self.home().map_err(Failure::into_failed)?.path().join("store")),
        };
        match absent.filter(|dir| !dir.exists()) {
            Some(dir) if self.global.store.is_some() => Err(Failure::failed_text(format!(
                "there is no store at {}; correct {}, or publish a skill to create it",
                dir.display(),
                origins::name("--store")
            ))),
            // Nothing was stored yet.
            Some(_) => Ok(Storage::new(Arc::new(InMemory::new()), "").skills()),
            None => self.unverified_skills().map_err(Failure::into_failed),
        }
    }

    pub(crate) fn has_skill_keys(&self) -> bool {
        !self.global.skill_keys.is_empty()
    }

    pub(super) fn skill_keys(&self) -> Result<Vec<VerifyingKey>, Failure> {
        let read = |path: &PathBuf| {
            let failed = |error: &dyn std::fmt::Display| {
                let path = path.display();
                Failure::not_run_text(format!("the key {path} cannot be used: {error}"))
            };
            let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
            VerifyingKey::parse(&text).map_err(|error| failed(&error))
        };
        self.global.skill_keys.iter().map(read).collect()
    }
}

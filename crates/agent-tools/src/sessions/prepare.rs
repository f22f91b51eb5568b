//! Preparation of a session whose files are open: skills, policy, environment and sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::{Policy, UnenforcedReason};
use sandbox_core::{NativeSandbox, Overlay, Tier};
use secrets::{LoadedVariables, Masks, SourceError};
use skill_store::{SKILLS_DIRECTORY, SkillCache, SkillStore};

use super::builder::SessionsBuilder;
use super::error::SessionError;
use super::private_files::{begin_search, private_files};
use super::spec::SessionSpec;
use crate::engine::Engine;
use crate::network::{Journal, NetworkRules, SessionNetwork, SharedGate};
use crate::runtimes::HostRuntimes;
use crate::session::{
    EnvironmentRecipe, Placeholders, Selected, SessionParts, SessionSettings, SessionSkills,
    SessionVariables, VariableSelection, requested_by_skill, unreadable_request, unused_masks,
};
use crate::storage::Storage;
use crate::workspace::Workspace;

/// The inputs from which a session is prepared.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'s> {
    pub(super) settings: &'s SessionsBuilder,
    pub(super) runtimes: &'s HostRuntimes,
    pub(super) spec: &'s SessionSpec,
    pub(super) gate: &'s SharedGate,
}

/// Treatment of the directories of the host application in a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApplicationDirs {
    Hidden,
    /// Leaves them, the store and the files of the host application out. Two processes that share a
    /// session compare them on their own.
    Ignored,
}

/// The canonical paths of the host that a session gets access to.
struct Exceptions {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Preparation<'_> {
    /// Installs the skills and opens the sandbox. Adds to `warnings`.
    pub(super) async fn run(
        &self,
        workspace: &Workspace,
        loaded: &LoadedVariables,
        mut warnings: Vec<String>,
    ) -> Result<SessionParts, SessionError> {
        let skills = SessionSkills::new(self.skill_store());
        warnings.extend(skills.install(workspace, &self.spec.skills).await?.warnings);
        let policy = self.policy(workspace.dir.path(), ApplicationDirs::Hidden)?;
        let recipe = EnvironmentRecipe {
            runtimes: self.runtimes.clone(),
            venv: self.settings.python_venv.clone(),
            policy: policy.clone(),
            selected: self.selected(workspace, &skills, &mut warnings),
            masks: self.spec.masks.clone(),
            redacts_logs: self.settings.session.redact,
            placeholders: Placeholders::in_state(workspace.state.dir()),
        };
        let source = self.settings.variables.clone();
        let (variables, mut variable_warnings) = SessionVariables::new(source, recipe, loaded);
        let masks = variables.current().masks.clone();
        let rules = NetworkRules::new(&policy.config().network, self.spec.network.as_ref());
        let overlays = self.overlays(&rules, &masks).await?;
        let opened = self.settings.session.open_engine(&policy, workspace.dir.path(), overlays);
        let sandbox = opened.await.map_err(|source| SessionError::Sandbox { source })?;
        let network = self.open_network(rules, &masks, workspace, &sandbox).await?;
        variable_warnings.extend(network_warnings(&network, &masks)?);
        let unused = network.rules().unused_addresses();
        variable_warnings.extend(unused.map_err(|source| SessionError::Network { source })?);
        if !self.spec.for_files {
            warnings.extend(workspace.state.unreported(variable_warnings));
        }
        // Absent paths need no protection now, and presets name many of them.
        let unenforced = sandbox.unenforced();
        let gaps = unenforced.iter().filter(|gap| gap.reason != UnenforcedReason::Absent);
        warnings
            .extend(gaps.map(|gap| format!("policy: {} {}: {}", gap.list, gap.rule, gap.reason)));
        for warning in &warnings {
            tracing::warn!(session = %self.spec.id, "{warning}");
        }
        Ok(SessionParts { policy, sandbox, network, variables, skills, warnings })
    }

    /// Returns the variables that commands get. No command has run yet, so the skills are as they
    /// were installed.
    fn selected(
        &self,
        workspace: &Workspace,
        skills: &SessionSkills,
        warnings: &mut Vec<String>,
    ) -> Selected {
        let installed = skills.take_unread();
        match &self.spec.variables {
            VariableSelection::All => return Selected::All,
            VariableSelection::Named(names) => return Selected::Named(names.clone()),
            VariableSelection::OfSkills => {}
        }
        let mut requests = BTreeMap::new();
        for skill in installed {
            let dir = workspace.dir().join(SKILLS_DIRECTORY).join(skill.name.as_str());
            let content = std::fs::read(dir.join("SKILL.md")).map_err(|error| error.to_string());
            match content.and_then(|content| requested_by_skill(&content)) {
                Ok(names) => drop(requests.insert(skill.name, names)),
                Err(cause) => warnings.push(unreadable_request(&skill, &cause)),
            }
        }
        Selected::OfSkills(requests)
    }

    /// Returns the files that make programs trust the gate, if it may show them certificates.
    async fn overlays(
        &self,
        rules: &NetworkRules,
        masks: &Masks,
    ) -> Result<Vec<Overlay>, SessionError> {
        let is_needed = rules.opens_network() || rules.terminates() || !masks.is_empty();
        let SessionSettings { tier, engine, .. } = &self.settings.session;
        if !is_needed || *tier != Tier::Namespaces || engine.is_some() {
            return Ok(Vec::new());
        }
        self.gate.overlays().await.map_err(|source| SessionError::Network { source })
    }

    /// Opens the network of the sandbox, if the policy allows any host.
    async fn open_network(
        &self,
        rules: NetworkRules,
        masks: &Arc<Masks>,
        workspace: &Workspace,
        sandbox: &Arc<dyn Engine>,
    ) -> Result<SessionNetwork, SessionError> {
        let ask = self.spec.network.as_ref().and_then(|network| network.ask.clone());
        let journal = Journal::in_directory(workspace.state.dir().path());
        let gate = self.gate.clone();
        let network = SessionNetwork::new(&self.spec.id, gate, rules, ask, journal);
        let opened = match network.set_masks(masks) {
            Ok(()) => network.open(sandbox).await,
            failed => failed,
        };
        opened.map_err(|source| SessionError::Network { source })?;
        Ok(network)
    }

    /// Loads the variables. If that fails, commands run without variables, and the warning says
    /// why.
    ///
    /// # Errors
    /// Returns [`SessionError::Variables`] if the database has no table of variables.
    pub(super) async fn load_variables(
        &self,
    ) -> Result<(LoadedVariables, Vec<String>), SessionError> {
        let Some(source) = &self.settings.variables else { return Ok(Default::default()) };
        match source.load().await {
            Ok(loaded) => Ok((loaded, Vec::new())),
            Err(source @ SourceError::Schema { .. }) => Err(SessionError::Variables { source }),
            Err(error) => {
                let cause = sandbox_core::with_causes(&error);
                let warning = format!("no variables could be loaded: {cause}");
                Ok((LoadedVariables::default(), vec![warning]))
            }
        }
    }

    /// Returns the store of the session's skills, which all sessions of the home cache together.
    fn skill_store(&self) -> Option<SkillStore> {
        let store = self.settings.storage.as_ref()?.skills();
        let cache = SkillCache::new(self.settings.home.skill_cache());
        let keys = self.settings.skill_keys.iter().cloned();
        Some(keys.fold(store.with_cache(cache), SkillStore::with_key))
    }

    /// Checks that the policy of a session with this directory is valid, and begins the search for
    /// the files that it hides.
    pub(super) fn begin(&self, session_dir: &Path) -> Result<(), SessionError> {
        if self.spec.policy.is_none() {
            begin_search();
        }
        self.policy_with(&[], session_dir, ApplicationDirs::Hidden).map(drop)
    }

    /// Returns the policy of a session with this directory.
    pub(super) fn policy(
        &self,
        session_dir: &Path,
        application_dirs: ApplicationDirs,
    ) -> Result<Policy, SessionError> {
        let private = match &self.spec.policy {
            Some(_) => Vec::new(),
            None => private_files(),
        };
        self.policy_with(&private, session_dir, application_dirs)
    }

    /// Returns the policy of a session with this directory, which hides `private` files.
    ///
    /// No rule shows the home, because a command that reads the token of a server would have the
    /// rights of a client, and one that writes the configuration would have those of the operator.
    fn policy_with(
        &self,
        private: &[PathBuf],
        session_dir: &Path,
        application_dirs: ApplicationDirs,
    ) -> Result<Policy, SessionError> {
        let home = std::env::home_dir()
            .filter(|home| home.is_absolute())
            .unwrap_or_else(|| PathBuf::from("/root"));
        let Exceptions { reads, writes } = self.exceptions()?;
        let mut builder = match &self.spec.policy {
            Some(config) => Policy::custom(session_dir, config.clone()),
            None => Policy::session(session_dir),
        };
        builder = private.iter().fold(builder, |builder, path| builder.deny_read(path));
        builder = builder
            .home(&home)
            .sessions_root(&self.settings.home.sessions_root())
            .application_dir(self.settings.home.path());
        if application_dirs == ApplicationDirs::Hidden {
            for dir in &self.settings.application_dirs {
                builder = builder.application_dir(dir);
            }
            builder = self.settings.sealed.iter().fold(builder, |it, path| it.seal(path));
            builder = self.settings.frozen.iter().fold(builder, |it, path| it.freeze(path));
            // The log of every session is in the store, and the engine follows symlinks there.
            let store = self.settings.storage.as_ref().and_then(Storage::directory);
            if let Some(store) = store.filter(|store| !session_dir.starts_with(store)) {
                builder = builder.deny_write(store);
            }
        }
        if self.settings.read_only_skills {
            builder = builder.deny_write(&session_dir.join(SKILLS_DIRECTORY));
        }
        for entry in &self.spec.deny_read {
            builder = builder.deny_read_entry(entry.clone());
        }
        for entry in &self.spec.deny_write {
            builder = builder.deny_write_entry(entry.clone());
        }
        if self.settings.protect_names {
            builder = builder.protect_names();
        }
        for path in reads.iter().chain(&writes) {
            builder = builder.allow_read(path);
        }
        for path in &writes {
            builder = builder.allow_write(path);
        }
        if let Some(network) = &self.spec.network {
            builder = network.add_to(builder);
        }
        let policy = builder.build().map_err(|source| SessionError::Policy { source })?;
        let policy = self.settings.home.hide_from(policy);
        let tier = &self.settings.session.tier;
        Ok(policy.with_private(NativeSandbox::private_directories(tier)))
    }

    fn exceptions(&self) -> Result<Exceptions, SessionError> {
        let existing = |path: &PathBuf| {
            path.canonicalize()
                .map_err(|source| SessionError::MissingPath { path: path.clone(), source })
        };
        let reads = self.spec.allow_read.iter().chain(&self.settings.python_venv);
        let mut reads: Vec<PathBuf> = reads.map(existing).collect::<Result<_, _>>()?;
        let writes = self.spec.allow_write.iter().map(existing).collect::<Result<_, _>>()?;
        reads.extend(self.runtimes.node_path.clone());
        Ok(Exceptions { reads, writes })
    }
}

/// Returns warnings about masks that the network does not use.
fn network_warnings(network: &SessionNetwork, masks: &Masks) -> Result<Vec<String>, SessionError> {
    let compiled = network.rules().compile().map_err(|source| SessionError::Network { source })?;
    let policy = network.is_open().then_some(&compiled);
    let mut warnings = unused_masks::unused(masks, policy, network.rules().is_asking());
    let terminates = network.rules().terminates() || !masks.is_empty();
    if network.is_open() && terminates && !network.is_trusted() {
        warnings.push(UNTRUSTED.to_owned());
    }
    Ok(warnings)
}

const UNTRUSTED: &str = "programs do not trust the certificates of terminated connections, because \
                         commands can read no file with the certificates of the system";

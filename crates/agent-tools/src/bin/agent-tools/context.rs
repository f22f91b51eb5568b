//! The global options, resolved: home, store, variables and passphrase.

mod existing;
mod ignored;
mod protected;
mod skills;
mod variables;

use std::cell::Cell;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::skill_store::SkillName;
use agent_tools::skill_store::Version;
use agent_tools::{
    Home, Ownership, Rules, Session, SessionSpec, Sessions, SessionsBuilder, SkillRef, Storage,
    Tier, VariableSelection,
};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use serde::Serialize;

use self::ignored::ignore_rules;
pub(crate) use self::protected::ProtectedFiles;
use crate::failure::Failure;
use crate::options::{Global, SessionArgs, WaitArgs};
use crate::output::{errln, print_json};
use crate::progress_bar::{Bars, TransferProgress};
use crate::project_file::Project;
use crate::variable_source;
use crate::{schemes, settings};

/// The time for which commands do not list the objects of a session again. `session sync` does.
const LISTING_AGE: Duration = Duration::from_secs(30);

/// The global options, resolved when a subcommand needs them.
pub(crate) struct Context {
    global: Global,
    has_warned: Cell<bool>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { global, has_warned: Cell::default() }
    }

    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let home = match &self.global.home {
            Some(path) if path.is_absolute() => Some(Home::new(path)),
            Some(path) => Some(Home::new(settings::working_directory()?.join(path))),
            None => Home::for_current_user(),
        };
        home.ok_or_else(|| {
            Failure::not_run_text(
                "there is no home directory; set one with --home or AGENT_TOOLS_HOME",
            )
        })
    }

    pub(crate) fn tier(&self) -> Tier {
        self.global.tier()
    }

    /// Opens the store of `--store`, or the default one under the home.
    pub(crate) fn storage(&self) -> Result<Storage, Failure> {
        match &self.global.store {
            Some(url) => {
                schemes::check(url, &schemes::STORES)?;
                self.warn_about_memory(url);
                self.home()?.check_store(url).map_err(Failure::not_run)?;
                Storage::open(url).map_err(|error| Failure::not_run(error).about("--store"))
            }
            None => {
                let dir = self.home()?.path().join("store");
                if dir.to_str().is_none() {
                    return Err(Failure::not_run_text(format!(
                        "a store cannot be at {}, which is not UTF-8; name another one with \
                         --store",
                        dir.display()
                    )));
                }
                Storage::local(&dir).map_err(Failure::not_run)
            }
        }
    }

    /// Warns once that a store in memory ends with this process.
    fn warn_about_memory(&self, url: &str) {
        if url.starts_with("memory:") && !self.has_warned.replace(true) {
            errln!("agent-tools: warning: {url} is memory of this process, so nothing in it stays");
        }
    }

    /// Returns the URL of `--store`, or the directory of the default store.
    ///
    /// [`Self::storage`] rejects a URL with credentials, so call it first.
    pub(crate) fn store_location(&self) -> Result<String, Failure> {
        Ok(match &self.global.store {
            Some(url) => url.clone(),
            None => self.home()?.path().join("store").display().to_string(),
        })
    }

    /// Returns sessions to describe from what is on this machine. The store need not be usable.
    pub(crate) fn local_sessions(&self) -> Result<Sessions, Failure> {
        let prefix = match &self.global.store {
            Some(url) => schemes::prefix(url).map_err(Failure::not_run)?,
            None => Key::default(),
        };
        let store = Storage::new(Arc::new(InMemory::new()), "").with_prefix(prefix);
        let mut builder = Sessions::builder(self.home()?).storage(store);
        if !self.global.ignore.is_empty() {
            builder = builder.ignore(ignore_rules(&self.global.ignore)?);
        }
        Ok(builder.build())
    }

    /// Returns the sessions, with the patience that the command line asks for.
    pub(crate) fn patient_sessions(&self, wait: WaitArgs) -> Result<Sessions, Failure> {
        Ok(wait.apply(self.sessions_builder()?).build())
    }

    pub(crate) fn sessions_builder(&self) -> Result<SessionsBuilder, Failure> {
        self.builder_with(self.storage()?)
    }

    fn builder_with(&self, storage: Storage) -> Result<SessionsBuilder, Failure> {
        let mut builder = Sessions::builder(self.home()?)
            .storage(storage)
            .progress(Arc::new(TransferProgress::new(self.bars())))
            .durability(self.global.durability())
            .listing_age(LISTING_AGE)
            .rules(if self.global.reference { Rules::Reference } else { Rules::Standard })
            .tier(self.tier());
        if self.global.no_redact {
            builder = builder.without_redaction();
        }
        for key in self.skill_keys()? {
            builder = builder.skill_key(key);
        }
        let url = self.variables_url()?;
        builder = builder.variables_identity(variable_source::identity(&url));
        builder = builder.variables(Arc::new(self.variable_source(url)?));
        if let Some(venv) = &self.global.python_venv {
            if !venv.join("bin").is_dir() {
                return Err(Failure::not_run_text(format!(
                    "{} is not a Python virtual environment: it has no bin",
                    venv.display()
                )));
            }
            if venv.as_os_str().as_bytes().contains(&b':') {
                return Err(Failure::not_run_text(format!(
                    "PATH cannot name {}, because it contains a colon",
                    venv.display()
                )));
            }
            builder = builder.python_venv(std::path::absolute(venv).map_err(Failure::not_run)?);
        }
        if !self.global.ignore.is_empty() {
            builder = builder.ignore(ignore_rules(&self.global.ignore)?);
        }
        if let Some(dir) = application_dir() {
            builder = builder.application_dir(dir);
        }
        if let Some(retention) = self.global.retention {
            builder = builder.retention(retention);
        }
        if self.global.no_projection {
            builder = builder.without_projection();
        }
        let mut ownership = Ownership::default();
        if let Some(takeover) = self.global.takeover {
            ownership = ownership.takeover(takeover.into());
        }
        if let Some(url) = &self.global.owner_url {
            ownership = ownership.url(url);
        }
        Ok(builder.ownership(ownership))
    }

    /// Returns the time for which the store keeps superseded versions, if it is set.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.global.retention
    }

    /// Returns the restrictions of the project in the working directory.
    pub(crate) fn project(&self) -> Result<Project, Failure> {
        // Without a working directory, there is no project.
        std::env::current_dir().map_or_else(|_| Ok(Project::default()), |dir| Project::read(&dir))
    }

    /// Returns whether the rules of the reference system hold.
    pub(crate) fn follows_reference(&self) -> bool {
        self.global.reference
    }

    /// Returns a skill of the command line. With the rules of the reference, it has a version.
    pub(crate) fn with_version(&self, mut skill: SkillRef) -> SkillRef {
        if self.global.reference {
            skill.version.get_or_insert(Version::FIRST.into());
        }
        skill
    }

    /// Returns the request to open the session of these options.
    pub(crate) fn spec(&self, args: &SessionArgs) -> Result<SessionSpec, Failure> {
        let mut spec = SessionSpec::new(args.session.clone()).user(args.user.clone());
        if !self.global.reference {
            for name in args.skills.iter().filter_map(|skill| skill.name.as_ref()) {
                SkillName::parse(name.as_str())
                    .map_err(|error| Failure::usage(format!("{error}; or use --reference")))?;
            }
        }
        spec.skills.clone_from(&args.skills);
        spec.allow_read.clone_from(&args.allow_read);
        spec.allow_write.clone_from(&args.allow_write);
        if args.skill_variables {
            spec.variables = VariableSelection::OfSkills;
        } else if !args.variable_names.is_empty() {
            let names = args.variable_names.iter().cloned().collect();
            spec.variables = VariableSelection::Named(names);
        }
        spec.required_variables.clone_from(&args.required_variables);
        spec.policy = args.policy.as_deref().map(settings::read).transpose()?;
        spec.network = args.network.spec()?;
        let project = self.project()?;
        if let Some(warning) = project.warning(spec.network.as_ref()) {
            errln!("agent-tools: warning: {warning}");
        }
        project.restrict(&mut spec);
        Ok(spec)
    }

    /// Returns the sessions with the options of one of them, to describe its policy. The store need
    /// not be usable.
    pub(crate) fn described_sessions(&self, args: &SessionArgs) -> Result<Sessions, Failure> {
        let unusable = |_| Storage::new(Arc::new(InMemory::new()), "");
        let builder = self.builder_with(self.storage().unwrap_or_else(unusable))?;
        Ok(self.with_options(builder, args)?.build())
    }

    fn builder_of(&self, args: &SessionArgs) -> Result<SessionsBuilder, Failure> {
        self.with_options(self.sessions_builder()?, args)
    }

    fn with_options(
        &self,
        builder: SessionsBuilder,
        args: &SessionArgs,
    ) -> Result<SessionsBuilder, Failure> {
        let builder = args.wait.apply(builder);
        let files = self.protected_files(args.policy.as_deref())?;
        let mut builder = files.protect_sessions(builder);
        if args.network.asks() {
            // The progress of uploads is no part of a question.
            builder = builder.progress(Arc::new(TransferProgress::new(Bars::Hidden)));
        }
        let project = self.project()?;
        if args.read_only_skills || project.read_only_skills {
            builder = builder.read_only_skills();
        }
        if let Some(restrictions) = project.restrictions() {
            builder = builder.restrictions(restrictions);
        }
        Ok(builder)
    }

    /// Opens a session for its files, and prints its warnings.
    pub(crate) async fn open_for_files(&self, args: &SessionArgs) -> Result<Arc<Session>, Failure> {
        self.open_spec(self.builder_of(args)?, self.spec(args)?.for_files()).await
    }

    /// Opens a session for its commands, with further settings, and prints its warnings.
    pub(crate) async fn open_with(
        &self,
        args: &SessionArgs,
        change: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
    ) -> Result<Arc<Session>, Failure> {
        self.open_spec(change(self.builder_of(args)?), self.spec(args)?).await
    }

    async fn open_spec(
        &self,
        builder: SessionsBuilder,
        spec: SessionSpec,
    ) -> Result<Arc<Session>, Failure> {
        let sessions = builder.build();
        let opening = sessions.open(spec);
        let session = self.bars().during("opening", opening).await.map_err(Failure::not_run)?;
        for warning in session.warnings() {
            errln!("agent-tools: warning: {warning}");
        }
        Ok(session)
    }

    /// Returns whether progress is shown.
    pub(crate) fn bars(&self) -> Bars {
        if self.global.quiet { Bars::Hidden } else { Bars::Shown }
    }

    /// Returns whether results are printed as JSON.
    pub(crate) fn prints_json(&self) -> bool {
        self.global.json
    }

    /// Prints a result as JSON with `--json`, and otherwise by calling `human`.
    pub(crate) fn print(
        &self,
        result: &impl Serialize,
        human: impl FnOnce(),
    ) -> Result<(), Failure> {
        if self.global.json {
            print_json(&serde_json::to_string(result).map_err(Failure::failed)?);
        } else {
            human();
        }
        Ok(())
    }
}

/// Returns the working directory, which sessions cannot see, unless it is a system directory.
fn application_dir() -> Option<PathBuf> {
    const SYSTEM: [&str; 12] = [
        "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/sys",
        "/nix", "/tmp",
    ];
    let dir = std::env::current_dir().ok()?;
    let is_system = dir.parent().is_none() || SYSTEM.iter().any(|system| dir.starts_with(system));
    (!is_system).then_some(dir)
}

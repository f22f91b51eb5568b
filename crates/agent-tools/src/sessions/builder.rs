//! Settings for all sessions of a host process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{Durability, IgnoreRules, MAX_QUEUED_BYTES, Progress};
use egress::{Gate, GateBuilder};
use sandbox_core::{Limits, Tier};
use secrets::VariableSource;
use skill_store::VerifyingKey;

use super::ownership::Ownership;
use crate::engine::SandboxFactory;
use crate::home::Home;
use crate::output::MAX_STREAM_UNITS;
use crate::restrictions::Restrictions;
use crate::rules::Rules;
use crate::session::SessionSettings;
use crate::storage::Storage;
use crate::tools::ToolSelection;

/// Settings for all sessions of a host process, created by
/// [`Sessions::builder`](crate::Sessions::builder).
#[derive(Clone, Debug)]
pub struct SessionsBuilder {
    pub(crate) home: Home,
    pub(super) storage: Option<Storage>,
    pub(super) progress: Option<Arc<dyn Progress>>,
    /// One of these keys must have signed each skill. If the list is empty, no key is needed.
    pub(super) skill_keys: Vec<VerifyingKey>,
    /// Set to deny writes below `skills/`.
    pub(super) read_only_skills: bool,
    pub(super) variables: Option<Arc<dyn VariableSource>>,
    pub(super) variables_identity: Option<String>,
    pub(super) python_venv: Option<PathBuf>,
    /// Time without a call after which a session is released.
    pub(super) idle_release: Option<Duration>,
    pub(super) application_dirs: Vec<PathBuf>,
    /// Files of the host application that no rule shows, and those that none opens for writing.
    pub(super) sealed: Vec<PathBuf>,
    pub(super) frozen: Vec<PathBuf>,
    /// Set to protect the names in session directories.
    pub(super) protect_names: bool,
    pub(super) ignore: Option<IgnoreRules>,
    pub(super) ownership: Ownership,
    pub(super) retention: Option<Duration>,
    pub(super) max_queued_bytes: u64,
    pub(super) durability: Durability,
    pub(super) listing_age: Duration,
    pub(super) patience: Option<Duration>,
    /// Set to keep files in the session logs only.
    pub(super) without_projection: bool,
    /// Set to store the files of this machine again if the store lost the log of a session.
    pub(super) refill: bool,
    pub(super) gate: GateBuilder,
    pub(super) session: SessionSettings,
}

impl SessionsBuilder {
    pub(super) fn new(home: Home) -> Self {
        let session = SessionSettings {
            artifact_label: "artifacts".to_owned(),
            instructions: None,
            timeout: Duration::from_secs(120),
            max_timeout: None,
            linger: Duration::from_millis(250),
            max_output: MAX_STREAM_UNITS,
            keeps_output: true,
            rules: Rules::default(),
            limits: Limits::default(),
            tier: Tier::default(),
            engine: None,
            tools: ToolSelection::default(),
            redact: true,
            restrictions: None,
        };
        Self {
            home,
            storage: None,
            progress: None,
            skill_keys: Vec::new(),
            read_only_skills: false,
            variables: None,
            variables_identity: None,
            python_venv: None,
            idle_release: None,
            application_dirs: Vec::new(),
            sealed: Vec::new(),
            frozen: Vec::new(),
            protect_names: false,
            ignore: None,
            ownership: Ownership::default(),
            retention: None,
            max_queued_bytes: MAX_QUEUED_BYTES,
            durability: Durability::default(),
            listing_age: Duration::ZERO,
            patience: None,
            without_projection: false,
            refill: false,
            gate: Gate::builder(),
            session,
        }
    }

    /// Keeps artifacts and skills in a store. Without one, sessions are local.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage.with_probe_file(self.home.probe_file()));
        self
    }

    /// Replaces the settings of the gate, through which all sessions of this process reach the
    /// network: its resolver, the certificates that it trusts, its limits, and its parent proxy.
    ///
    /// ```
    /// use agent_tools::egress::Gate;
    /// # use agent_tools::{Home, Sessions};
    /// # fn example(home: Home, authority: &[u8]) {
    /// // An authority of the company, also for the programs of sessions.
    /// let gate = Gate::builder().extra_roots(authority);
    /// let sessions = Sessions::builder(home).gate(gate).build();
    /// # }
    /// ```
    #[must_use]
    pub fn gate(mut self, gate: GateBuilder) -> Self {
        self.gate = gate;
        self
    }

    /// Installs only skills whose manifest this key, or another one that was added, has signed.
    #[must_use]
    pub fn skill_key(mut self, key: VerifyingKey) -> Self {
        self.skill_keys.push(key);
        self
    }

    /// Denies commands and tools to write below `skills/`, so that an agent cannot change its
    /// skills.
    #[must_use]
    pub fn read_only_skills(mut self) -> Self {
        self.read_only_skills = true;
        self
    }

    /// Names the file whose restrictions the sessions have in the texts of denials.
    #[must_use]
    pub fn restrictions(mut self, restrictions: Restrictions) -> Self {
        self.session.restrictions = Some(restrictions);
        self
    }

    /// Loads the variables of every session's environment from `source`. An open session loads them
    /// again before a command, if the source reports a change or after 30 s. If that fails, the
    /// variables stay, and the next result has a warning.
    #[must_use]
    pub fn variables(mut self, source: Arc<dyn VariableSource>) -> Self {
        self.variables = Some(source);
        self
    }

    /// Names the source of the variables, such as the path of a database, without secrets.
    ///
    /// Processes that share a session then compare this name, and its commands have the variables
    /// that the first process loads. Otherwise the processes compare the variables themselves, so
    /// a changed value keeps others out until the first process has ended.
    #[must_use]
    pub fn variables_identity(mut self, identity: impl Into<String>) -> Self {
        self.variables_identity = Some(identity.into());
        self
    }

    /// Leaves the values of variables in results and errors.
    ///
    /// By default, `[redacted:NAME]` replaces them in the forms that
    /// [`Redactor`](secrets::Redactor) finds, and the first result has a warning with the names of
    /// values that are too short. A value that a command writes to a file or sends elsewhere is
    /// never replaced.
    #[must_use]
    pub fn without_redaction(mut self) -> Self {
        self.session.redact = false;
        self
    }

    /// Puts a Python virtual environment first on `PATH`.
    #[must_use]
    pub fn python_venv(mut self, venv: impl Into<PathBuf>) -> Self {
        self.python_venv = Some(venv.into());
        self
    }

    /// Excludes files from mirroring by `rules` instead of the default list.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.ignore = Some(rules);
        self
    }

    /// Sets how this home and others that share the store own sessions. By default, a session that
    /// a live home owns is refused with
    /// [`SessionError::OwnedElsewhere`](crate::SessionError::OwnedElsewhere).
    #[must_use]
    pub fn ownership(mut self, ownership: Ownership) -> Self {
        self.ownership = ownership;
        self
    }

    /// Sets how long the store keeps versions of files that are no longer current; one day by
    /// default, and 15 minutes at least.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Sets how many bytes of a session may be queued for upload; 10 GiB by default. Further
    /// changes are pending, with this reason, and are stored later. See
    /// [`MirrorBuilder::max_queued_bytes`](artifact_sync::MirrorBuilder::max_queued_bytes).
    #[must_use]
    pub fn max_queued_bytes(mut self, bytes: u64) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// Sets when a store on the local disk counts a change as stored. By default, the disk has it
    /// then, and a call that changes something waits for that.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the time for which opening a session does not look for changes by other programs again.
    /// By default, each opening lists the objects of the session. [`Session::refresh`] always does.
    ///
    /// [`Session::refresh`]: crate::Session::refresh
    #[must_use]
    pub fn listing_age(mut self, age: Duration) -> Self {
        self.listing_age = age;
        self
    }

    /// Sets for how long a close, a drain and [`SessionFiles::sync`](crate::SessionFiles::sync) go
    /// on without progress; 60 s by default. A file or a part of a large one that is sent counts as
    /// progress.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = Some(time);
        self
    }

    /// Keeps files in the session logs only. The store then has no objects under the files' own
    /// keys: other programs see no files and cannot add any, and links open the files as they were
    /// ([`LinkTarget::Version`](crate::LinkTarget::Version)). Objects that exist stay as they are;
    /// the next opening with a projection brings them up to date.
    #[must_use]
    pub fn without_projection(mut self) -> Self {
        self.without_projection = true;
        self
    }

    /// Stores the files of this machine again if the store has lost the log of a session that is
    /// opened. Its history is lost. By default, opening fails.
    #[must_use]
    pub fn refill(mut self) -> Self {
        self.refill = true;
        self
    }

    /// Sets the title of the block of links after a command's output; `artifacts` by default.
    #[must_use]
    pub fn artifact_label(mut self, label: impl Into<String>) -> Self {
        self.session.artifact_label = label.into();
        self
    }

    /// Sets the rules of names and results. Those of the reference system have a label of their own
    /// ([`SessionsBuilder::artifact_label`]).
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.session.rules = rules;
        if let Some(label) = rules.artifact_label() {
            self.session.artifact_label = label.to_owned();
        }
        self
    }

    /// Appends a text to the description of the tool `bash`.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.session.instructions = Some(instructions.into());
        self
    }

    /// Reports the progress of restores and uploads to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the time limit of commands that have none; 120 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.session.timeout = timeout;
        self
    }

    /// Refuses commands with a longer time limit; by default, none is too long.
    #[must_use]
    pub fn max_timeout(mut self, timeout: Duration) -> Self {
        self.session.max_timeout = Some(timeout);
        self
    }

    /// Releases sessions that no call has used for this time, as
    /// [`Sessions::release_idle`](crate::Sessions::release_idle) does. The first opening starts to
    /// look for them.
    #[must_use]
    pub fn idle_release(mut self, idle: Duration) -> Self {
        self.idle_release = Some(idle);
        self
    }

    /// Sets the time without output for which processes may outlive the shell of a command; 250 ms
    /// by default. See [`CommandSpec::linger`](sandbox_core::CommandSpec::linger).
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.session.linger = linger;
        self
    }

    /// Sets how much of each output stream of a command a result shows, in UTF-16 units; 30,000 by
    /// default. Of a longer stream, it shows the beginning and the end, and names a file in the
    /// sandbox with all of it.
    #[must_use]
    pub fn max_output(mut self, units: usize) -> Self {
        self.session.max_output = units;
        self
    }

    /// Keeps no longer stream in a file of the sandbox, for a process that ends after its command:
    /// the file would end with it.
    #[must_use]
    pub fn without_kept_output(mut self) -> Self {
        self.session.keeps_output = false;
        self
    }

    /// Selects the tools that [`Session::tools`](crate::Session::tools) describes and
    /// [`Session::call`](crate::Session::call) runs; by default `bash`, `readFile` and
    /// `writeFile`. Processes that share a session can select different ones.
    #[must_use]
    pub fn tools(mut self, tools: ToolSelection) -> Self {
        self.session.tools = tools;
        self
    }

    /// Limits the resources that a session's commands may use, and the size of its directory.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.session.limits = limits;
        self
    }

    /// Selects the kernel mechanism of the sandboxes; namespaces by default.
    ///
    /// A host without user namespaces needs [`Tier::Landlock`], which is weaker. There is no
    /// automatic fallback.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.session.tier = tier;
        self
    }

    /// Opens sandboxes with another engine than the native one, for example a fake one in tests.
    /// [`SessionsBuilder::tier`] and [`SessionsBuilder::limits`] have no effect on it.
    #[must_use]
    pub fn engine(mut self, factory: Arc<dyn SandboxFactory>) -> Self {
        self.session.engine = Some(factory);
        self
    }
}

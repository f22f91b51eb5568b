//! The request to open one session.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use artifact_sync::IgnoreRules;
use policy::{PathEntry, SandboxRuntimeConfig};
use sandbox_core::{SessionId, UserId};
use secrets::MaskSpec;
use skill_store::SkillRef;

use crate::network::NetworkSpec;
use crate::session::VariableSelection;

/// The session to open, and the access that it gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionSpec {
    /// The session.
    pub id: SessionId,
    /// The owner of the artifacts. Without a user nothing is mirrored.
    pub user: Option<UserId>,
    /// The skills to install.
    pub skills: Vec<SkillRef>,
    /// The variables that commands get.
    pub variables: VariableSelection,
    /// The masks of variables, by name. They take precedence over those of the source. On an open
    /// session, others are an error; none leaves its masks as they are.
    pub masks: BTreeMap<String, MaskSpec>,
    /// The variables without which no command runs.
    pub required_variables: Vec<String>,
    /// Settings instead of the default policy. The session directory is readable and writable in
    /// any case.
    pub policy: Option<SandboxRuntimeConfig>,
    /// Paths of the host that commands may also read.
    pub allow_read: Vec<PathBuf>,
    /// Paths of the host that commands may also read and write.
    pub allow_write: Vec<PathBuf>,
    /// Absolute paths and patterns of the host that commands may not read, unless `allow_read` has
    /// a path below.
    pub deny_read: Vec<PathEntry>,
    /// Absolute paths and patterns that commands may not write.
    pub deny_write: Vec<PathEntry>,
    /// Hosts that commands may also connect to. On an open session, `None` leaves its network as
    /// it is.
    pub network: Option<NetworkSpec>,
    /// Rules for files that are not mirrored, instead of the rules of all sessions.
    pub ignore: Option<IgnoreRules>,
    /// Time for which the store keeps superseded versions of this session, instead of that of all
    /// sessions.
    pub retention: Option<Duration>,
    /// Set for a caller that uses files only. An open session may have any network, and there are
    /// no warnings about variables.
    pub for_files: bool,
}

impl SessionSpec {
    /// Requests a session without user, skills, network or exceptions.
    pub fn new(id: SessionId) -> Self {
        Self {
            id,
            user: None,
            skills: Vec::new(),
            variables: VariableSelection::default(),
            masks: BTreeMap::new(),
            required_variables: Vec::new(),
            policy: None,
            allow_read: Vec::new(),
            allow_write: Vec::new(),
            deny_read: Vec::new(),
            deny_write: Vec::new(),
            network: None,
            ignore: None,
            retention: None,
            for_files: false,
        }
    }

    /// Mirrors the session's artifacts as those of `user`.
    #[must_use]
    pub fn user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Gives commands these variables instead of all.
    #[must_use]
    pub fn variables(mut self, selection: VariableSelection) -> Self {
        self.variables = selection;
        self
    }

    /// Hides the value of a variable from commands. They get a placeholder, which becomes the value
    /// in requests over TLS to these hosts: names, patterns such as `*.example.com`, or addresses,
    /// with or without a port. The network must allow the hosts ([`SessionSpec::network`]).
    ///
    /// An invalid mask is a warning, and commands do not get the variable then.
    #[must_use]
    pub fn mask<H: Into<String>>(
        self,
        name: impl Into<String>,
        hosts: impl IntoIterator<Item = H>,
    ) -> Self {
        self.mask_with(name, MaskSpec::new(hosts))
    }

    /// Hides the value of a variable like [`SessionSpec::mask`], with further settings.
    #[must_use]
    pub fn mask_with(mut self, name: impl Into<String>, mask: MaskSpec) -> Self {
        self.masks.insert(name.into(), mask);
        self
    }

    /// Runs no command while one of these variables is absent, for example because its value cannot
    /// be decrypted. Applies to the calls of this request's session handle.
    #[must_use]
    pub fn require_variables(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.required_variables.extend(names.into_iter().map(Into::into));
        self
    }

    /// Uses these settings instead of the default policy.
    #[must_use]
    pub fn policy(mut self, settings: SandboxRuntimeConfig) -> Self {
        self.policy = Some(settings);
        self
    }

    /// Lets commands also read a path of the host.
    #[must_use]
    pub fn allow_read(mut self, path: impl Into<PathBuf>) -> Self {
        self.allow_read.push(path.into());
        self
    }

    /// Lets commands also read and write a path of the host.
    #[must_use]
    pub fn allow_write(mut self, path: impl Into<PathBuf>) -> Self {
        self.allow_write.push(path.into());
        self
    }

    /// Hides an absolute path or what a pattern covers from commands, except for what
    /// [`SessionSpec::allow_read`] names below it. Text may be a pattern.
    #[must_use]
    pub fn deny_read(mut self, entry: impl Into<PathEntry>) -> Self {
        self.deny_read.push(entry.into());
        self
    }

    /// Lets no command write an absolute path, or what a pattern covers.
    #[must_use]
    pub fn deny_write(mut self, entry: impl Into<PathEntry>) -> Self {
        self.deny_write.push(entry.into());
        self
    }

    /// Mirrors files by these rules instead of those of all sessions.
    #[must_use]
    pub fn ignore(mut self, rules: IgnoreRules) -> Self {
        self.ignore = Some(rules);
        self
    }

    /// Keeps superseded versions in the store for this time, instead of that of all sessions.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.retention = Some(time);
        self
    }

    /// Allows connections to hosts. Without allowed hosts, a session has no network.
    #[must_use]
    pub fn network(mut self, network: NetworkSpec) -> Self {
        self.network = Some(network);
        self
    }

    /// Opens the session to use its files. So the session may be open with any network, also in
    /// another process, and warnings about variables are left to an opening that runs commands. A
    /// command gets the network of the open session.
    #[must_use]
    pub fn for_files(mut self) -> Self {
        self.for_files = true;
        self
    }

    /// Installs a skill.
    #[must_use]
    pub fn skill(mut self, skill: SkillRef) -> Self {
        self.skills.push(skill);
        self
    }
}

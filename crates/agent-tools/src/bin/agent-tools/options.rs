//! Options that all subcommands or several of them have.

use std::path::PathBuf;

use agent_tools::{SessionId, SkillRef, Tier, UserId, Weakness};
use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Where sessions and all other state live [default: agent-tools in the XDG data directory].
    #[arg(long, value_name = "DIR", env = "AGENT_TOOLS_HOME", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// Where artifacts and skills live: s3://BUCKET/PREFIX, gs://…, az://…, file:///DIR, memory:///
    /// [default: DIR/store under the home].
    #[arg(long, value_name = "URL", env = "AGENT_TOOLS_STORE", global = true)]
    pub(crate) store: Option<String>,
    /// Where variables live: sqlite:PATH or postgres://… [default: a SQLite file under the home].
    #[arg(
        long,
        value_name = "URL",
        env = "AGENT_TOOLS_VARIABLES",
        hide_env_values = true,
        global = true
    )]
    pub(crate) variables: Option<String>,
    /// A file with the passphrase of encrypted variables; without it, AGENT_TOOLS_SECRET is used.
    #[arg(long, value_name = "FILE", env = "AGENT_TOOLS_SECRET_FILE", global = true)]
    pub(crate) secret_file: Option<PathBuf>,
    /// A Python virtual environment whose programs come first.
    #[arg(long, value_name = "DIR", env = "AGENT_TOOLS_PYTHON_VENV", global = true)]
    pub(crate) python_venv: Option<PathBuf>,
    /// What sandboxes stand on: namespaces of their own (native), or, on a host that refuses user
    /// namespaces, Landlock, which is weaker.
    #[arg(long, value_enum, default_value = "native", env = "AGENT_TOOLS_ENGINE", global = true)]
    pub(crate) engine: Engine,
    /// What is accepted not to hold with --engine landlock: inner-rules, signals, attributes; may
    /// be given more than once.
    #[arg(
        long,
        value_name = "WEAKNESS",
        env = "AGENT_TOOLS_ACCEPT",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) accept: Vec<Weakness>,
    /// A pattern (gitignore syntax) of what is not mirrored, in the place of the default list; may
    /// be given more than once.
    #[arg(
        long,
        value_name = "PATTERN",
        env = "AGENT_TOOLS_IGNORE",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) ignore: Vec<String>,
    /// Print results as JSON, and nothing else, on standard output.
    #[arg(long, env = "AGENT_TOOLS_JSON", global = true)]
    pub(crate) json: bool,
}

/// What sandboxes stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Native,
    Landlock,
}

impl Global {
    pub(crate) fn tier(&self) -> Tier {
        match self.engine {
            Engine::Native => Tier::Namespaces,
            Engine::Landlock => Tier::Landlock { accepted: self.accept.clone() },
        }
    }
}

/// Which session, and what it may do.
#[derive(Args, Clone, Debug)]
pub(crate) struct SessionArgs {
    /// The session.
    #[arg(long, value_name = "ID", default_value = "default", env = "AGENT_TOOLS_SESSION")]
    pub(crate) session: SessionId,
    /// Whose artifacts they are.
    #[arg(long, value_name = "ID", default_value = "local", env = "AGENT_TOOLS_USER")]
    pub(crate) user: UserId,
    /// A skill to install, as ID[@VERSION][=NAME]; may be given more than once.
    #[arg(long = "skill", value_name = "SKILL", env = "AGENT_TOOLS_SKILL", value_delimiter = ',')]
    pub(crate) skills: Vec<SkillRef>,
    /// A policy as sandbox-runtime settings (JSON), in place of the default policy.
    #[arg(long, value_name = "FILE", env = "AGENT_TOOLS_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// A path of the host that commands may read too; may be given more than once.
    #[arg(long, value_name = "PATH", env = "AGENT_TOOLS_ALLOW_READ", value_delimiter = ':')]
    pub(crate) allow_read: Vec<PathBuf>,
    /// A path of the host that commands may read and write too; may be given more than once.
    #[arg(long, value_name = "PATH", env = "AGENT_TOOLS_ALLOW_WRITE", value_delimiter = ':')]
    pub(crate) allow_write: Vec<PathBuf>,
}

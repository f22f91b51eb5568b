//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use agent_tools::{SessionId, SkillId, SkillRef, Tier, UserId, Weakness};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Gives an LLM agent a kernel-sandboxed working session: bash, files, skills, variables and
/// mirrored artifacts.
#[derive(Debug, Parser)]
#[command(name = "agent-tools", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a bash command in a session; exits with its code (124: timeout, 125: could not be run).
    Bash(Bash),
    /// Print a file of a session.
    ReadFile(ReadFile),
    /// Write a file of a session, from standard input or --content.
    WriteFile(WriteFile),
    /// See and end sessions.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Publish and see skills.
    #[command(subcommand)]
    Skill(SkillCommand),
    /// Set and see the variables of every session's environment.
    #[command(subcommand)]
    Variable(VariableCommand),
    /// See and check policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Run one command under sandbox-runtime settings, without a session, as the command srt does.
    ///
    /// The command has this process's standard streams, environment, directory and signals, and no
    /// timeout. Exits with its code, 128 + the signal that killed it, or 125 when it could not be
    /// run.
    Sandbox(Sandbox),
    /// Serve one session's tools over the Model Context Protocol on standard input and output.
    Mcp(SessionArgs),
    /// Tell what this machine enforces, what is in reach, and how to get what is missing.
    Doctor(SessionArgs),
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

#[derive(Args, Debug)]
pub(crate) struct Bash {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// How long the command may run.
    #[arg(long, value_name = "SECS", default_value = "120", value_parser = seconds, env = "AGENT_TOOLS_TIMEOUT")]
    pub(crate) timeout: Duration,
    /// The command, as for bash -c.
    #[arg(allow_hyphen_values = true)]
    pub(crate) command: String,
}

#[derive(Args, Debug)]
pub(crate) struct Sandbox {
    /// The settings (JSON) [default: ~/.srt-settings.json, or nothing may be written where that is
    /// absent].
    #[arg(short, long, value_name = "FILE", env = "AGENT_TOOLS_SETTINGS")]
    pub(crate) settings: Option<PathBuf>,
    /// A command line for bash, in the place of a program and its arguments.
    #[arg(short = 'c', value_name = "CMD", allow_hyphen_values = true)]
    pub(crate) script: Option<String>,
    /// A program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGV")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct ReadFile {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// The file, relative to the session directory.
    pub(crate) path: String,
}

#[derive(Args, Debug)]
pub(crate) struct WriteFile {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// The file, relative to the session directory.
    pub(crate) path: String,
    /// The content; without it, standard input is read to its end.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) content: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions that are on this machine.
    List,
    /// Show one session: its user, its directory, and what is not in the store yet.
    Show {
        /// The session.
        id: SessionId,
    },
    /// Make a session's directory and the store equal: fetch what is new, upload what is pending.
    Sync {
        /// The session.
        id: SessionId,
        /// Also carry out removals that were held back because they were so many at one time.
        #[arg(long)]
        confirm_removals: bool,
    },
    /// Upload what is pending, then remove the session from this machine; it can be opened again
    /// anywhere.
    Close {
        /// The session.
        id: SessionId,
    },
    /// Fetch one object of the session's prefix into its directory.
    Pull {
        /// The session.
        id: SessionId,
        /// The object's key, such as user_local/sessions/default/report.pdf.
        key: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// Store a directory with a SKILL.md as the skill's next version.
    Publish {
        /// The directory.
        dir: PathBuf,
        /// The skill's id; without it, the name in SKILL.md.
        #[arg(long, value_name = "ID")]
        id: Option<SkillId>,
    },
    /// List the skills.
    List,
    /// List the versions of one skill.
    Versions {
        /// The skill.
        id: SkillId,
    },
    /// Put a skill into a directory, as DIR/skills/NAME.
    Install {
        /// The skill, as ID[@VERSION][=NAME].
        skill: SkillRef,
        /// The directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VariableCommand {
    /// Set a variable to what is on standard input, without one trailing line end.
    Set {
        /// The variable.
        name: String,
        /// Store it encrypted with the passphrase.
        #[arg(long)]
        encrypted: bool,
    },
    /// List the names, never the values.
    List,
    /// Remove a variable.
    Remove {
        /// The variable.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the policy that a session would have, as sandbox-runtime settings.
    Show(SessionArgs),
    /// Say whether a session may read and write a path, or reach a host, by which rule, and what
    /// would change it.
    Explain {
        #[command(flatten)]
        session: SessionArgs,
        /// An absolute path, one that begins with ~/ or ./, or a host with or without a port.
        #[arg(value_name = "PATH|HOST[:PORT]")]
        target: String,
    },
    /// Check sandbox-runtime settings: errors, and what would not be enforced.
    Check {
        /// The file.
        file: PathBuf,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "expected a number of seconds, such as 30 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "abc", "inf", "NaN", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}

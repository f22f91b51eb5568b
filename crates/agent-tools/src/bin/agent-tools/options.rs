//! The options that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use agent_tools::skill_store::{SkillName, SkillRefError};
use agent_tools::{
    Durability, SessionId, SessionsBuilder, SkillRef, Takeover, Tier, UserId, Weakness,
};
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::network_args::NetworkArgs;

/// Shortest time for which superseded versions are kept.
const SHORTEST_RETENTION: Duration = Duration::from_secs(15 * 60);

/// Parses a time such as `7d`.
fn parse_retention(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text);
    let time = time.map_err(|_| "expected a time such as 15m, 1h or 7d".to_owned())?;
    if time < SHORTEST_RETENTION {
        return Err("the shortest time is 15m".to_owned());
    }
    Ok(time)
}

/// Parses a time such as `10m`, or a number of seconds such as `30` or `0.5`.
fn parse_wait(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    let time = humantime::parse_duration(text);
    time.map_err(|_| "expected a time such as 30, 10m or 1h".to_owned())
}

/// Parses a skill whose name may be any name of a directory, which only the reference accepts.
fn parse_skill(text: &str) -> Result<SkillRef, String> {
    let (skill, name) = match text.split_once('=') {
        Some((skill, name)) => (skill, Some(SkillName::parse_directory(name))),
        None => (text, None),
    };
    let skill: SkillRef = skill.parse().map_err(|error: SkillRefError| error.to_string())?;
    let name = name.transpose().map_err(|error| error.to_string())?;
    Ok(SkillRef { name, ..skill })
}

/// Returns the parser of a path below the session directory, as text.
pub(crate) fn session_path() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|path| {
        path.into_string().map_err(|_| "it is not UTF-8; only a command of `bash` reaches the file")
    })
}

/// Checks that a text is a URL with a host, such as `http://10.0.0.7:8080`.
fn parse_url(text: &str) -> Result<String, String> {
    let is_valid = text.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !host.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    });
    let problem = || "expected a URL such as http://10.0.0.7:8080".to_owned();
    if is_valid { Ok(text.to_owned()) } else { Err(problem()) }
}

/// Patience with the store.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Session options")]
pub(crate) struct WaitArgs {
    /// Give the store up after this time without an answer or progress, such as 10m [default: 1m].
    #[arg(long, value_name = "TIME", env = "AGENT_TOOLS_WAIT", value_parser = parse_wait)]
    wait: Option<Duration>,
}

impl WaitArgs {
    pub(crate) fn apply(self, sessions: SessionsBuilder) -> SessionsBuilder {
        match self.wait {
            Some(time) => sessions.patience(time),
            None => sessions,
        }
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of sessions and all other state [default: agent-tools in the XDG data directory].
    #[arg(long, value_name = "DIR", env = "AGENT_TOOLS_HOME", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// Store of artifacts and skills: s3://BUCKET/PREFIX, gs://…, az://…, file:///DIR or memory:///
    /// [default: the directory `store` under the home].
    #[arg(long, value_name = "URL", env = "AGENT_TOOLS_STORE", global = true)]
    pub(crate) store: Option<String>,
    /// File with a public key of minisign. Only skills that such a key has signed are installed.
    /// Repeatable.
    #[arg(
        long = "skill-key",
        value_name = "FILE",
        env = "AGENT_TOOLS_SKILL_KEY",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) skill_keys: Vec<PathBuf>,
    /// Database of variables: sqlite:PATH or postgres://… [default: agent-tools.db under the home].
    #[arg(
        long,
        value_name = "URL",
        env = "AGENT_TOOLS_VARIABLES",
        hide_env_values = true,
        global = true
    )]
    pub(crate) variables: Option<String>,
    /// File with the passphrase of encrypted variables [default: the variable AGENT_TOOLS_SECRET].
    #[arg(long, value_name = "FILE", env = "AGENT_TOOLS_SECRET_FILE", global = true)]
    pub(crate) secret_file: Option<PathBuf>,
    /// Show the values of variables in results, instead of [redacted:NAME].
    #[arg(
        long,
        env = "AGENT_TOOLS_NO_REDACT",
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub(crate) no_redact: bool,
    /// Python virtual environment whose programs come first.
    #[arg(long, value_name = "DIR", env = "AGENT_TOOLS_PYTHON_VENV", global = true)]
    pub(crate) python_venv: Option<PathBuf>,
    /// Engine of the sandboxes: `native` uses namespaces; `landlock` is weaker, for hosts without
    /// user namespaces.
    #[arg(long, value_enum, default_value = "native", env = "AGENT_TOOLS_ENGINE", global = true)]
    pub(crate) engine: Engine,
    /// Weakness to accept with --engine landlock: inner-rules, signals or attributes. Repeatable.
    #[arg(
        long,
        value_name = "WEAKNESS",
        env = "AGENT_TOOLS_ACCEPT",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) accept: Vec<Weakness>,
    /// Pattern of files that are not mirrored (gitignore syntax). `+PATTERN` extends the default
    /// rules; patterns without `+` replace them, and an empty one replaces them by nothing.
    /// Repeatable.
    #[arg(
        long,
        value_name = "PATTERN",
        env = "AGENT_TOOLS_IGNORE",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) ignore: Vec<String>,
    /// Time for which the store keeps superseded versions of files, such as 1h or 7d; 15m at least
    /// [default: 1d].
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_retention,
        env = "AGENT_TOOLS_RETENTION",
        global = true
    )]
    pub(crate) retention: Option<Duration>,
    /// Treatment of a session that is open on another machine [default: refuse; steal in a store
    /// that only this home uses].
    #[arg(long, value_enum, value_name = "HOW", env = "AGENT_TOOLS_TAKEOVER", global = true)]
    pub(crate) takeover: Option<TakeoverChoice>,
    /// Address of this machine, which others name when they refuse a session that is open here.
    #[arg(
        long,
        value_name = "URL",
        value_parser = parse_url,
        env = "AGENT_TOOLS_OWNER_URL",
        global = true
    )]
    pub(crate) owner_url: Option<String>,
    /// Durability of changes on a store on the local disk: with `disk`, they survive a loss of
    /// power; with `memory`, calls do not wait for the disk.
    #[arg(
        long,
        value_enum,
        value_name = "WHERE",
        default_value = "disk",
        env = "AGENT_TOOLS_DURABILITY",
        global = true
    )]
    pub(crate) durability: DurabilityArg,
    /// Keep files in the session logs only: the store gets no objects for people and other
    /// programs, and links open the files as they were.
    #[arg(
        long,
        env = "AGENT_TOOLS_NO_PROJECTION",
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub(crate) no_projection: bool,
    /// Print the result as JSON, and nothing else on standard output.
    #[arg(
        long,
        env = "AGENT_TOOLS_JSON",
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub(crate) json: bool,
    /// Follow the rules of the reference system: `[exulu-artifacts]` before the links, output cut
    /// at its end, `/tmp` of the tools in the session directory, version 1 of a skill without a
    /// version, and names of skills with spaces.
    #[arg(
        long,
        env = "AGENT_TOOLS_REFERENCE",
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub(crate) reference: bool,
    /// Show no progress on the terminal.
    #[arg(
        long,
        env = "AGENT_TOOLS_QUIET",
        value_parser = BoolishValueParser::new(),
        global = true
    )]
    pub(crate) quiet: bool,
}

/// Point at which a store on the local disk counts a change as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    Disk,
    Memory,
}

/// The engine of the sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Native,
    Landlock,
}

/// Treatment of a session that is open on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TakeoverChoice {
    /// Fail if the other machine is alive.
    Refuse,
    /// Wait until the other machine releases the session or is dead.
    Wait,
    /// Take the session over at once; the other machine can store nothing more.
    Steal,
}

impl From<TakeoverChoice> for Takeover {
    fn from(choice: TakeoverChoice) -> Self {
        match choice {
            TakeoverChoice::Refuse => Self::Refuse,
            TakeoverChoice::Wait => Self::Wait,
            TakeoverChoice::Steal => Self::Steal,
        }
    }
}

impl Global {
    pub(crate) fn tier(&self) -> Tier {
        match self.engine {
            Engine::Native => Tier::Namespaces,
            Engine::Landlock => Tier::Landlock { accepted: self.accept.clone() },
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        match self.durability {
            DurabilityArg::Disk => Durability::Disk,
            DurabilityArg::Memory => Durability::Memory,
        }
    }
}

/// The session, and the access that it gets.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Session options")]
pub(crate) struct SessionArgs {
    /// Id of the session.
    #[arg(long, value_name = "ID", default_value = "default", env = "AGENT_TOOLS_SESSION")]
    pub(crate) session: SessionId,
    /// Id of the user who owns the files of the session.
    #[arg(long, value_name = "ID", default_value = "local", env = "AGENT_TOOLS_USER")]
    pub(crate) user: UserId,
    /// Skill to install, with its version, a tag or `latest`, the default, and another name for
    /// it. Repeatable.
    #[arg(
        long = "skill",
        value_name = "ID[@VERSION][=NAME]",
        env = "AGENT_TOOLS_SKILL",
        value_delimiter = ',',
        value_parser = parse_skill
    )]
    pub(crate) skills: Vec<SkillRef>,
    /// Variable that commands get. With this option, they get no others. Repeatable.
    #[arg(
        long = "variable",
        value_name = "NAME",
        env = "AGENT_TOOLS_VARIABLE",
        value_delimiter = ','
    )]
    pub(crate) variable_names: Vec<String>,
    /// Variable without which no command runs. Repeatable.
    #[arg(
        long = "require-variable",
        value_name = "NAME",
        env = "AGENT_TOOLS_REQUIRE_VARIABLE",
        value_delimiter = ','
    )]
    pub(crate) required_variables: Vec<String>,
    /// Give commands only the variables that the skills request (`metadata: variables:` in
    /// SKILL.md).
    #[arg(
        long,
        env = "AGENT_TOOLS_SKILL_VARIABLES",
        value_parser = BoolishValueParser::new(),
        conflicts_with = "variable_names"
    )]
    pub(crate) skill_variables: bool,
    /// Do not let commands and tools change the skills of the session.
    #[arg(
        long,
        env = "AGENT_TOOLS_READ_ONLY_SKILLS",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) read_only_skills: bool,
    /// File of sandbox-runtime settings (JSON), instead of the default policy.
    #[arg(long, value_name = "FILE", env = "AGENT_TOOLS_POLICY")]
    pub(crate) policy: Option<PathBuf>,
    /// Path of the host that commands may also read, taken literally. Repeatable.
    #[arg(long, value_name = "PATH", env = "AGENT_TOOLS_ALLOW_READ")]
    pub(crate) allow_read: Vec<PathBuf>,
    /// Path of the host that commands may also read and write, taken literally. Repeatable.
    #[arg(long, value_name = "PATH", env = "AGENT_TOOLS_ALLOW_WRITE")]
    pub(crate) allow_write: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patience_is_a_time_or_a_number_of_seconds() {
        for (text, seconds) in [("1", 1.0), ("0.5", 0.5), ("10m", 600.0), ("1h 1s", 3601.0)] {
            assert_eq!(parse_wait(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "-1", "x", "1 parsec", "inf", "NaN"] {
            assert!(parse_wait(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_address_of_an_owner_is_a_url() {
        for text in ["http://10.0.0.7:8080", "https://host/path?a=1", "x+y://h"] {
            assert_eq!(parse_url(text).as_deref(), Ok(text));
        }
        for text in ["", "host", "host:80", "://h", "http://", "http:///p", "http://a b", "1x://h"]
        {
            assert!(parse_url(text).is_err(), "{text:?}");
        }
    }
}

//! The contract of the command, which scripts rely on.

mod clients;
mod configuration;
mod copying;
mod doctor;
mod files;
mod interfaces;
mod json;
mod leaving;
mod leftovers;
mod messages;
mod owners;
mod paths;
mod places;
mod policy;
mod protected;
mod redaction;
pub(crate) mod remedies;
mod served;
mod session;
mod sharing;
mod signals;
mod skill;
mod streams;
mod tools;
mod variable;
mod version_0_1;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command `agent-tools` with a temporary home and a clean environment.
pub(crate) struct Cli {
    home: tempfile::TempDir,
    pub(crate) environment: Vec<(String, String)>,
    store: Option<String>,
    /// Directories that live as long as this home.
    others: Vec<Cli>,
}

/// The exit code and the streams of one run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl Cli {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, environment: Vec::new(), store: None, others: Vec::new() }
    }

    pub(crate) fn with_environment(environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { environment: environment.iter().map(owned).collect(), ..Self::new() }
    }

    /// Uses the store at `url`, and these variables in its environment.
    pub(crate) fn with_store(url: &str, environment: &[(&str, String)]) -> Self {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { environment, store: Some(url.to_owned()), ..Self::new() }
    }

    /// Returns another home with the same store and environment.
    fn sharing_its_store(&self) -> Self {
        let (environment, store) = (self.environment.clone(), self.store.clone());
        Self { environment, store, ..Self::new() }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap().join("agent home")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-tools"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home.path());
        command
            .env("AGENT_TOOLS_HOME", self.home())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        command.args(args).current_dir(self.home.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        testkit::write_file(self.home.path(), name, content)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.home.path()
    }
}

/// Reads the file that a `file://` link names.
fn open_link(link: &str) -> String {
    let path = url::Url::parse(link).unwrap().to_file_path().unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let cli = Cli::new();
    let commands: [&[&str]; 4] = [
        &["policy", "show"],
        &["doctor"],
        &["--json", "policy", "explain", "/etc/shadow"],
        &["--json", "bash", "echo x"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = cli.command(args).stdin(Stdio::null()).stdout(writer).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = cli.command(&["skill", "versions", "none"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = cli.command(&["policy", "show"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot write to standard output"), "{stderr}");
}

#[test]
fn a_variable_switches_json_on_and_off() {
    for (value, is_json) in [("1", true), ("yes", true), ("true", true), ("0", false)] {
        let ran = Cli::with_environment(&[("AGENT_TOOLS_JSON", value)]).run(&["session", "list"]);
        assert_eq!(ran.ok().stdout, if is_json { "[]\n" } else { "" }, "{value}");
    }
}

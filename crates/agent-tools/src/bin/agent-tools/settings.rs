//! Files of sandbox-runtime settings, and the policies that they are for one command.

use std::path::{Path, PathBuf};

use agent_tools::Home;
use agent_tools::policy::{Access, PathEntry, Policy, Rule, SandboxRuntimeConfig};

use sandbox_core::{NativeSandbox, Tier};

use crate::context::ProtectedFiles;
use crate::failure::Failure;

/// Reads settings from a file. Relative paths begin in the working directory, as under srt. An
/// error names the file.
pub(crate) fn read(file: &Path) -> Result<SandboxRuntimeConfig, Failure> {
    parse(file, &text_of(file)?)
}

/// Returns the text of a file of settings.
pub(crate) fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| fail(file, &agent_tools::with_causes(&error)))
}

fn fail(file: &Path, problem: &str) -> Failure {
    Failure::not_run_text(format!("settings {}: {problem}", file.display()))
}

/// Parses the text of a file like [`read`].
pub(crate) fn parse(file: &Path, text: &str) -> Result<SandboxRuntimeConfig, Failure> {
    let fail = |problem: String| fail(file, &problem);
    let with_causes =
        |error: &(dyn std::error::Error + 'static)| fail(agent_tools::with_causes(error));
    let config = SandboxRuntimeConfig::from_json(text).map_err(|error| with_causes(&error))?;
    config.validate().map_err(|error| with_causes(&error))?;
    with_absolute_paths(file, config)
}

/// Lets the relative paths of valid settings begin in the working directory.
pub(crate) fn with_absolute_paths(
    file: &Path,
    mut config: SandboxRuntimeConfig,
) -> Result<SandboxRuntimeConfig, Failure> {
    let cwd = working_directory()?;
    let files = &mut config.filesystem;
    let lists = [&mut files.deny_read, &mut files.allow_write, &mut files.deny_write];
    for entry in lists.into_iter().chain(files.allow_read.as_mut()).flatten() {
        *entry = absolute_entry(entry, &cwd).map_err(|problem| fail(file, &problem))?;
    }
    Ok(config)
}

/// Returns an entry that begins in a directory if it is relative.
pub(crate) fn absolute_entry(entry: &PathEntry, dir: &Path) -> Result<PathEntry, String> {
    let absolute = entry.relative_to(dir);
    // The text of a pattern cannot hold the bytes of such a directory.
    if absolute != *entry && matches!(absolute, PathEntry::Pattern(_)) && dir.to_str().is_none() {
        let dir = dir.display();
        return Err(format!("the pattern {entry} begins in {dir}, which is not UTF-8"));
    }
    Ok(absolute)
}

/// Returns the working directory.
pub(crate) fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        let problem = if error.kind() == std::io::ErrorKind::NotFound {
            "it was removed, so change to another directory".to_owned()
        } else {
            error.to_string()
        };
        Failure::not_run_text(format!("cannot use the working directory: {problem}"))
    })
}

/// Returns the home directory, in which `~` of settings begins.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/nonexistent"))
}

/// The name of the file with srt's settings, below the home directory.
const DEFAULT_FILE: &str = ".srt-settings.json";

/// Returns the file of settings that is used if a call names none.
pub(crate) fn default_file() -> PathBuf {
    home().join(DEFAULT_FILE)
}

/// Returns the policy of one command without a session. The working directory is readable unless a
/// rule denies that. No rule opens the home of the sessions, except directories of sessions, and
/// none opens the files in `protected`.
pub(crate) fn policy_of_command(
    config: SandboxRuntimeConfig,
    cwd: &Path,
    sessions: Option<&Home>,
    protected: &ProtectedFiles,
    tier: &Tier,
) -> Result<Policy, Failure> {
    let mut policy = Policy::from_config(config, &home()).map_err(Failure::not_run)?;
    let private = NativeSandbox::private_directories(tier);
    if policy.explain(cwd, Access::Read).allowed {
        // A private /tmp would hide a working directory below /tmp.
        let mut config = policy.config().clone();
        config.filesystem.allow_read.get_or_insert_default().push(cwd.into());
        let is_hidden = private.iter().any(|dir| cwd.starts_with(dir));
        if is_hidden && policy.explain(cwd, Access::Write).allowed {
            config.filesystem.allow_write.push(cwd.into());
        }
        policy = Policy::from_config(config, &home()).map_err(Failure::not_run)?;
    }
    let policy = protected.protect(policy.with_private(private));
    Ok(sessions.into_iter().fold(policy, |policy, home| home.hide_from(policy)))
}

/// Describes why a command without a session cannot begin in the working directory, if a rule hides
/// it.
pub(crate) fn hidden_start(policy: &Policy, cwd: &Path) -> Option<String> {
    // A working directory in a private one is hidden only if a rule denied it.
    let verdict = policy.clone().with_private(Vec::new()).explain(cwd, Access::Read);
    let cwd = cwd.display();
    match (verdict.allowed, verdict.rule) {
        (true, _) => None,
        (false, Rule::Sealed { path }) => Some(format!(
            "the working directory {cwd} is in {}, which belongs to agent-tools and which no \
             command sees; use another directory, or that of a session",
            path.display()
        )),
        (false, rule) => Some(format!("the settings hide the working directory {cwd}: {rule}")),
    }
}

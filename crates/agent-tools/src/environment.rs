//! The environment of a session's commands.
//!
//! It consists of the following variables. A later one never overrides an earlier one.
//!
//! 1. `LANG`, `LC_*`, `TZ` and `TERM` of the host;
//! 2. `PATH`, with the `bin` of the Python virtual environment and those directories of the host's
//!    `PATH` that commands can read; `VIRTUAL_ENV`; `NODE_PATH`;
//! 3. `HOME` and `TMPDIR`, which name the session's private directory for temporary files, and
//!    `SHELL`, because the user's login shell may be none;
//! 4. the session's variables;
//! 5. proxies, if connections cannot be captured, and the variables of `network::patience`.
//!
//! No other variable of the host reaches a command.

use std::ffi::OsString;
use std::path::Path;

use policy::Policy;
use secrecy::ExposeSecret;
use secrets::Variables;

use crate::runtimes::{self, HostRuntimes};

/// Variables that name the session's private directory for temporary files.
const TEMPORARY: [&str; 2] = ["HOME", "TMPDIR"];
/// Variable that names the shell.
const SHELL: &str = "SHELL";

/// The maximum size of the session's variables, with the pointers to them. It is half of what a
/// command and its arguments can have on Linux with the usual stack of 8 MiB (`execve(2)`).
const MAX_VARIABLES_BYTES: usize = 1 << 20;

/// An environment, and the session's variables that it does not contain.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: Vec<(OsString, OsString)>,
    /// Names of the session's variables that have a fixed value.
    pub(crate) overridden: Vec<String>,
    /// Names of the session's variables that do not fit.
    pub(crate) omitted: Vec<String>,
}

/// Composes the environment from that of the host and the session's variables.
pub(crate) fn compose(
    host: impl Iterator<Item = (OsString, OsString)>,
    runtimes: &HostRuntimes,
    venv: Option<&Path>,
    policy: &Policy,
    variables: &Variables,
) -> Environment {
    let mut composed: Vec<(OsString, OsString)> =
        host.filter(|(name, _)| is_harmless(name)).collect();
    composed.sort();
    let bin = venv.map(runtimes::venv_bin);
    let path = runtimes::joined(bin.as_deref().into_iter().chain(runtimes.reachable_path(policy)));
    composed.push(("PATH".into(), path));
    if let Some(venv) = venv {
        composed.push(("VIRTUAL_ENV".into(), venv.into()));
    }
    if let Some(node_path) = &runtimes.node_path {
        composed.push(("NODE_PATH".into(), node_path.into()));
    }
    let (mut overridden, mut omitted) = (Vec::new(), Vec::new());
    let fixed = composed.len();
    let mut room = MAX_VARIABLES_BYTES;
    for (name, value) in variables.iter() {
        // The `=`, the closing NUL and the pointer count too.
        let bytes = name.len() + value.expose_secret().len() + 2 + size_of::<usize>();
        let is_of_sandbox = name == SHELL || TEMPORARY.contains(&name);
        if is_of_sandbox || composed[..fixed].iter().any(|(taken, _)| taken == name) {
            overridden.push(name.to_owned());
        } else if bytes > room {
            omitted.push(name.to_owned());
        } else {
            room -= bytes;
            composed.push((name.into(), value.expose_secret().into()));
        }
    }
    Environment { variables: composed, overridden, omitted }
}

impl Environment {
    /// Returns whether commands get a value of a variable. An empty one does not count.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|(known, value)| known == name && !value.is_empty())
    }

    /// Returns all variables for a sandbox with this directory for temporary files and this shell.
    pub(crate) fn in_sandbox(&self, dir: &Path, shell: &Path) -> Vec<(OsString, OsString)> {
        let temporary = TEMPORARY.iter().map(|name| (name.into(), dir.into()));
        let of_sandbox = temporary.chain([(SHELL.into(), shell.into())]);
        of_sandbox.chain(self.variables.iter().cloned()).collect()
    }
}

/// Returns whether a variable of the host only affects language, time zone and terminal.
fn is_harmless(name: &std::ffi::OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| matches!(name, "LANG" | "TZ" | "TERM") || name.starts_with("LC_"))
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(environment: &Environment) -> Vec<&str> {
        environment.variables.iter().map(|(name, _)| name.to_str().unwrap()).collect()
    }

    #[test]
    fn only_harmless_host_variables_pass_and_fixed_values_win() {
        let session = tempfile::tempdir().unwrap();
        let policy = Policy::session(session.path()).home(Path::new("/root")).build().unwrap();
        let host = [
            ("DATABASE_URL", "secret"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("TZ", "UTC"),
        ];
        let mut variables = Variables::default();
        for (name, value) in
            [("API_KEY", "k"), ("VIRTUAL_ENV", "/evil"), ("TMPDIR", "/evil"), ("LANG", "xx")]
        {
            variables.insert(name, value.to_owned().into()).unwrap();
        }
        let runtimes = HostRuntimes {
            path: vec!["/usr/bin".into(), "/root/bin".into()],
            node_path: Some("/usr/lib/node_modules".into()),
        };
        let host = host.into_iter().map(|(name, value)| (name.into(), value.into()));
        let composed = compose(host, &runtimes, Some(Path::new("/opt/venv")), &policy, &variables);
        assert_eq!(
            names(&composed),
            ["LANG", "LC_ALL", "TZ", "PATH", "VIRTUAL_ENV", "NODE_PATH", "API_KEY"]
        );
        let whole = composed.in_sandbox(Path::new("/tmp"), Path::new("/bin/bash"));
        let own = [("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("SHELL", "/bin/bash")];
        assert_eq!(whole[..3], own.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(whole[3..], composed.variables);
        assert_eq!(composed.overridden, ["LANG", "TMPDIR", "VIRTUAL_ENV"]);
        assert_eq!(composed.variables[3].1, "/opt/venv/bin:/usr/bin");
        assert!(!format!("{composed:?}").contains("\"k\""));
    }
}

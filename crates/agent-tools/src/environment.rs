//! The environment of a session's commands.
//!
//! In this order, a later entry never overriding an earlier one:
//!
//! 1. from the host, by an allow list: `LANG`, `LC_*`, `TZ`, `TERM`;
//! 2. `PATH`, of which only the directories stay that can be read inside, behind the `bin` of a
//!    Python virtual environment if one is named; `VIRTUAL_ENV`; `NODE_PATH`;
//! 3. `HOME` and `TMPDIR`, the session's own directory for temporary files, `/tmp`;
//! 4. the session's variables.
//!
//! Nothing else of the host's environment reaches a command.

use std::ffi::OsString;
use std::path::Path;

use policy::Policy;
use secrecy::ExposeSecret;
use secrets::Variables;

use crate::runtimes::{self, HostRuntimes};

/// What name the session's own directory for temporary files, which no other session sees.
const TEMPORARY: [&str; 2] = ["HOME", "TMPDIR"];

/// An environment, and the variables that could not be part of it.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: Vec<(OsString, OsString)>,
    /// Names of the session's variables that the runtime already sets.
    pub(crate) overridden: Vec<String>,
}

/// Composes the environment; `host` lists the host's own.
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
    let mut overridden = Vec::new();
    for (name, value) in variables.iter() {
        if TEMPORARY.contains(&name) || composed.iter().any(|(taken, _)| taken == name) {
            overridden.push(name.to_owned());
        } else {
            composed.push((name.into(), value.expose_secret().into()));
        }
    }
    Environment { variables: composed, overridden }
}

impl Environment {
    /// All of it, for a sandbox with this directory.
    pub(crate) fn with_temporary_dir(&self, dir: &Path) -> Vec<(OsString, OsString)> {
        let own = TEMPORARY.iter().map(|name| (name.into(), dir.into()));
        own.chain(self.variables.iter().cloned()).collect()
    }
}

/// Whether a variable of the host says only how the host shows things.
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
    fn only_harmless_variables_of_the_host_come_through_and_the_runtime_wins() {
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
            [("API_KEY", "k"), ("PATH", "/evil"), ("HOME", "/evil"), ("LANG", "xx")]
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
        let whole = composed.with_temporary_dir(Path::new("/tmp"));
        assert_eq!(whole[..2], [("HOME".into(), "/tmp".into()), ("TMPDIR".into(), "/tmp".into())]);
        assert_eq!(whole[2..], composed.variables);
        assert_eq!(composed.overridden, ["HOME", "LANG", "PATH"]);
        assert_eq!(composed.variables[3].1, "/opt/venv/bin:/usr/bin");
        assert!(!format!("{composed:?}").contains("\"k\""));
    }
}

//! Language runtimes of the host: their location, and their accessibility from a session.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use policy::Policy;

/// The names of the programs that are searched.
const KNOWN: [&str; 12] =
    ["python3", "node", "npm", "ruby", "perl", "php", "java", "go", "cargo", "deno", "bun", "uv"];

/// The program behind `cargo` that starts the one of a toolchain, which is in another directory.
const RUSTUP: &str = "rustup";

/// The runtimes of the host, found by searching its files. No process is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRuntimes {
    /// The directories of the host's `PATH` that exist.
    pub path: Vec<PathBuf>,
    /// npm's global root, such as `/usr/lib/node_modules`, if npm is installed.
    pub node_path: Option<PathBuf>,
}

/// A runtime of the host that a session's policy makes unreachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableRuntime {
    /// The program's name.
    pub name: &'static str,
    /// The program's path.
    pub path: PathBuf,
    /// The paths to allow for reading so that a session can use the program.
    pub allow_read: Vec<PathBuf>,
    /// The variables that commands need besides, with paths as values.
    pub variables: Vec<(&'static str, PathBuf)>,
}

impl HostRuntimes {
    /// Searches the host. `variable` returns variables of the host's environment.
    pub fn find(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let path = variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in std::env::split_paths(&path).filter(|dir| dir.is_absolute() && dir.is_dir()) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        let node_path = node_path(&dirs, &variable);
        Self { path: dirs, node_path }
    }

    /// Returns the directories of `PATH` that a policy allows to read, in order.
    pub fn reachable_path<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = &'a Path> {
        self.path.iter().map(PathBuf::as_path).filter(move |dir| readable(policy, dir))
    }

    /// Returns the name and path of each known runtime that a session with this policy can start.
    pub fn reachable(&self, policy: &Policy) -> Vec<(&'static str, PathBuf)> {
        let find = |name| {
            self.reachable_path(policy).map(|dir| dir.join(name)).find(|path| runs(policy, path))
        };
        KNOWN.into_iter().filter_map(|name| Some((name, find(name)?))).collect()
    }

    /// Returns the known runtimes of the host that no session with this policy can start.
    pub fn unreachable(&self, policy: &Policy, home: &Path) -> Vec<UnreachableRuntime> {
        let reachable = self.reachable(policy);
        let mut found = Vec::new();
        for name in KNOWN {
            if reachable.iter().any(|(reached, _)| *reached == name) {
                continue;
            }
            if let Some(path) = find_program(&self.path, name) {
                let target = path.canonicalize().unwrap_or_else(|_| path.clone());
                let toolchains = home.join(".rustup");
                let (allow_read, variables) = if target.ends_with(RUSTUP) && toolchains.is_dir() {
                    let dir = path.parent().unwrap_or(&path).to_owned();
                    (vec![dir, toolchains.clone()], vec![("RUSTUP_HOME", toolchains)])
                } else {
                    let hidden = if readable(policy, &path) { &target } else { &path };
                    (vec![installation(hidden, home)], Vec::new())
                };
                found.push(UnreachableRuntime { name, path, allow_read, variables });
            }
        }
        found
    }
}

fn readable(policy: &Policy, path: &Path) -> bool {
    let target = path.canonicalize();
    policy.shows(path) && target.is_ok_and(|target| policy.shows(&target))
}

fn runs(policy: &Policy, program: &Path) -> bool {
    program.is_file() && readable(policy, program)
}

fn find_program(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    path.iter().map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Guesses the directory of a program's installation.
///
/// This is `~/.pyenv` for `~/.pyenv/shims/python3`, `/opt/go` for `/opt/go/bin/go`, and otherwise
/// the parent of the program.
fn installation(program: &Path, home: &Path) -> PathBuf {
    for root in [home, Path::new("/opt"), Path::new("/home"), Path::new("/srv")] {
        if let Some(first) =
            program.strip_prefix(root).ok().and_then(|rest| rest.components().next())
        {
            let candidate = root.join(first);
            if candidate != program && root != Path::new("/home") {
                return candidate;
            }
        }
    }
    program.parent().unwrap_or(program).to_owned()
}

/// Returns npm's global root, `<prefix>/lib/node_modules`, by the rule of npm.
///
/// The prefix is the setting `prefix` of the environment, of `~/.npmrc`, of `etc/npmrc` beside
/// node's `bin`, or of npm's built-in `npmrc`. Without a setting it is the parent of node's `bin`
/// (npm documentation: "folders", "config", "npmrc").
fn node_path(
    path: &[PathBuf],
    variable: &impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let npm = find_program(path, "npm")?;
    let node = find_program(path, "node")?;
    let of_node = node.canonicalize().ok()?.parent()?.parent()?.to_owned();
    let from_file = |file: PathBuf| prefix_setting(&std::fs::read_to_string(file).ok()?, variable);
    let prefix = ["npm_config_prefix", "NPM_CONFIG_PREFIX", "PREFIX"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from))
        .or_else(|| from_file(PathBuf::from(variable("HOME")?).join(".npmrc")))
        .or_else(|| from_file(of_node.join("etc/npmrc")))
        .or_else(|| from_file(npm.canonicalize().ok()?.parent()?.parent()?.join("npmrc")))
        .unwrap_or(of_node);
    let root = prefix.join("lib/node_modules");
    root.is_dir().then_some(root)
}

/// Returns the setting `prefix` of an npmrc, with `~` and `${HOME}` expanded.
fn prefix_setting(
    npmrc: &str,
    variable: &impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let value = npmrc.lines().rev().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "prefix").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    let home = variable("HOME").unwrap_or_default();
    let rest = value.strip_prefix("~/").or_else(|| value.strip_prefix("${HOME}/"));
    let path = rest.map_or_else(|| PathBuf::from(&value), |rest| Path::new(&home).join(rest));
    path.is_absolute().then_some(path)
}

/// Returns the `bin` directory of a Python virtual environment.
pub(crate) fn venv_bin(venv: &Path) -> PathBuf {
    venv.join("bin")
}

/// Joins directories for a variable such as `PATH`, which cannot express names with `:`.
pub(crate) fn joined<'a>(dirs: impl Iterator<Item = &'a Path>) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::new();
    for dir in dirs.filter(|dir| !contains_colon(dir.as_os_str())) {
        if !text.is_empty() {
            text.push(":");
        }
        text.push(dir);
    }
    text
}

fn contains_colon(text: &OsStr) -> bool {
    text.as_encoded_bytes().contains(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn environment(pairs: &[(&str, &Path)]) -> impl Fn(&str) -> Option<OsString> {
        let map: HashMap<String, OsString> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_os_str().to_owned())).collect();
        move |name| map.get(name).cloned()
    }

    /// A host with node and npm under `usr` and a home directory.
    fn host() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        for dir in [
            "usr/bin",
            "usr/lib/node_modules/npm/bin",
            "home/own/lib/node_modules",
            "home/.pyenv/shims",
        ] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in
            ["usr/bin/node", "usr/lib/node_modules/npm/bin/npm-cli.js", "home/.pyenv/shims/python3"]
        {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("../lib/node_modules/npm/bin/npm-cli.js", root.join("usr/bin/npm")).unwrap();
        let (usr, home) = (root.join("usr"), root.join("home"));
        (temporary, usr, home)
    }

    #[test]
    fn the_global_root_of_npm_follows_its_prefix() {
        let (_host, usr, home) = host();
        let bin = usr.join("bin");
        let find = || HostRuntimes::find(environment(&[("PATH", &bin), ("HOME", &home)])).node_path;
        assert_eq!(find(), Some(usr.join("lib/node_modules")));
        fs::write(home.join(".npmrc"), "; mine\nprefix = ~/own\n").unwrap();
        assert_eq!(find(), Some(home.join("own/lib/node_modules")));
        let usr_again = HostRuntimes::find(environment(&[
            ("PATH", &bin),
            ("HOME", &home),
            ("NPM_CONFIG_PREFIX", &usr),
        ]));
        assert_eq!(usr_again.node_path, Some(usr.join("lib/node_modules")));
        assert_eq!(
            HostRuntimes::find(environment(&[("PATH", &home), ("HOME", &home)])).node_path,
            None
        );
    }

    #[test]
    fn a_runtime_in_the_home_directory_is_unreachable_until_it_is_allowed() {
        let (_host, usr, home) = host();
        let path = std::env::join_paths([home.join(".pyenv/shims"), usr.join("bin")]).unwrap();
        let runtimes =
            HostRuntimes::find(environment(&[("PATH", Path::new(&path)), ("HOME", &home)]));
        let session = home.join("s");
        fs::create_dir(&session).unwrap();
        let closed = Policy::reference(&session).home(&home).build().unwrap();
        let missing = runtimes.unreachable(&closed, &home);
        let pyenv = vec![home.join(".pyenv")];
        assert_eq!((missing[0].name, &missing[0].allow_read), ("python3", &pyenv));
        assert_eq!(runtimes.reachable_path(&closed).collect::<Vec<_>>(), [usr.join("bin")]);
        let opened = Policy::reference(&session)
            .home(&home)
            .allow_read(&home.join(".pyenv"))
            .build()
            .unwrap();
        assert!(runtimes.unreachable(&opened, &home).is_empty());
    }

    #[test]
    fn a_program_of_rustup_needs_the_toolchains_too() {
        let (_host, _, home) = host();
        let (bin, toolchains) = (home.join(".cargo/bin"), home.join(".rustup"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir(&toolchains).unwrap();
        fs::write(bin.join("rustup"), "").unwrap();
        symlink("rustup", bin.join("cargo")).unwrap();
        let runtimes = HostRuntimes::find(environment(&[("PATH", &bin), ("HOME", &home)]));
        let session = home.join("s");
        fs::create_dir(&session).unwrap();
        let closed = Policy::reference(&session).home(&home).build().unwrap();
        let missing = runtimes.unreachable(&closed, &home);
        assert_eq!(missing[0].allow_read, [bin, toolchains.clone()]);
        assert_eq!(missing[0].variables, [("RUSTUP_HOME", toolchains)]);
    }

    #[test]
    fn the_global_root_agrees_with_npm_if_it_is_installed() {
        let host = HostRuntimes::find(|name| std::env::var_os(name));
        let Ok(output) = std::process::Command::new("npm").args(["root", "-g"]).output() else {
            return testkit::skipped("npm's own global root", "package npm");
        };
        let root = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        assert_eq!(
            host.node_path.filter(|_| root.is_dir()),
            Some(root.clone()).filter(|root| root.is_dir())
        );
    }
}

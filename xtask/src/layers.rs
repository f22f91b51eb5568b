//! Checks that imports only go down from floor to floor, and what a floor must not contain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{Ended, Outcome, Runner};

/// The crates by floor, from the ground up. A crate may use those of lower floors.
const FLOORS: [&[&str]; 5] = [
    &["policy", "secrets"],
    &["sandbox-core"],
    &["artifact-sync"],
    &["skill-store"],
    &["agent-tools"],
];

/// Crates for tests, which no crate may use outside its tests and which use no crate of a floor.
const TEST_SUPPORT: [&str; 1] = ["testkit"];

/// The crates that are useful by themselves and must compile without their features.
pub(crate) const LIBRARIES: [&str; 5] =
    ["policy", "secrets", "sandbox-core", "artifact-sync", "skill-store"];

/// With these features, this crate must not need these packages, not even by way of others.
const NEVER: [(&str, &str, &[&str]); 5] = [
    ("policy", "--all-features", &["tokio", "rustix", "libc"]),
    ("secrets", "--no-default-features", &["tokio", "sqlx", "sqlx-core"]),
    ("sandbox-core", "--no-default-features", &["tokio", "policy"]),
    ("sandbox-core", "--all-features", &["object_store", "sqlx", "sqlx-core"]),
    // The engine and its policy stay behind features of sandbox-core.
    ("artifact-sync", "--all-features", &["policy", "sqlx", "sqlx-core"]),
];

/// This crate itself must not use these packages, which make system calls.
const NOT_ITSELF: [(&str, &[&str]); 1] = [("agent-tools", &["rustix", "libc", "nix"])];

/// This crate is pure: what it reads, it reads through what its caller hands in.
const PURE: &str = "policy";
const IMPURE: [&str; 5] = ["std::env", "std::fs", "std::net", "std::process", "std::thread"];

/// The one crate with `unsafe` code.
const UNSAFE: &str = "sandbox-core";

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let mut broken = Vec::new();
    for (floor, name) in crates(runner.workspace(), &mut broken)? {
        let used = packages(runner, &name, &["--all-features", "--edges", "all", "--depth", "1"])?;
        for other in used.iter().filter_map(|used| floor_of(used).map(|floor| (used, floor))) {
            if other.1 >= floor && *other.0 != name {
                broken.push(format!("{name} (floor {floor}) uses {} (floor {})", other.0, other.1));
            }
        }
        if name != UNSAFE {
            broken.extend(without_forbid(&runner.workspace().join("crates").join(&name))?);
        }
        let shipped = packages(runner, &name, &["--all-features", "--edges", "normal,build"])?;
        for found in TEST_SUPPORT.iter().filter(|support| shipped.contains(**support)) {
            broken.push(format!("{name} uses {found} outside its tests"));
        }
    }
    for name in TEST_SUPPORT {
        let used = packages(runner, name, &["--all-features", "--edges", "all"])?;
        for found in used.iter().filter(|used| floor_of(used).is_some()) {
            broken.push(format!("{name} uses {found}"));
        }
        broken.extend(without_forbid(&runner.workspace().join("crates").join(name))?);
    }
    for (name, features, never) in NEVER {
        let used = packages(runner, name, &[features, "--edges", "normal"])?;
        for found in never.iter().filter(|never| used.contains(**never)) {
            broken.push(format!("{name} with {features} needs {found}"));
        }
    }
    for (name, never) in NOT_ITSELF {
        let used =
            packages(runner, name, &["--all-features", "--edges", "normal", "--depth", "1"])?;
        for found in never.iter().filter(|never| used.contains(**never)) {
            broken.push(format!("{name} uses {found}"));
        }
    }
    broken.extend(impure(&runner.workspace().join("crates").join(PURE).join("src"))?);
    let own = packages(runner, "xtask", &["--edges", "all"])?;
    broken.extend(
        own.iter().filter(|used| *used != "xtask").map(|used| format!("xtask uses {used}")),
    );
    if broken.is_empty() { Ok(()) } else { Err(Ended::Failed(broken.join("\n    "))) }
}

/// The crates of the workspace with their floors. One that has none is a fault.
fn crates(workspace: &Path, broken: &mut Vec<String>) -> Result<Vec<(usize, String)>, Ended> {
    let mut found = Vec::new();
    for entry in files(&workspace.join("crates"))? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match floor_of(&name) {
            None if TEST_SUPPORT.contains(&name.as_str()) => {}
            Some(floor) => found.push((floor, name)),
            None => broken.push(format!("crates/{name} has no floor")),
        }
    }
    Ok(found)
}

fn floor_of(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// The names of the packages in a crate's dependency tree, its own among them.
fn packages(runner: &Runner, name: &str, options: &[&str]) -> Result<BTreeSet<String>, Ended> {
    let mut tree = runner.cargo([
        "tree",
        "--locked",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        name,
    ]);
    tree.args(options);
    let tree = runner.output(tree)?;
    Ok(tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(Into::into)
        .collect())
}

/// The crate's roots, of its library and programs, that do not forbid `unsafe`.
fn without_forbid(package: &Path) -> Result<Vec<String>, Ended> {
    let mut roots = vec![package.join("src/lib.rs")];
    let programs = package.join("src/bin");
    if programs.is_dir() {
        roots.extend(
            files(&programs)?
                .into_iter()
                .map(|path| if path.is_dir() { path.join("main.rs") } else { path }),
        );
    }
    let mut without = Vec::new();
    for root in roots {
        let text = fs::read_to_string(&root).map_err(|error| unreadable(&root, &error))?;
        if !text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
            without.push(format!("{} has no #![forbid(unsafe_code)]", root.display()));
        }
    }
    Ok(without)
}

/// The lines outside tests and comments that name a module with I/O.
fn impure(directory: &Path) -> Result<Vec<String>, Ended> {
    let mut found = Vec::new();
    for path in files(directory)? {
        if path.is_dir() {
            found.extend(impure(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let code = text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if IMPURE.iter().any(|module| line.contains(module)) {
                found.push(format!(
                    "{}:{}: {PURE} does no I/O of its own",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    Ok(found)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Ended> {
    let entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = entries.map_err(|error| unreadable(directory, &error))?;
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Ended {
    Ended::Failed(format!("cannot read {}: {error}", path.display()))
}

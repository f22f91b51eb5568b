//! Checks that imports only go down from floor to floor, and that no floor contains what it must
//! not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{Ended, Outcome, Runner};

/// The crates by floor, from the ground up. A crate may use those of lower floors.
const FLOORS: [&[&str]; 5] = [
    &["policy", "secrets"],
    &["sandbox-core", "egress"],
    &["artifact-sync"],
    &["skill-store"],
    &["agent-tools"],
];

/// Crates for tests, which no crate may use outside its tests and which use no crate of a floor.
const TEST_SUPPORT: [&str; 1] = ["testkit"];

/// Packages that a crate must not need with these features, directly or through other packages.
const NEVER: [(&str, &str, &[&str]); 7] = [
    ("policy", "--all-features", &["tokio", "rustix", "libc"]),
    ("secrets", "--no-default-features", &["tokio", "sqlx", "sqlx-core"]),
    ("sandbox-core", "--no-default-features", &["tokio", "policy"]),
    ("sandbox-core", "--all-features", &["object_store", "sqlx", "sqlx-core"]),
    ("sandbox-core", "--all-features", &["hyper", "rustls"]),
    ("egress", "--all-features", &["object_store", "sqlx", "sqlx-core"]),
    // The engine and its policy are behind features of sandbox-core.
    ("artifact-sync", "--all-features", &["policy", "sqlx", "sqlx-core"]),
];

/// Packages for system calls that a crate must not depend on directly.
const NOT_ITSELF: [(&str, &[&str]); 1] = [("agent-tools", &["rustix", "libc", "nix"])];

/// The crate without I/O: it reads only through what its caller passes in.
const PURE: &str = "policy";
const IMPURE: [&str; 5] = ["std::env", "std::fs", "std::net", "std::process", "std::thread"];

/// The one crate with `unsafe` code.
const UNSAFE: &str = "sandbox-core";

/// Attributes and macros that name a file, each followed by its path in quotes.
const FILE_REFERENCES: [&str; 4] =
    ["#[path = \"", "include!(\"", "include_str!(\"", "include_bytes!(\""];

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let mut broken = Vec::new();
    let crates = runner.workspace().join("crates");
    for (floor, name) in crates_by_floor(&crates, &mut broken)? {
        upward(runner, floor, &name, &mut broken)?;
        broken.extend(outside(&crates.join(&name), &crates.join(&name))?);
        if name != UNSAFE {
            broken.extend(without_forbid(&crates.join(&name))?);
        }
    }
    for name in TEST_SUPPORT {
        let used = packages(runner, name, &["--all-features", "--edges", "all"])?;
        for found in used.iter().filter(|used| floor_of(used).is_some()) {
            broken.push(format!("{name} uses {found}"));
        }
        broken.extend(without_forbid(&crates.join(name))?);
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
    broken.extend(impure(&crates.join(PURE).join("src"))?);
    let own = packages(runner, "xtask", &["--edges", "all"])?;
    broken.extend(
        own.iter().filter(|used| floor_of(used).is_some()).map(|used| format!("xtask uses {used}")),
    );
    if broken.is_empty() { Ok(()) } else { Err(Ended::Failed(broken.join("\n    "))) }
}

/// Finds imports of a crate that do not go down, and test support outside of its tests.
fn upward(
    runner: &Runner,
    floor: usize,
    name: &str,
    broken: &mut Vec<String>,
) -> Result<(), Ended> {
    let used = packages(runner, name, &["--all-features", "--edges", "all", "--depth", "1"])?;
    for (other, lower) in used.iter().filter_map(|used| floor_of(used).map(|floor| (used, floor))) {
        if lower >= floor && other != name {
            broken.push(format!("{name} (floor {floor}) uses {other} (floor {lower})"));
        }
    }
    let shipped = packages(runner, name, &["--all-features", "--edges", "normal,build"])?;
    for found in TEST_SUPPORT.iter().filter(|support| shipped.contains(**support)) {
        broken.push(format!("{name} uses {found} outside its tests"));
    }
    Ok(())
}

/// Returns the crates in a directory with their floors, and reports those without one.
fn crates_by_floor(crates: &Path, broken: &mut Vec<String>) -> Result<Vec<(usize, String)>, Ended> {
    let mut found = Vec::new();
    for entry in files(crates)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match floor_of(&name) {
            Some(floor) => found.push((floor, name)),
            None if TEST_SUPPORT.contains(&name.as_str()) => {}
            None => broken.push(format!("crates/{name} has no floor")),
        }
    }
    Ok(found)
}

fn floor_of(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// Returns the names of the packages in a crate's dependency tree, including its own.
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

/// Finds the roots of a crate's library and programs that do not forbid `unsafe`.
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

/// Finds lines outside tests and comments that name a module with I/O.
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

/// Finds attributes and macros that name a file outside the package: an import that cargo does not
/// know, and that a published package lacks.
fn outside(package: &Path, directory: &Path) -> Result<Vec<String>, Ended> {
    let mut found = Vec::new();
    for path in files(directory)? {
        if path.is_dir() {
            found.extend(outside(package, &path)?);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let named = file_references(line).map(|name| resolve(directory, name));
            found.extend(named.filter(|named| !named.starts_with(package)).map(|named| {
                format!("{}:{}: {} is outside", path.display(), number + 1, named.display())
            }));
        }
    }
    Ok(found)
}

/// Returns the relative paths that a line of code names.
fn file_references(line: &str) -> impl Iterator<Item = &str> {
    let after = FILE_REFERENCES.iter().filter_map(|reference| line.split(reference).nth(1));
    after.filter_map(|rest| rest.split('"').next())
}

/// Joins a relative path to a directory without asking the file system.
fn resolve(directory: &Path, name: &str) -> PathBuf {
    name.split('/').fold(directory.to_owned(), |mut path, component| {
        if component == ".." {
            path.pop();
        } else if component != "." {
            path.push(component);
        }
        path
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_package_is_named_by_attributes_and_macros() {
        let lines = [
            "#[path = \"../../policy/src/glob.rs\"]",
            "const TEXT: &str = include_str!(\"../../policy/src/glob.rs\");",
        ];
        for line in lines {
            let named: Vec<_> = file_references(line)
                .map(|name| resolve(Path::new("/w/crates/sandbox-core/init"), name))
                .collect();
            assert_eq!(named, [Path::new("/w/crates/policy/src/glob.rs")]);
        }
        assert_eq!(file_references("let path = \"../x\";").count(), 0);
    }

    #[test]
    fn test_support_has_no_floor() {
        assert_eq!(TEST_SUPPORT.map(floor_of), [None]);
        assert_eq!(floor_of("policy"), Some(0));
    }
}

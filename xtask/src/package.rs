//! Packages each crate as for a registry, and checks what the packages contain.
//!
//! Cargo itself would build every package with all of its dependencies. Here the unpacked packages
//! are members of a workspace, so that they are checked against each other, and share what the
//! other steps have compiled.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::process::Command;

use crate::metadata::{Metadata, Package};
use crate::peers;
use crate::step::{Ended, Outcome, Runner};

/// Files of each package.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];
const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let members = Metadata::read(runner)?.members;
    let published: Vec<_> = members.iter().filter(|member| member.is_published).collect();
    let missing: Vec<_> = published.iter().flat_map(|package| missing_in(package)).collect();
    if !missing.is_empty() {
        return Err(Ended::Failed(missing.join("\n    ")));
    }
    // Uncommitted changes are no reason to fail here.
    let mut package = runner.cargo(["package", "--locked", "--workspace", "--allow-dirty"]);
    for unpublished in members.iter().filter(|member| !member.is_published) {
        package.args(["--exclude", &unpublished.name]);
    }
    package.arg("--no-verify");
    runner.command(package)?;
    let directory = runner.directory().join("packages");
    unpack(runner, &directory, &published)?;
    let before = hash(&directory, &published)?;
    for package in &published {
        let mut check = runner.cargo(["check", "--offline", "--package", &package.name]);
        check.current_dir(&directory).env("CARGO_TARGET_DIR", peers::target(runner.workspace()));
        runner.command(check)?;
    }
    if before == hash(&directory, &published)? {
        return Ok(());
    }
    Err(Ended::Failed("a build script changes files of its package".to_owned()))
}

/// Creates a workspace whose members are the packages as a registry would have them, with the
/// versions of this one's lock file.
fn unpack(runner: &Runner, directory: &Path, packages: &[&Package]) -> Outcome {
    let failed = |error| failed(directory, &error);
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => fs::create_dir_all(directory).map_err(failed)?,
    }
    let archives = peers::target(runner.workspace()).join("package");
    for package in packages {
        let archive = archives.join(format!("{}.crate", folder(package)));
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(directory);
        runner.command(tar)?;
    }
    let own = fs::read_to_string(runner.workspace().join(MANIFEST)).map_err(failed)?;
    fs::write(directory.join(MANIFEST), manifest(packages, &own)).map_err(failed)?;
    fs::copy(runner.workspace().join(LOCK), directory.join(LOCK)).map_err(failed)?;
    Ok(())
}

/// Returns the manifest of a workspace with the packages, and with the profiles of this workspace,
/// so that compiled dependencies fit. A member meets the dependencies of others on it.
fn manifest(packages: &[&Package], own: &str) -> String {
    let members: Vec<_> = packages.iter().map(|package| folder(package)).collect();
    let mut manifest = format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n\n");
    manifest += "[patch.crates-io]\n";
    for package in packages {
        manifest += &format!("{} = {{ path = {:?} }}\n", package.name, folder(package));
    }
    manifest += own.find("\n[profile.").map_or("", |start| &own[start..]);
    manifest
}

/// Returns the name of the folder in a package.
fn folder(package: &Package) -> String {
    format!("{}-{}", package.name, package.version)
}

/// Finds what a published package lacks.
fn missing_in(package: &Package) -> Vec<String> {
    let name = &package.name;
    let mut missing = Vec::new();
    for file in FILES.iter().filter(|file| !package.directory.join(file).is_file()) {
        missing.push(format!("{name}: there is no {file}"));
    }
    if package.description.is_empty() {
        missing.push(format!("{name}: there is no description in Cargo.toml"));
    }
    if package.keywords.is_empty() {
        missing.push(format!("{name}: there are no keywords in Cargo.toml"));
    }
    missing
}

/// Returns a number that differs for different files in the packages.
fn hash(directory: &Path, packages: &[&Package]) -> Result<u64, Ended> {
    let mut hasher = DefaultHasher::new();
    for package in packages {
        let path = directory.join(folder(package));
        hash_directory(&path, &mut hasher).map_err(|error| failed(&path, &error))?;
    }
    Ok(hasher.finish())
}

fn hash_directory(directory: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let entries = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() { hash_directory(&path, hasher)? } else { hash_file(&path, hasher)? }
    }
    Ok(())
}

fn hash_file(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    path.hash(hasher);
    fs::read(path)?.hash(hasher);
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> Ended {
    Ended::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_description_keywords_and_files_is_found() {
        let package = Package { name: "a".to_owned(), ..Package::default() };
        assert_eq!(missing_in(&package).len(), FILES.len() + 2);
    }

    #[test]
    fn packages_meet_the_dependencies_of_each_other() {
        let package = |name: &str| Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            ..Package::default()
        };
        let own = "[workspace]\nmembers = [\"crates/*\"]\n\n[profile.dev]\ndebug = false\n";
        let expected = "[workspace]\nresolver = \"3\"\nmembers = [\"a-0.1.0\", \"b-0.1.0\"]\n\n\
            [patch.crates-io]\na = { path = \"a-0.1.0\" }\nb = { path = \"b-0.1.0\" }\n\n\
            [profile.dev]\ndebug = false\n";
        assert_eq!(manifest(&[&package("a"), &package("b")], own), expected);
    }
}

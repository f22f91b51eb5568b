//! Packages each crate as for a registry, and compiles what the package contains.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::metadata::{Metadata, Package};
use crate::peers;
use crate::step::{Ended, Outcome, Runner};

/// Files of each package.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let members = Metadata::read(runner)?.members;
    let published: Vec<_> = members.iter().filter(|member| member.is_published).collect();
    let missing: Vec<_> = published.iter().flat_map(|package| missing_in(package)).collect();
    if !missing.is_empty() {
        return Err(Ended::Failed(missing.join("\n    ")));
    }
    let target = target_for_content(runner.workspace(), &published)
        .map_err(|error| Ended::Failed(format!("cannot prepare target/xtask: {error}")))?;
    // Uncommitted changes are no reason to fail here.
    let mut package = runner.cargo(["package", "--locked", "--workspace", "--allow-dirty"]);
    for unpublished in members.iter().filter(|member| !member.is_published) {
        package.args(["--exclude", &unpublished.name]);
    }
    package.env("CARGO_TARGET_DIR", target);
    runner.command(package)
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

/// Returns a path to the target directory that differs for different contents of the packages.
///
/// Cargo compiles a package against the others from a registry below that path. It takes a version
/// of a registry for immutable, so the same path would bring the contents of an earlier run.
fn target_for_content(workspace: &Path, packages: &[&Package]) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hash_file(&workspace.join("Cargo.toml"), &mut hasher)?;
    for package in packages {
        hash_directory(&package.directory, &mut hasher)?;
    }
    let target = peers::target(workspace);
    let links = target.join("xtask/packages");
    fs::create_dir_all(&links)?;
    let link = links.join(format!("{:016x}", hasher.finish()));
    if !link.exists() {
        symlink(&target, &link)?;
    }
    Ok(link)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_description_keywords_and_files_is_found() {
        let package = Package { name: "a".to_owned(), ..Package::default() };
        assert_eq!(missing_in(&package).len(), FILES.len() + 2);
    }
}

//! Packages each crate as for a registry, and compiles what the package contains.

use crate::metadata::{Metadata, Package};
use crate::step::{Ended, Outcome, Runner};

/// Files of each package.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let members = Metadata::read(runner)?.members;
    let published = members.iter().filter(|member| member.is_published);
    let missing: Vec<_> = published.flat_map(missing_in).collect();
    if !missing.is_empty() {
        return Err(Ended::Failed(missing.join("\n    ")));
    }
    // Uncommitted changes are no reason to fail here.
    let package = runner.cargo(["package", "--locked", "--workspace", "--allow-dirty"]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_description_keywords_and_files_is_found() {
        let package = Package { name: "a".to_owned(), ..Package::default() };
        assert_eq!(missing_in(&package).len(), FILES.len() + 2);
    }
}

//! Finds dependencies that no source uses.
//!
//! The crate's name has to occur in the sources of the section that declares it: `src` without its
//! tests, all tests, benches and examples, or the build script. A dependency that only switches on
//! a feature is listed under `package.metadata.xtask.feature-only` of the manifest.

use std::fs;
use std::io;
use std::path::Path;

use crate::metadata::{Kind, Metadata, Package};
use crate::scan::scan;
use crate::step::{Ended, Outcome, Runner};

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    let metadata = Metadata::read(runner)?;
    let mut unused = Vec::new();
    for member in &metadata.members {
        let directory = &member.directory;
        let sources = Sources::read(directory)
            .map_err(|error| Ended::Failed(format!("{}: {error}", directory.display())))?;
        unused.extend(unused_in(member, &sources));
    }
    let manifest = runner.workspace().join("Cargo.toml");
    let manifest = fs::read_to_string(&manifest)
        .map_err(|error| Ended::Failed(format!("{}: {error}", manifest.display())))?;
    unused.extend(undeclared(&manifest, &metadata.members));
    if unused.is_empty() { Ok(()) } else { Err(Ended::Failed(unused.join("\n    "))) }
}

/// The words of a package's sources, by the section whose dependencies they may use.
#[derive(Debug, Default)]
struct Sources {
    normal: String,
    /// Tests, benches, examples and the examples in comments.
    dev: String,
    build: String,
}

impl Sources {
    fn read(package: &Path) -> io::Result<Self> {
        let mut sources = Self::default();
        sources.read_below(&package.join("src"), Self::add_library)?;
        for directory in ["tests", "benches", "examples"] {
            let add = |sources: &mut Self, text: &str| sources.dev += &scan(text).code.join("\n");
            sources.read_below(&package.join(directory), add)?;
        }
        let script = package.join("build.rs");
        if script.exists() {
            sources.build = scan(&fs::read_to_string(script)?).code.join("\n");
        }
        Ok(sources)
    }

    fn read_below(&mut self, directory: &Path, add: fn(&mut Self, &str)) -> io::Result<()> {
        if !directory.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                self.read_below(&path, add)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                add(self, &fs::read_to_string(path)?);
            }
        }
        Ok(())
    }

    /// Adds a file of `src`: its tests and the examples in its comments use other sections.
    fn add_library(&mut self, text: &str) {
        let scan = scan(text);
        let tests = scan.code.iter().position(|line| line == "#[cfg(test)]");
        let (code, tests) = scan.code.split_at(tests.unwrap_or(scan.code.len()));
        self.normal += &code.join("\n");
        self.dev += &tests.join("\n");
        for (_, line) in scan.comments.iter().flat_map(|block| &block.lines) {
            self.dev += line;
            self.dev.push('\n');
        }
    }
}

fn unused_in(package: &Package, sources: &Sources) -> Vec<String> {
    let mut unused = Vec::new();
    for dependency in &package.dependencies {
        let (section, source) = match dependency.kind {
            Kind::Normal => ("dependencies", &sources.normal),
            Kind::Dev => ("dev-dependencies", &sources.dev),
            Kind::Build => ("build-dependencies", &sources.build),
        };
        let name = &dependency.package;
        if package.feature_only.contains(name) || has_word(source, &dependency.crate_name) {
            continue;
        }
        unused.push(format!("{}: no source uses {name} of [{section}]", package.name));
    }
    unused
}

/// Finds entries of `[workspace.dependencies]` that no member declares.
fn undeclared(manifest: &str, members: &[Package]) -> Vec<String> {
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let entries = section.lines().take_while(|line| !line.starts_with('['));
    let names = entries.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let is_declared = |name: &str| {
        members.iter().any(|member| member.declared.iter().any(|declared| declared == name))
    };
    names
        .filter(|name| !name.starts_with('#') && !is_declared(name))
        .map(|name| format!("Cargo.toml: no member uses {name} of [workspace.dependencies]"))
        .collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| !(character.is_alphanumeric() || character == '_');
    text.split(is_part).any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(kind: Kind, feature_only: &[&str]) -> Package {
        let dependency =
            Dependency { package: "md-5".to_owned(), crate_name: "md5".to_owned(), kind };
        Package {
            name: "a".to_owned(),
            declared: vec!["md-5".to_owned()],
            dependencies: vec![dependency],
            feature_only: feature_only.iter().map(|name| (*name).to_owned()).collect(),
            ..Package::default()
        }
    }

    fn sources(library: &str) -> Sources {
        let mut sources = Sources::default();
        sources.add_library(library);
        sources
    }

    #[test]
    fn a_dependency_that_only_tests_and_comments_name_is_found() {
        let text = "// md5\nlet md5sum = \"md5\";\n#[cfg(test)]\nmod tests { use md5; }\n";
        let found = unused_in(&package(Kind::Normal, &[]), &sources(text));
        assert_eq!(found, ["a: no source uses md-5 of [dependencies]"]);
        assert!(unused_in(&package(Kind::Dev, &[]), &sources(text)).is_empty());
        assert!(unused_in(&package(Kind::Normal, &["md-5"]), &sources(text)).is_empty());
        assert!(unused_in(&package(Kind::Normal, &[]), &sources("use md5::Md5;\n")).is_empty());
    }

    #[test]
    fn an_entry_of_the_workspace_that_no_member_declares_is_found() {
        let manifest = "[workspace.dependencies]\n# A comment = 1\n\
            md-5 = \"1\"\nother = \"2\"\n\n[x]\ny = 1\n";
        let found = undeclared(manifest, &[package(Kind::Dev, &[])]);
        assert_eq!(found, ["Cargo.toml: no member uses other of [workspace.dependencies]"]);
    }
}

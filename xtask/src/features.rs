//! Compiles and lints each package without features, and with each of its features alone.

use std::collections::BTreeSet;

use crate::metadata::{Metadata, Package};
use crate::step::{Outcome, Runner};

const DEFAULT: &str = "default";

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    runner.need_component("clippy")?;
    // The step `clippy` checks packages without features.
    let members = Metadata::read(runner)?.members;
    for package in members.iter().filter(|package| !package.features.is_empty()) {
        for feature in selections(package) {
            let mut clippy = runner.cargo(["clippy", "--locked", "--no-default-features"]);
            // Examples need the dev-dependencies, whose features hide those that a package lacks.
            // Lints of the dependencies are the subject of their own turn.
            clippy.args(["--package", &package.name, "--lib", "--bins", "--no-deps"]);
            if let Some(feature) = feature {
                clippy.args(["--features", feature]);
            }
            clippy.args(["--", "-D", "warnings"]);
            runner.command(clippy)?;
        }
    }
    Ok(())
}

/// Returns no feature, then each one. Those that start with `_` are not for users, and `default` is
/// left out if another feature enables the same ones.
fn selections(package: &Package) -> Vec<Option<&str>> {
    let names = package.features.keys().map(String::as_str);
    let names = names.filter(|name| !name.starts_with('_'));
    let default = enabled_by(package, DEFAULT);
    let is_default = |name: &str| {
        let mut enabled = enabled_by(package, name);
        name != DEFAULT && enabled.insert(DEFAULT) && enabled == default
    };
    let is_same = names.clone().any(is_default);
    std::iter::once(None)
        .chain(names.filter(|name| *name != DEFAULT || !is_same).map(Some))
        .collect()
}

/// Returns the features of a package that a feature enables, itself included.
fn enabled_by<'p>(package: &'p Package, name: &'p str) -> BTreeSet<&'p str> {
    let mut found = BTreeSet::new();
    let mut next = vec![name];
    while let Some(name) = next.pop() {
        let Some(enabled) = package.features.get(name) else { continue };
        if found.insert(name) {
            next.extend(enabled.iter().map(String::as_str));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(features: &[(&str, &[&str])], expected: &[Option<&str>]) {
        let features = features.iter().map(|(name, enabled)| {
            ((*name).to_owned(), enabled.iter().copied().map(str::to_owned).collect())
        });
        let package = Package { features: features.collect(), ..Package::default() };
        assert_eq!(selections(&package), expected);
    }

    #[test]
    fn each_feature_is_selected_alone() {
        check(
            &[("_cloud", &["dep:client"]), ("default", &[]), ("s3", &["_cloud"])],
            &[None, Some("default"), Some("s3")],
        );
    }

    #[test]
    fn a_default_that_another_feature_enables_is_not_selected_again() {
        let fs: (&str, &[&str]) = ("fs", &["store/fs"]);
        let cli: (&str, &[&str]) = ("cli", &["dep:clap", "fs"]);
        check(&[cli, ("default", &["cli", "fs"]), fs], &[None, Some("cli"), Some("fs")]);
        check(
            &[("cli", &["dep:clap"]), ("default", &["cli", "fs"]), fs],
            &[None, Some("cli"), Some("default"), Some("fs")],
        );
    }
}

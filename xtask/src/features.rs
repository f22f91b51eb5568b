//! Compiles and lints each package without features, and with each of its features alone.

use std::collections::BTreeSet;

use crate::metadata::{Metadata, Package};
use crate::step::{Outcome, Runner};

const DEFAULT: &str = "default";

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    runner.need_component("clippy")?;
    // The step `clippy` checks packages without features.
    let members = Metadata::read(runner)?.members;
    let names: Vec<&str> = members.iter().map(|package| package.name.as_str()).collect();
    for package in members.iter().filter(|package| !package.features.is_empty()) {
        for features in selections(package, &names) {
            let mut clippy = runner.cargo(["clippy", "--locked", "--no-default-features"]);
            // Examples need the dev-dependencies, whose features hide those that a package lacks.
            // Lints of the dependencies are the subject of their own turn.
            clippy.args(["--package", &package.name, "--lib", "--bins", "--no-deps"]);
            if !features.is_empty() {
                clippy.args(["--features", &features.join(",")]);
            }
            clippy.args(["--", "-D", "warnings"]);
            runner.command(clippy)?;
        }
    }
    Ok(())
}

/// Returns no feature, then each one, then together those that only enable features of other
/// `members`, which check them one by one. Features that start with `_` are not for users.
/// `default` is left out if another feature enables the same ones, and all features are the subject
/// of the step `clippy`.
fn selections<'p>(package: &'p Package, members: &[&str]) -> Vec<Vec<&'p str>> {
    let names = || package.features.keys().map(String::as_str).filter(|it| !it.starts_with('_'));
    let default = enabled_by(package, DEFAULT);
    let is_default = names().any(|name| {
        let mut enabled = enabled_by(package, name);
        name != DEFAULT && enabled.insert(DEFAULT) && enabled == default
    });
    let is_all = |name: &str| {
        let mut enabled = enabled_by(package, name);
        enabled.insert(DEFAULT);
        names().count() > 2 && names().all(|name| enabled.contains(name))
    };
    let chosen = names().filter(|name| (*name != DEFAULT || !is_default) && !is_all(name));
    let (forwarding, own): (Vec<&str>, Vec<&str>) =
        chosen.partition(|name| only_forwards(package, name, members));
    let alone = own.into_iter().map(|name| vec![name]);
    let together = Some(forwarding).filter(|names| !names.is_empty());
    std::iter::once(Vec::new()).chain(alone).chain(together).collect()
}

/// Returns whether a feature enables nothing but features of other members.
fn only_forwards(package: &Package, name: &str, members: &[&str]) -> bool {
    let enabled = package.features.get(name).map_or(&[][..], Vec::as_slice);
    let of_member = |it: &String| it.split_once('/').is_some_and(|(of, _)| members.contains(&of));
    !enabled.is_empty() && enabled.iter().all(of_member)
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
    fn check(features: &[(&str, &[&str])], expected: &[&[&str]]) {
        let features = features.iter().map(|(name, enabled)| {
            ((*name).to_owned(), enabled.iter().copied().map(str::to_owned).collect())
        });
        let package = Package { features: features.collect(), ..Package::default() };
        assert_eq!(selections(&package, &["store", "sync"]), expected);
    }

    #[test]
    fn each_feature_is_selected_alone() {
        check(
            &[("_cloud", &["dep:client"]), ("default", &[]), ("s3", &["_cloud"])],
            &[&[], &["default"], &["s3"]],
        );
    }

    #[test]
    fn a_default_that_another_feature_enables_is_not_selected_again() {
        let fs: (&str, &[&str]) = ("fs", &["dep:fs"]);
        let cli: (&str, &[&str]) = ("cli", &["dep:clap", "fs"]);
        let s3: (&str, &[&str]) = ("s3", &["dep:s3"]);
        check(&[cli, ("default", &["cli", "fs"]), fs, s3], &[&[], &["cli"], &["fs"], &["s3"]]);
        check(
            &[("cli", &["dep:clap"]), ("default", &["cli", "fs"]), fs, s3],
            &[&[], &["cli"], &["default"], &["fs"], &["s3"]],
        );
    }

    #[test]
    fn features_of_other_members_are_selected_together_and_all_features_not() {
        let fs: (&str, &[&str]) = ("fs", &["store/fs"]);
        let s3: (&str, &[&str]) = ("s3", &["sync/s3", "store/s3"]);
        let cli: (&str, &[&str]) = ("cli", &["dep:clap", "fs"]);
        check(&[cli, fs, ("full", &["cli", "s3"]), s3], &[&[], &["cli"], &["fs", "s3"]]);
        check(&[("client", &["other/client"])], &[&[], &["client"]]);
    }
}

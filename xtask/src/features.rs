//! Compiles and lints each package without features, and with each of its features alone.

use crate::metadata::{Metadata, Package};
use crate::step::{Outcome, Runner};

pub(crate) fn check(runner: &mut Runner) -> Outcome {
    runner.need_component("clippy")?;
    // The step `clippy` checks packages without features.
    let members = Metadata::read(runner)?.members;
    for package in members.iter().filter(|package| !package.features.is_empty()) {
        for feature in selections(package) {
            let mut clippy = runner.cargo(["clippy", "--locked", "--no-default-features"]);
            clippy.args(["--package", &package.name, "--lib", "--bins", "--examples"]);
            if let Some(feature) = feature {
                clippy.args(["--features", feature]);
            }
            clippy.args(["--", "-D", "warnings"]);
            runner.command(clippy)?;
        }
    }
    Ok(())
}

/// Returns no feature, then each one; those that start with `_` are not for users.
fn selections(package: &Package) -> impl Iterator<Item = Option<&str>> {
    let features = package.features.iter().map(String::as_str);
    std::iter::once(None).chain(features.filter(|name| !name.starts_with('_')).map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_selected_alone() {
        let features = ["_cloud", "default", "s3"].map(str::to_owned).to_vec();
        let package = Package { features, ..Package::default() };
        let selected: Vec<_> = selections(&package).collect();
        assert_eq!(selected, [None, Some("default"), Some("s3")]);
    }
}

//! Packages of the workspace with their dependencies, from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::step::{Ended, Runner};

/// The workspace's members.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) members: Vec<Package>,
}

/// A package.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) keywords: Vec<String>,
    /// Folder of the manifest.
    pub(crate) directory: PathBuf,
    /// Features, each with what it enables.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) is_published: bool,
    /// Declared dependencies, each by package name.
    pub(crate) declared: Vec<String>,
    /// Resolved dependencies.
    pub(crate) dependencies: Vec<Dependency>,
    /// Dependencies that no source names: `package.metadata.xtask.feature-only`.
    pub(crate) feature_only: Vec<String>,
}

/// A dependency of a package, once for each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) package: String,
    /// The name by which Rust code uses it.
    pub(crate) crate_name: String,
    pub(crate) kind: Kind,
}

/// The section of a manifest that declares a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Metadata {
    /// Asks cargo.
    pub(crate) fn read(runner: &Runner) -> Result<Self, Ended> {
        let mut metadata = runner.cargo(["metadata", "--locked", "--format-version", "1"]);
        metadata.args(["--all-features", "--filter-platform", "x86_64-unknown-linux-gnu"]);
        let output = runner.output(metadata)?;
        let document = serde_json::from_str(&output)
            .map_err(|error| Ended::Failed(format!("cargo metadata prints no JSON: {error}")))?;
        Ok(Self::of(&document))
    }

    fn of(document: &Value) -> Self {
        let members = texts(&document["workspace_members"]);
        let nodes = list(&document["resolve"]["nodes"]);
        let packages = list(&document["packages"]);
        let name_of = |id: &str| {
            let package = packages.iter().find(|package| text(&package["id"]) == id);
            package.map_or_else(String::new, |package| text(&package["name"]).to_owned())
        };
        let mut own = Vec::new();
        for node in nodes {
            let id = text(&node["id"]);
            if !members.iter().any(|member| member == id) {
                continue;
            }
            let Some(found) = packages.iter().find(|package| text(&package["id"]) == id) else {
                continue;
            };
            let mut package = package(found);
            for dependency in list(&node["deps"]) {
                let name = name_of(text(&dependency["pkg"]));
                let crate_name = text(&dependency["name"]);
                for kind in list(&dependency["dep_kinds"]) {
                    let dependency = Dependency {
                        package: name.clone(),
                        crate_name: crate_name.to_owned(),
                        kind: kind_of(text(&kind["kind"])),
                    };
                    if !package.dependencies.contains(&dependency) {
                        package.dependencies.push(dependency);
                    }
                }
            }
            own.push(package);
        }
        Self { members: own }
    }
}

fn package(found: &Value) -> Package {
    let manifest = PathBuf::from(text(&found["manifest_path"]));
    let features = found["features"].as_object();
    let declared = list(&found["dependencies"]).iter();
    Package {
        name: text(&found["name"]).to_owned(),
        version: text(&found["version"]).to_owned(),
        description: text(&found["description"]).to_owned(),
        keywords: texts(&found["keywords"]),
        directory: manifest.parent().map(PathBuf::from).unwrap_or_default(),
        features: features
            .into_iter()
            .flatten()
            .map(|(name, enabled)| (name.clone(), texts(enabled)))
            .collect(),
        // `publish = false` is an empty list of registries.
        is_published: found["publish"].is_null(),
        declared: declared.map(|dependency| text(&dependency["name"]).to_owned()).collect(),
        dependencies: Vec::new(),
        feature_only: texts(&found["metadata"]["xtask"]["feature-only"]),
    }
}

/// Returns a text, which is empty for other kinds of values.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the elements of a list. Other kinds of values have none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the texts of a list.
fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(|value| text(value).to_owned()).collect()
}

fn kind_of(kind: &str) -> Kind {
    match kind {
        "dev" => Kind::Dev,
        "build" => Kind::Build,
        _ => Kind::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{
        "packages": [
            {"id": "a#1", "name": "a", "version": "0.1.0", "license": "MIT", "publish": [],
             "manifest_path": "/w/a/Cargo.toml", "features": {"default": [], "x": ["dep:md-5"]},
             "metadata": {"xtask": {"feature-only": ["b"]}}, "dependencies": [{"name": "md-5"}]},
            {"id": "r#2", "name": "md-5", "version": "2.0.0", "license": "MIT", "publish": null,
             "manifest_path": "/r/md-5/Cargo.toml", "features": {}, "metadata": null,
             "dependencies": []}
        ],
        "workspace_members": ["a#1"],
        "resolve": {"nodes": [
            {"id": "a#1", "deps": [{"name": "md5", "pkg": "r#2",
             "dep_kinds": [{"kind": null, "target": null}, {"kind": "dev", "target": null}]}]},
            {"id": "r#2", "deps": []}
        ]}
    }"#;

    #[test]
    fn packages_have_their_features_and_dependencies() {
        let metadata = Metadata::of(&serde_json::from_str(DOCUMENT).unwrap());
        let [member] = &metadata.members[..] else { panic!("{metadata:?}") };
        assert_eq!((member.name.as_str(), member.is_published), ("a", false));
        let features = [("default", vec![]), ("x", vec!["dep:md-5".to_owned()])];
        assert_eq!(member.features, features.map(|(name, on)| (name.to_owned(), on)).into());
        assert_eq!(member.feature_only, ["b"]);
        let dependency =
            |kind| Dependency { package: "md-5".to_owned(), crate_name: "md5".to_owned(), kind };
        assert_eq!(member.dependencies, [dependency(Kind::Normal), dependency(Kind::Dev)]);
    }
}

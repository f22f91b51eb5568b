//! Packages of the workspace with their dependencies, from `cargo metadata`.

use std::path::PathBuf;

use crate::json::Json;
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
    pub(crate) description: String,
    pub(crate) keywords: Vec<String>,
    /// Folder of the manifest.
    pub(crate) directory: PathBuf,
    pub(crate) features: Vec<String>,
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
        let document = Json::parse(&output)
            .ok_or_else(|| Ended::Failed("cargo metadata prints no JSON".to_owned()))?;
        Ok(Self::of(&document))
    }

    fn of(document: &Json) -> Self {
        let members = document.at(&["workspace_members"]).texts();
        let nodes = document.at(&["resolve", "nodes"]).list();
        let packages = document.at(&["packages"]).list();
        let name_of = |id: &str| {
            let package = packages.iter().find(|package| package.at(&["id"]).text() == id);
            package.map_or_else(String::new, |package| package.at(&["name"]).text().to_owned())
        };
        let mut own = Vec::new();
        for node in nodes {
            let id = node.at(&["id"]).text();
            if !members.iter().any(|member| member == id) {
                continue;
            }
            let Some(found) = packages.iter().find(|package| package.at(&["id"]).text() == id)
            else {
                continue;
            };
            let mut package = package(found);
            for dependency in node.at(&["deps"]).list() {
                let name = name_of(dependency.at(&["pkg"]).text());
                let crate_name = dependency.at(&["name"]).text();
                for kind in dependency.at(&["dep_kinds"]).list() {
                    let dependency = Dependency {
                        package: name.clone(),
                        crate_name: crate_name.to_owned(),
                        kind: kind_of(kind.at(&["kind"]).text()),
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

fn package(found: &Json) -> Package {
    let text = |key: &str| found.at(&[key]).text().to_owned();
    let manifest = PathBuf::from(text("manifest_path"));
    let features = found.at(&["features"]).entries();
    Package {
        name: text("name"),
        description: text("description"),
        keywords: found.at(&["keywords"]).texts(),
        directory: manifest.parent().map(PathBuf::from).unwrap_or_default(),
        features: features.iter().map(|(name, _)| name.clone()).collect(),
        // `publish = false` is an empty list of registries.
        is_published: found.at(&["publish"]) == &Json::Null,
        declared: found
            .at(&["dependencies"])
            .list()
            .iter()
            .map(|dependency| dependency.at(&["name"]).text().to_owned())
            .collect(),
        dependencies: Vec::new(),
        feature_only: found.at(&["metadata", "xtask", "feature-only"]).texts(),
    }
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
        let metadata = Metadata::of(&Json::parse(DOCUMENT).unwrap());
        let [member] = &metadata.members[..] else { panic!("{metadata:?}") };
        assert_eq!((member.name.as_str(), member.is_published), ("a", false));
        assert_eq!(member.features, ["default", "x"]);
        assert_eq!(member.feature_only, ["b"]);
        let dependency =
            |kind| Dependency { package: "md-5".to_owned(), crate_name: "md5".to_owned(), kind };
        assert_eq!(member.dependencies, [dependency(Kind::Normal), dependency(Kind::Dev)]);
    }
}

//! Random policies on random trees: the compiled mounts, `explain` and a plain oracle say the same
//! of every path.

use std::path::{Path, PathBuf};

use policy::{Access, MountOptions, NodeKind, Policy, SandboxRuntimeConfig, Tree};
use proptest::prelude::*;

use crate::model::Model;

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")))
}

fn leaf() -> impl Strategy<Value = String> {
    (
        path(),
        prop::sample::select(vec![
            "f",
            ".git/hooks/x",
            ".git/config",
            ".git/index",
            ".bashrc",
            ".vscode/s",
        ]),
    )
        .prop_map(|(dir, leaf)| format!("{dir}/{leaf}"))
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(path(), 0..4)
}

#[derive(Clone, Debug)]
struct Case {
    deny_read: Vec<String>,
    allow_read: Vec<String>,
    allow_write: Vec<String>,
    deny_write: Vec<String>,
    tree: Model,
}

fn case() -> impl Strategy<Value = Case> {
    (paths(), paths(), paths(), paths(), prop::collection::vec(leaf(), 1..12)).prop_map(
        |(deny_read, allow_read, allow_write, deny_write, leaves)| {
            let tree = leaves.iter().fold(Model::default().dir("/"), |tree, leaf| tree.file(leaf));
            Case { deny_read, allow_read, allow_write, deny_write, tree }
        },
    )
}

impl Case {
    fn policy(&self) -> Policy {
        let mut config = SandboxRuntimeConfig::default();
        config.filesystem.deny_read.clone_from(&self.deny_read);
        config.filesystem.allow_read = Some(self.allow_read.clone());
        config.filesystem.allow_write.clone_from(&self.allow_write);
        config.filesystem.deny_write.clone_from(&self.deny_write);
        Policy::from_config(config, Path::new("/root")).unwrap()
    }

    /// Walks from the root to the path; each rule on the way changes what holds from there on.
    fn oracle(&self, path: &Path) -> (bool, bool) {
        let has = |list: &[String], at: &Path| list.iter().any(|entry| Path::new(entry) == at);
        let (mut shown, mut writable, mut refused) = (true, false, false);
        let mut ways: Vec<&Path> = path.ancestors().collect();
        ways.reverse();
        for at in ways {
            if has(&self.deny_read, at) {
                (shown, writable) = (false, false);
            }
            if has(&self.allow_read, at) || has(&self.allow_write, at) {
                shown = true;
            }
            writable |= has(&self.allow_write, at);
            refused |= has(&self.deny_write, at);
        }
        for root in self.allow_write.iter().filter_map(|root| path.strip_prefix(root).ok()) {
            let text = format!("/{}/", root.display());
            refused |= text.contains("/.git/hooks/") || text.contains("/.git/config/");
            let in_git = text.find("/.git/").unwrap_or(text.len());
            refused |= ["/.bashrc/", "/.vscode/"]
                .iter()
                .any(|name| text.find(name).is_some_and(|at| at < in_git));
        }
        (shown, shown && writable && !refused)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1500)))]

    #[test]
    fn mounts_explain_and_the_oracle_agree_path_by_path(case in case()) {
        let policy = case.policy();
        let plan = policy.mounts(&case.tree, &MountOptions::default()).unwrap();
        for path in case.tree.paths().filter(|path| *path != Path::new("/")) {
            let expected = case.oracle(path);
            let explained = [Access::Read, Access::Write].map(|access| policy.explain(path, access).allowed);
            prop_assert_eq!((explained[0], explained[1]), expected, "explain of {}", path.display());
            let mounted = [Access::Read, Access::Write].map(|access| plan.allows(path, access));
            prop_assert_eq!((mounted[0], mounted[1]), expected, "mounts of {}: {:?}", path.display(), plan.ops);
        }
    }

    #[test]
    fn an_allow_list_opens_what_the_mounts_show_and_names_the_rest(case in case()) {
        let plan = case.policy().mounts(&case.tree, &MountOptions::default()).unwrap();
        let list = plan.allow_list(&case.tree, &[]).unwrap();
        for path in case.tree.paths() {
            let is_file = case.tree.kind(path).unwrap() == Some(NodeKind::File);
            let is_under = |paths: &[PathBuf]| paths.iter().any(|above| path.starts_with(above));
            for access in [Access::Read, Access::Write] {
                let (mounted, listed) = (plan.allows(path, access), list.allows(path, access));
                let is_named = is_under(&list.uncovered) || (!is_file && list.unlistable.iter().any(|at| at == path));
                prop_assert!(mounted == listed || is_named, "{} {access:?}: {mounted} by mounts, {listed} by {list:?}", path.display());
                // Without a name nothing is ever opened that the mounts would close.
                prop_assert!(mounted || !listed || is_under(&list.uncovered), "{}: {list:?}", path.display());
            }
        }
    }

    #[test]
    fn the_order_of_a_list_changes_nothing(case in case()) {
        let mut turned = case.clone();
        for list in [&mut turned.deny_read, &mut turned.allow_read, &mut turned.allow_write, &mut turned.deny_write] {
            list.reverse();
        }
        let ops = |case: &Case| case.policy().mounts(&case.tree, &MountOptions::default()).unwrap().ops;
        prop_assert_eq!(ops(&case), ops(&turned));
    }

    #[test]
    fn the_parents_of_what_is_protected_cannot_be_renamed(case in case()) {
        let plan = case.policy().mounts(&case.tree, &MountOptions::default()).unwrap();
        let mount_points: Vec<PathBuf> = plan.ops.iter().filter_map(|op| op.path().map(Path::to_owned)).collect();
        let writable = |path: &Path| plan.allows(path, Access::Write);
        for inner in &mount_points {
            for above in inner.ancestors().skip(1).filter(|above| above.parent().is_some_and(writable) && writable(above)) {
                prop_assert!(mount_points.iter().any(|point| point == above), "{} above {}", above.display(), inner.display());
            }
        }
    }
}

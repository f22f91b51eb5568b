//! Property tests: on random trees, the mounts of random policies, `explain` and a simple oracle
//! agree about every path.

use std::path::Path;

use policy::{
    Access, MountOp, MountOptions, MountPlan, NodeKind, PathEntry, Policy, SandboxRuntimeConfig,
    Tree,
};
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
        let entries = |list: &[String]| list.iter().cloned().map(PathEntry::from).collect();
        config.filesystem.deny_read = entries(&self.deny_read);
        config.filesystem.allow_read = Some(entries(&self.allow_read));
        config.filesystem.allow_write = entries(&self.allow_write);
        config.filesystem.deny_write = entries(&self.deny_write);
        Policy::from_config(config, Path::new("/root")).unwrap()
    }

    /// Returns whether a path is readable and writable. It walks from the root to the path; each
    /// rule on the way changes the state of everything below.
    fn oracle(&self, path: &Path) -> (bool, bool) {
        let has = |list: &[String], at: &Path| list.iter().any(|entry| Path::new(entry) == at);
        let (mut shown, mut writable, mut denied) = (true, false, false);
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for at in ancestors {
            if has(&self.deny_read, at) {
                (shown, writable) = (false, false);
            }
            if has(&self.allow_read, at) || has(&self.allow_write, at) {
                shown = true;
            }
            writable |= has(&self.allow_write, at);
            denied |= has(&self.deny_write, at);
        }
        for root in self.allow_write.iter().filter_map(|root| path.strip_prefix(root).ok()) {
            let text = format!("/{}/", root.display());
            denied |= text.contains("/.git/hooks/") || text.contains("/.git/config/");
            let in_git = text.find("/.git/").unwrap_or(text.len());
            denied |= ["/.bashrc/", "/.vscode/"]
                .iter()
                .any(|name| text.find(name).is_some_and(|at| at < in_git));
        }
        (shown, shown && writable && !denied)
    }
}

/// Number of cases; `PROPTEST_CASES` overrides it.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(1500))
}

fn compile(case: &Case) -> MountPlan {
    case.policy().mounts(&case.tree, &MountOptions::default()).unwrap()
}

fn check_plan_against_the_oracle(case: &Case) -> Result<(), TestCaseError> {
    let (policy, plan) = (case.policy(), compile(case));
    // `explain` cannot tell a git directory from a pointer, which is read-only.
    let is_skipped = |path: &&Path| *path == Path::new("/") || path.ends_with(".git");
    for path in case.tree.paths().filter(|path| !is_skipped(path)) {
        let expected = case.oracle(path);
        let [read, write] =
            [Access::Read, Access::Write].map(|access| policy.explain(path, access).allowed);
        prop_assert_eq!((read, write), expected, "explain of {}", path.display());
        let [read, write] = [Access::Read, Access::Write].map(|access| plan.allows(path, access));
        prop_assert_eq!((read, write), expected, "mounts of {}: {:?}", path.display(), plan.ops);
    }
    Ok(())
}

fn check_list_against_the_plan(case: &Case) -> Result<(), TestCaseError> {
    let plan = compile(case);
    let list = plan.allow_list(&case.tree, &[]).unwrap();
    for path in case.tree.paths() {
        let is_file = case.tree.kind(path).unwrap() == Some(NodeKind::File);
        let is_uncovered = list.uncovered.iter().any(|above| path.starts_with(above));
        let is_unlistable = !is_file && list.unlistable.iter().any(|dir| dir == path);
        for access in [Access::Read, Access::Write] {
            let (mounted, listed) = (plan.allows(path, access), list.allows(path, access));
            prop_assert!(
                mounted == listed || is_uncovered || is_unlistable,
                "{} {access:?}: {mounted} by mounts, {listed} by {list:?}",
                path.display()
            );
            // The list opens a path that the mounts close only if it reports the path.
            prop_assert!(mounted || !listed || is_uncovered, "{}: {list:?}", path.display());
        }
    }
    Ok(())
}

fn check_anchors(case: &Case) -> Result<(), TestCaseError> {
    let plan = compile(case);
    let mount_points: Vec<&Path> = plan.ops.iter().filter_map(MountOp::path).collect();
    let is_writable = |path: &Path| plan.allows(path, Access::Write);
    for inner in &mount_points {
        for above in inner.ancestors().skip(1) {
            if is_writable(above) && above.parent().is_some_and(is_writable) {
                prop_assert!(
                    mount_points.contains(&above),
                    "{} above {}",
                    above.display(),
                    inner.display()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mounts_explain_and_the_oracle_agree_about_every_path(case in case()) {
        check_plan_against_the_oracle(&case)?;
    }

    #[test]
    fn an_allow_list_opens_the_paths_of_the_mounts_and_reports_the_others(case in case()) {
        check_list_against_the_plan(&case)?;
    }

    #[test]
    fn the_order_of_a_list_has_no_effect(case in case()) {
        let mut reversed = case.clone();
        reversed.deny_read.reverse();
        reversed.allow_read.reverse();
        reversed.allow_write.reverse();
        reversed.deny_write.reverse();
        prop_assert_eq!(compile(&case).ops, compile(&reversed).ops);
    }

    #[test]
    fn the_parents_of_protected_paths_cannot_be_renamed(case in case()) {
        check_anchors(&case)?;
    }
}

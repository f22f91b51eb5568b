//! Property tests: on random trees, the mounts of random policies, `explain` and a simple oracle
//! agree about every path. Rules are paths and patterns, and some names look like patterns.

use std::path::{Path, PathBuf};

use policy::{
    Access, MountOp, MountOptions, MountPlan, NodeKind, PathEntry, Policy, SandboxRuntimeConfig,
    Tree,
};
use proptest::prelude::*;

use crate::model::Model;

/// The directory that a session may see empty instead of the host's.
const PRIVATE: &str = "/c";

fn below(names: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let first = prop::sample::select(vec!["a", "b", "c"]);
    let names = prop::collection::vec(prop::sample::select(names.to_vec()), 0..3);
    (first, names)
        .prop_map(|(first, names)| format!("/{}", [&[first], &names[..]].concat().join("/")))
}

fn path() -> impl Strategy<Value = String> {
    below(&["a", "b", "c", "[ab]"])
}

fn rule() -> impl Strategy<Value = String> {
    prop_oneof![2 => path(), 1 => below(&["a", "b", "[ab]", "*", "?", "**"])]
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
            ".claude/commands/s",
            ".claude/s",
        ]),
    )
        .prop_map(|(dir, leaf)| format!("{dir}/{leaf}"))
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(rule(), 0..4)
}

/// Returns whether a rule matches a path, with every choice tried.
fn matches(rule: &str, path: &Path) -> bool {
    fn rest_matches(rule: &[&str], path: &[&str], may_be_names: bool) -> bool {
        let Some((first, after)) = rule.split_first() else { return path.is_empty() };
        if *first == "**" {
            return (0..=path.len()).any(|at| rest_matches(after, &path[at..], may_be_names));
        }
        let Some((name, below)) = path.split_first() else { return false };
        let is_set = *first == "[ab]";
        let is_match = match *first {
            "*" => true,
            "?" | "[ab]" => name.len() == 1 && (!is_set || "ab".contains(name)),
            exact => exact == *name,
        };
        // After a set that is read as a pattern, another one is no name.
        (is_match && rest_matches(after, below, may_be_names && !is_set))
            || (is_set && may_be_names && first == name && rest_matches(after, below, true))
    }
    let split = |text| str::split(text, '/').skip(1).filter(|part| !part.is_empty()).collect();
    let rule: Vec<&str> = split(rule.trim_end_matches("/**"));
    let path: Vec<&str> = split(path.to_str().unwrap());
    rest_matches(&rule, &path, true)
}

#[derive(Clone, Debug)]
struct Case {
    deny_read: Vec<String>,
    allow_read: Vec<String>,
    allow_write: Vec<String>,
    deny_write: Vec<String>,
    private: Vec<PathBuf>,
    tree: Model,
}

fn case() -> impl Strategy<Value = Case> {
    let lists = (rules(), rules(), rules(), rules());
    (lists, prop::collection::vec(leaf(), 1..12), any::<bool>()).prop_map(
        |((deny_read, allow_read, allow_write, deny_write), leaves, has_private)| {
            let tree = leaves.iter().fold(Model::default().dir("/"), |tree, leaf| tree.file(leaf));
            let private = has_private.then(|| PRIVATE.into()).into_iter().collect();
            let tree = if has_private { tree.dir(PRIVATE) } else { tree };
            Case { deny_read, allow_read, allow_write, deny_write, private, tree }
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
        let policy = Policy::from_config(config, Path::new("/root")).unwrap();
        policy.with_private(self.private.clone())
    }

    /// Returns whether a path is readable and writable. It walks from the root to the path; each
    /// rule on the way changes the state of everything below.
    fn oracle(&self, path: &Path) -> (bool, bool) {
        let has = |list: &[String], at: &Path| list.iter().any(|rule| matches(rule, at));
        let (mut shown, mut writable, mut denied, mut is_private) = (true, false, false, false);
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for at in ancestors {
            let is_written = has(&self.allow_write, at);
            let is_opened = is_written || has(&self.allow_read, at);
            if is_opened && is_private {
                (shown, writable, is_private) = (true, false, false);
            }
            is_private |= !is_opened && self.private.iter().any(|dir| dir == at);
            if has(&self.deny_read, at) {
                (shown, writable) = (false, false);
            }
            shown |= is_opened;
            writable |= is_written;
            denied |= has(&self.deny_write, at);
        }
        if is_private {
            return (true, true);
        }
        let roots = || path.ancestors().filter(|above| has(&self.allow_write, above));
        denied |= roots().all(|root| self.is_protected_match(root));
        for root in roots().filter(|root| !self.is_protected_match(root)) {
            denied |= is_protected(root, path);
        }
        (shown, shown && writable && !denied)
    }
}

impl Case {
    /// Returns whether patterns match a protected name as a writable path. It does not
    /// count a git directory, or an entry for this very path.
    fn is_protected_match(&self, root: &Path) -> bool {
        let is_pattern = |rule: &&String| rule.contains(['*', '?', '[']);
        let mut bases = self.allow_write.iter().filter(is_pattern).filter_map(|rule| {
            let is_name = |name: &&str| !name.contains(['*', '?', '[']);
            let names = rule.split('/').skip(1).take_while(is_name);
            let base = Path::new("/").join(names.collect::<PathBuf>());
            root.ancestors().any(|above| matches(rule, above)).then_some(base)
        });
        let is_named = self
            .allow_write
            .iter()
            .any(|rule| !is_pattern(&rule) && Path::new(rule.trim_end_matches("/**")) == root);
        !is_named && bases.any(|base| is_protected(&base, root))
    }
}

/// Returns whether a name between the writable directory `root` and `path` is protected.
fn is_protected(root: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(root).unwrap();
    let git = if root.ends_with(".git") { "/.git" } else { "" };
    let text = format!("{git}/{}/", below.display());
    let in_git = text.find("/.git/").unwrap_or(text.len());
    let claude = if root.ends_with(".claude") { "/.claude" } else { "" };
    let names = format!("{claude}{text}");
    text.contains("/.git/hooks/")
        || text.contains("/.git/config/")
        || ["/.bashrc/", "/.vscode/", "/.claude/commands/"]
            .iter()
            .any(|name| names.find(name).is_some_and(|at| at < in_git + claude.len()))
}

/// Number of cases; `PROPTEST_CASES` overrides it.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(1500))
}

fn compile(case: &Case) -> MountPlan {
    case.policy()
        .mounts(
            &case.tree,
            &MountOptions { private: case.private.clone(), ..MountOptions::default() },
        )
        .unwrap()
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
    // What a private directory contains is not the host's.
    let is_private = |path: &Path| case.private.iter().any(|dir| path.starts_with(dir));
    let is_writable = |path: &Path| plan.allows(path, Access::Write) && !is_private(path);
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

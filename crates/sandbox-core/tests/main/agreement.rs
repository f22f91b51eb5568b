//! Random policies on random trees in a real sandbox: commands can access exactly the paths that
//! the policy allows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use policy::{Access, PathEntry, Policy, Rule, SandboxRuntimeConfig};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use sandbox_core::{NativeSandbox, Quarantined, Sandbox, Tier, Weakness};

use crate::fixture::{
    NO_DIRECTORY_IN_SIGHT, directory_in_sight, repetitions, spec, without_namespaces,
};
use testkit::skipped;

/// Number of random policies. Each takes a session and a command.
const CASES: usize = 120;
const CONTENT: &str = "content";

/// Files and rules: lists of paths below the root of the tree.
#[derive(Clone, Debug)]
struct Case {
    files: Vec<String>,
    lists: [Vec<String>; 4],
}

const NAMES: [&str; 9] = ["a", "b", "c", "[ab]", ".git", "hooks", "config", ".bashrc", ".vscode"];

/// Generates paths of few names, so that rules match files. Some names are protected, and one looks
/// like a pattern.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..5)
        .prop_map(|names| names.join("/"))
}

/// Generates a path or a pattern.
fn rule() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => prop::sample::select(NAMES.to_vec()),
        2 => prop::sample::select(vec!["*", "?", "**", ".*", "[!b]"]),
    ];
    let pattern = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    prop_oneof![2 => path(), 1 => pattern]
}

fn is_pattern(rule: &Path) -> bool {
    rule.to_str().unwrap().contains(['*', '?', '['])
}

fn case() -> impl Strategy<Value = Case> {
    let list = || prop::collection::vec(rule(), 0..4);
    let lists = (list(), list(), prop::collection::vec(rule(), 1..4), list());
    (prop::collection::vec(path(), 3..14), lists).prop_map(
        |(files, (hidden, shown, writable, protected))| Case {
            files,
            lists: [hidden, shown, writable, protected],
        },
    )
}

impl Case {
    /// Creates the files, except paths below another file. Paths of rules exist; patterns may match
    /// nothing.
    fn create(&self, root: &Path) -> (Vec<PathBuf>, SandboxRuntimeConfig) {
        let mut created = Vec::new();
        for file in &self.files {
            let path = root.join(file);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(&path, CONTENT).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
                created.push(path);
            }
        }
        let rules = |list: &[String]| -> Vec<PathEntry> {
            // `dir/**` is the same as `dir`.
            let paths = list.iter().map(|path| root.join(path.trim_end_matches("/**")));
            let paths = paths.filter(|path| is_pattern(path) || path.exists());
            paths.map(|path| path.to_str().unwrap().into()).collect()
        };
        let mut config = SandboxRuntimeConfig::default();
        let [hidden, shown, writable, protected] = &self.lists;
        config.filesystem.deny_read = rules(hidden);
        config.filesystem.allow_read = Some(rules(shown));
        config.filesystem.allow_write = rules(writable);
        config.filesystem.deny_write = rules(protected);
        (created, config)
    }
}

/// Prints for each file of `FILES`: `r` if its content can be read, `w` if it can be written.
const CHECK: &str = "for file in FILES; do r=-; w=-; \
                     { read -r content < \"$file\" || [ -n \"$content\" ]; } 2>/dev/null && \
                     [ \"$content\" = content ] && r=r; \
                     { : >> \"$file\"; } 2>/dev/null && w=w; echo $r$w; content=; done";

async fn check(sandbox: &NativeSandbox, files: &[PathBuf]) -> (Vec<String>, Vec<Quarantined>) {
    let files: Vec<String> = files.iter().map(|file| format!("'{}'", file.display())).collect();
    let ran = sandbox.exec(spec(&CHECK.replace("FILES", &files.join(" ")))).await.unwrap();
    let found = String::from_utf8_lossy(&ran.stdout.bytes).lines().map(str::to_owned).collect();
    (found, ran.quarantined)
}

#[tokio::test]
async fn commands_can_access_exactly_the_allowed_paths() {
    let mut runner = TestRunner::new(Config::default());
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..repetitions(CASES) {
        let case = case().new_tree(&mut runner).unwrap().current();
        let Some(temporary) = directory_in_sight() else {
            return skipped("random policies in a real sandbox", NO_DIRECTORY_IN_SIGHT);
        };
        let root = temporary.path().canonicalize().unwrap();
        let (files, config) = case.create(&root);
        let policy = Policy::from_config(config, Path::new("/nonexistent")).unwrap();
        // Commands can start in any visible directory.
        let tier = if without_namespaces() {
            Tier::Landlock { accepted: vec![Weakness::InnerRules] }
        } else {
            Tier::Namespaces
        };
        let sandbox = NativeSandbox::builder(&policy, "/usr").tier(tier).open().unwrap();
        let (found, quarantined) = check(&sandbox, &files).await;
        let expected: Vec<String> = files
            .iter()
            .map(|file| {
                let letter_if = |access, letter| {
                    if policy.explain(file, access).allowed { letter } else { "-" }
                };
                format!("{}{}", letter_if(Access::Read, "r"), letter_if(Access::Write, "w"))
            })
            .collect();
        let names: Vec<&Path> =
            files.iter().map(|file| file.strip_prefix(&root).unwrap()).collect();
        let mut enforced = expected.clone();
        if without_namespaces() {
            // Rules inside a writable directory do not hold, which is the accepted weakness.
            let mut listed = SandboxRuntimeConfig::default();
            listed.filesystem.allow_write = policy.config().filesystem.allow_write.clone();
            let listed = Policy::from_config(listed, Path::new("/nonexistent")).unwrap();
            let is_writable = |file: &Path| {
                let rule = listed.explain(file, Access::Write).rule;
                !matches!(rule, Rule::Unlisted { .. })
            };
            for ((file, expected), found) in files.iter().zip(&mut enforced).zip(&found) {
                if is_writable(file) && found.starts_with('r') {
                    expected.clone_from(found);
                }
            }
        }
        assert_eq!(found, enforced, "case {number}: {names:?} under {:?}", case.lists);
        assert_eq!(quarantined, [], "case {number}: {names:?} under {:?}", case.lists);
        let by_mounts = |file: &PathBuf| {
            (sandbox.allows(file, Access::Read), sandbox.allows(file, Access::Write))
        };
        let mounted: Vec<(bool, bool)> = files.iter().map(by_mounts).collect();
        let explained =
            expected.iter().map(|verdict| (verdict.starts_with('r'), verdict.ends_with('w')));
        assert_eq!(
            mounted,
            explained.collect::<Vec<_>>(),
            "case {number}: {names:?} under {:?}",
            case.lists
        );
        // Hidden files are unchanged.
        assert!(files.iter().all(|file| fs::read_to_string(file).unwrap() == CONTENT));
        seen.extend(found);
        sandbox.close().await;
    }
    // The few cases of an emulated machine may miss an answer.
    if repetitions(CASES) == CASES {
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        assert_eq!(seen, ["--", "r-", "rw"], "every answer occurred");
    }
}

//! Random policies on random trees in a real sandbox: commands can access exactly the paths that
//! the policy allows.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
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

/// Files, symlinks with their targets, and rules: lists of paths below the root of the tree.
#[derive(Clone, Debug)]
struct Case {
    files: Vec<String>,
    links: Vec<(String, String)>,
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
    let links = prop::collection::vec((path(), path()), 0..4);
    (prop::collection::vec(path(), 3..14), links, lists).prop_map(
        |(files, links, (hidden, shown, writable, protected))| Case {
            files,
            links,
            lists: [hidden, shown, writable, protected],
        },
    )
}

impl Case {
    /// Creates the files, except paths below another file, and the symlinks to them and to
    /// directories. Returns the files, also by their paths through symlinks. Paths of rules exist;
    /// patterns may match nothing.
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
        // A link that another one replaces leads nowhere.
        for (link, target) in &self.links {
            let (link, target) = (root.join(link), root.join(target));
            if target.exists() && link.parent().unwrap().is_dir() && !link.exists() {
                let _ = symlink(&target, &link);
                let inside = created.iter().filter_map(|file| file.strip_prefix(&target).ok());
                let through = inside.map(|rest| link.join(rest)).filter(|path| path.is_file());
                created.extend(through.collect::<Vec<_>>());
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
                    if sandbox.explain(file, access).allowed { letter } else { "-" }
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
                let tier = Tier::Namespaces;
                let verdict = NativeSandbox::explain_policy(&listed, &tier, file, Access::Write);
                !matches!(verdict.unwrap().rule, Rule::Unlisted { .. })
            };
            for ((file, expected), found) in files.iter().zip(&mut enforced).zip(&found) {
                if is_writable(file) && found.starts_with('r') {
                    expected.clone_from(found);
                }
            }
        }
        assert_eq!(found, enforced, "case {number}: {names:?} in {case:?}");
        assert_eq!(quarantined, [], "case {number}: {names:?} in {case:?}");
        // The mounts decide about canonical paths.
        for (file, expected) in files.iter().zip(&expected) {
            let opened = sandbox.explain(file, Access::Write).rule;
            // The plan has no entry for the weakness that the tier accepts.
            if file.canonicalize().unwrap() == *file && !matches!(opened, Rule::InnerRule { .. }) {
                let mounted = [Access::Read, Access::Write].map(|it| sandbox.allows(file, it));
                let explained = [expected.starts_with('r'), expected.ends_with('w')];
                assert_eq!(mounted, explained, "case {number}: {} in {case:?}", file.display());
            }
        }
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

#[tokio::test]
async fn explain_agrees_with_the_kernel_about_a_symlink_in_a_hidden_directory() {
    let Some(temporary) = directory_in_sight() else {
        return skipped("explanations of hidden links", NO_DIRECTORY_IN_SIGHT);
    };
    let root = temporary.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("hidden/inner")).unwrap();
    fs::create_dir(root.join("shown")).unwrap();
    for file in ["shown/f", "hidden/f"] {
        fs::write(root.join(file), CONTENT).unwrap();
    }
    symlink(root.join("shown"), root.join("hidden/inner/out")).unwrap();
    symlink("../hidden/f", root.join("shown/in")).unwrap();
    let mut config = SandboxRuntimeConfig::default();
    config.filesystem.deny_read = vec![root.join("hidden").to_str().unwrap().into()];
    let policy = Policy::from_config(config, &root).unwrap();
    let tier = match without_namespaces() {
        true => Tier::Landlock { accepted: Vec::new() },
        false => Tier::Namespaces,
    };
    let sandbox = NativeSandbox::builder(&policy, "/usr").tier(tier).open().unwrap();
    let files = ["shown/f", "hidden/f", "hidden/inner/out/f", "shown/in"].map(|it| root.join(it));
    let (found, _) = check(&sandbox, &files).await;
    let through = if without_namespaces() { "r-" } else { "--" };
    assert_eq!(found, ["r-", "--", through, "--"]);
    let explained = files.each_ref().map(|file| sandbox.explain(file, Access::Read).allowed);
    assert_eq!(explained, [true, false, without_namespaces(), false]);
    sandbox.close().await;
}

/// Creates files that rules reach through symlinks, and repositories that lead git elsewhere.
const TREE: &str = r#"
    mkdir -p hidden/open away/sub away/.vscode other/inner w/ro w/dotfiles w/settings
    mkdir -p w/repo/.husky w/repo/lib w/repo/.git/objects w/repo/.git/refs
    mkdir -p w/b.git/objects w/b.git/refs w/b.git/hooks
    ln -s hidden hidden-link; ln -s hidden/open open-link; ln -s away away-link; ln -s other o
    ln -s ro w/ro-link; ln -s nowhere w/dangling; ln -s ../hidden w/out; ln -s absent w/.zshrc
    ln -s dotfiles/bashrc w/.bashrc; ln -s settings w/.vscode; ln -s ../w w/self
    for file in hidden/f hidden/open/f away/f away/sub/f away/.vscode/f other/inner/f w/f \
        w/ro/f w/dotfiles/bashrc w/settings/f w/repo/.husky/pre-commit w/repo/lib/f w/repo/extra \
        w/b.git/config w/b.git/HEAD w/b.git/hooks/h w/b.git/objects/o w/repo/.git/HEAD
    do printf content > "$file"; done
    printf '[core]\n\thooksPath = .husky\n[include]\n\tpath = ../extra\n\tpath = ../later\n' \
        > w/repo/.git/config
    chmod -R a+rwX ."#;

/// Paths of that tree. Some do not exist.
const PLACES: &str = "hidden/f hidden/open/f hidden-link/f open-link/f away/f away-link/f \
    away-link/sub/f away/.vscode/f other/inner/f o/inner/f w/f w/ro/f w/ro-link/f w/ro/new \
    w/nowhere w/dangling \
    w/out/f w/absent w/.zshrc w/.bashrc w/dotfiles/bashrc w/dotfiles/new w/.vscode/f \
    w/settings/f w/settings/new w/self/f w/self/.profile w/repo/.husky/pre-commit \
    w/repo/.husky/new w/repo/extra w/repo/later w/repo/lib/f w/repo/new w/b.git/config \
    w/b.git/hooks/h w/b.git/hooks/new w/b.git/objects/o w/new away/new \
    w/repo/.git/hooks/new";

#[tokio::test]
async fn explain_agrees_with_the_kernel_about_symlinks_and_about_where_git_leads() {
    let Some(temporary) = directory_in_sight() else {
        return skipped("explanations of links", NO_DIRECTORY_IN_SIGHT);
    };
    if without_namespaces() {
        return;
    }
    let root = temporary.path().canonicalize().unwrap();
    let made = std::process::Command::new("bash").args(["-c", TREE]).current_dir(&root).output();
    assert!(made.unwrap().stderr.is_empty());
    let entries = |list: &[&str]| -> Vec<PathEntry> {
        list.iter().map(|path| root.join(path).to_str().unwrap().into()).collect()
    };
    let mut config = SandboxRuntimeConfig::default();
    config.filesystem.deny_read = entries(&["hidden-link", "o/inner"]);
    config.filesystem.allow_read = Some(entries(&["open-link"]));
    config.filesystem.allow_write = entries(&["w", "away-link"]);
    config.filesystem.deny_write = entries(&["w/ro-link", "w/dangling", "away-link/sub"]);
    let policy = Policy::from_config(config, &root).unwrap();
    let sandbox = NativeSandbox::builder(&policy, "/usr").open().unwrap();
    let places: Vec<(&str, PathBuf)> =
        PLACES.split_whitespace().map(|place| (place, root.join(place))).collect();
    let (mut expected, mut denied) = (Vec::new(), Vec::new());
    for (place, path) in &places {
        let explained = [(Access::Read, 'r'), (Access::Write, 'w')].map(|(access, letter)| {
            let verdict = sandbox.explain(path, access);
            let before = NativeSandbox::explain_policy(&policy, &Tier::Namespaces, path, access);
            assert_eq!(before.unwrap(), verdict, "{place}");
            if !verdict.allowed {
                denied.push(format!("{place}: {}", verdict.rule));
            }
            // A file that does not exist cannot be read.
            let is_possible = verdict.allowed && (access == Access::Write || path.exists());
            if is_possible { letter } else { '-' }
        });
        expected.push(explained.iter().collect::<String>());
    }
    let paths: Vec<PathBuf> = places.iter().map(|(_, path)| path.clone()).collect();
    let (found, _) = check(&sandbox, &paths).await;
    let answers = places.iter().zip(expected.iter().zip(&found));
    let wrong: Vec<_> = answers.filter(|(_, (expected, found))| expected != found).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(found.len(), places.len());
    sandbox.close().await;
    let denied = denied.join("\n").replace(root.to_str().unwrap(), "ROOT");
    for reason in [
        "hidden/f: denyRead has ROOT/hidden-link, and ROOT/hidden-link leads to it",
        "w/ro/f: denyWrite has ROOT/w/ro-link, and ROOT/w/ro-link leads to it",
        "w/dotfiles/bashrc: .bashrc is always protected from writing, and ROOT/w/.bashrc leads",
        "w/repo/.husky/new: the configuration of a git repository names it, so it is protected",
        "w/repo/later: the configuration of a git repository names it, so it is protected",
        "w/b.git/hooks/h: ROOT/w/b.git/hooks is always protected from writing",
        "away/.vscode/f: ROOT/away/.vscode is always protected from writing",
    ] {
        assert!(denied.contains(reason), "{reason}\n{denied}");
    }
}

#[test]
fn a_path_that_leaves_the_sessions_own_devices_is_not_one_of_them() {
    let policy = Policy::session(Path::new("/s")).build().unwrap();
    for path in ["/dev/shm/../../etc/shadow", "/proc/self/../../etc/shadow", "/proc/..", "x", ""] {
        for access in [Access::Read, Access::Write] {
            let explained =
                NativeSandbox::explain_policy(&policy, &Tier::Namespaces, Path::new(path), access);
            let verdict = explained.unwrap();
            assert_eq!(
                (verdict.allowed, verdict.rule),
                (false, policy::Rule::Unresolved),
                "{path}"
            );
        }
    }
}

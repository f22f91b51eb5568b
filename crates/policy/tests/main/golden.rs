//! Golden files of the exact compiled form. `UPDATE_GOLDEN=1` rewrites them.

use std::fmt::Write;
use std::path::Path;

use policy::{
    Access, BindAccess, LaterFiles, MountOp, MountOptions, MountPlan, Policy, PolicyBuilder,
    SandboxRuntimeConfig, UnenforcedReason,
};

use crate::model::Model;

fn host() -> Model {
    [
        "/bin-real",
        "/dev/pts",
        "/etc/ssh",
        "/home/ann/.ssh",
        "/opt/tool",
        "/proc/1",
        "/sys/fs",
        "/tmp/x",
        "/usr/bin",
        "/var/lib/dpkg",
        "/var/tmp",
    ]
    .into_iter()
    .fold(Model::default(), Model::dir)
    .file("/etc/passwd")
    .file("/etc/shadow")
    .link("/bin", "/usr/bin")
    .dir("/var/agents/sessions/s1")
    .dir("/var/agents/sessions/s2")
    .file("/var/agents/agent-tools.db")
}

/// Formats a plan for a golden file.
fn format_plan(plan: &MountPlan) -> String {
    let mut text = String::new();
    for op in &plan.ops {
        let path = op.path().unwrap_or(Path::new("/")).display();
        let _ = match op {
            MountOp::Root => writeln!(text, "root {path} ro"),
            MountOp::RootWritable => writeln!(text, "root {path} rw"),
            MountOp::Private { .. } => writeln!(text, "private {path}"),
            MountOp::HideDirectory { contains_mounts, .. } => {
                writeln!(text, "hide {path}/{}", if *contains_mounts { " around" } else { "" })
            }
            MountOp::HideFile { .. } => writeln!(text, "hide {path}"),
            MountOp::Bind { access: BindAccess::ReadOnly, .. } => writeln!(text, "bind {path} ro"),
            MountOp::Bind { access: BindAccess::ReadWrite, .. } => writeln!(text, "bind {path} rw"),
            MountOp::PinLink { .. } => writeln!(text, "pin {path}"),
            other => panic!("{other:?}"),
        };
    }
    for denied in &plan.creation_rules.denied_paths {
        let _ = writeln!(text, "refuse {} in {}", denied.rest.display(), denied.dir.display());
    }
    for pattern in &plan.creation_rules.denied_patterns {
        let _ = writeln!(text, "refuse {}", String::from_utf8_lossy(pattern));
    }
    for zone in &plan.creation_rules.zones {
        let _ = writeln!(text, "zone {} {:?}", zone.dir.display(), zone.kind);
    }
    if !plan.creation_rules.watched_names.is_empty() {
        let watched = plan.creation_rules.watched_names.join(&b' ');
        let _ = writeln!(text, "watch {}", String::from_utf8_lossy(&watched));
    }
    for unenforced in &plan.unenforced {
        let _ = writeln!(
            text,
            "unenforced {} {}: {}",
            unenforced.list, unenforced.rule, unenforced.reason
        );
    }
    text
}

/// Formats the allow list of a plan for a golden file.
fn format_allow_list(plan: &MountPlan, tree: &Model) -> String {
    let closed = ["/proc", "/dev"].map(Path::new);
    let list = plan.allow_list(tree, &closed).unwrap();
    let uncovered = list.uncovered.iter().filter(|path| !closed.contains(&path.as_path()));
    assert_eq!(plan.inner_restrictions(), uncovered.cloned().collect());
    let mut text = String::new();
    for rule in &list.rules {
        let access = if rule.access == BindAccess::ReadWrite { "rw" } else { "ro" };
        let _ = writeln!(text, "allow {} {access}", rule.path.display());
    }
    for path in &list.unlistable {
        let _ = writeln!(text, "unlistable {}", path.display());
    }
    for path in &list.uncovered {
        let _ = writeln!(text, "uncovered {}", path.display());
    }
    text
}

#[track_caller]
fn check(name: &str, policy: &Policy, tree: &Model) {
    let private = vec!["/tmp".into(), "/var/tmp".into()];
    let options = MountOptions { private, ..MountOptions::default() };
    let mut found = format_plan(&policy.mounts(tree, &options).unwrap());
    found += &format_allow_list(&policy.mounts(tree, &MountOptions::default()).unwrap(), tree);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, expected, "{name}; UPDATE_GOLDEN=1 rewrites it");
}

fn settings(filesystem: &str) -> Policy {
    let text = format!(
        r#"{{"network":{{"allowedDomains":[],"deniedDomains":[]}},"filesystem":{filesystem}}}"#
    );
    Policy::from_config(SandboxRuntimeConfig::from_json(&text).unwrap(), Path::new("/home/ann"))
        .unwrap()
}

#[test]
fn the_presets_compile_to_their_golden_form() {
    let session = Path::new("/var/agents/sessions/s1");
    let build = |builder: PolicyBuilder| {
        let home = Path::new("/home/ann");
        builder
            .home(home)
            .sessions_root(Path::new("/var/agents/sessions"))
            .application_dir(Path::new("/var/agents"))
            .build()
            .unwrap()
    };
    check("preset-reference.txt", &build(Policy::reference(session)), &host());
    check("preset-session.txt", &build(Policy::session(session)), &host());
    check("preset-closed.txt", &build(Policy::closed(session)), &host());
}

#[test]
fn allowed_and_denied_paths_nest_to_any_depth() {
    let tree = host().file("/d/f").file("/d/a/f").file("/d/a/b/f").file("/d/a/b/c/f");
    let policy = settings(
        r#"{"denyRead":["/d","/d/a/b"],"allowRead":["/d/a","/d/a/b/c"],
            "allowWrite":[],"denyWrite":[]}"#,
    );
    check("carve-outs.txt", &policy, &tree);
}

#[test]
fn denying_a_write_wins_at_any_nesting() {
    let tree = host()
        .file("/w/a/b/f")
        .file("/w/keep/f")
        .dir("/w/.git/hooks")
        .file("/w/.git/config")
        .file("/w/.bashrc")
        .dir("/w/sub/repo/.git/hooks");
    let policy = settings(
        r#"{"denyRead":["/w/a/b"],"allowWrite":["/w","/w/keep/in"],
            "denyWrite":["/w/keep","/w/absent"]}"#,
    );
    check("deny-write.txt", &policy, &tree.dir("/w/keep/in"));
}

#[test]
fn denying_the_root_hides_everything_except_allowed_paths() {
    check(
        "deny-root.txt",
        &settings(
            r#"{"denyRead":["/"],"allowRead":["/usr","/etc/passwd"],
                "allowWrite":["/opt"],"denyWrite":[]}"#,
        ),
        &host(),
    );
}

#[test]
fn symlinks_are_resolved_and_those_of_an_agent_open_nothing() {
    let tree = host().dir("/w").link("/w/out", "/home/ann").link("/alias", "/opt");
    check(
        "symlinks.txt",
        &settings(
            r#"{"denyRead":["/alias"],"allowRead":["/w/out"],"allowWrite":["/w"],"denyWrite":[]}"#,
        ),
        &tree,
    );
}

#[test]
fn a_link_of_an_agent_opens_nothing_whatever_the_order_of_the_rules() {
    let tree = host().dir("/w").link("/w/out", "/home/ann").link("/alias", "/w");
    for entries in [["/w", "/w/out"], ["/w/out", "/w"], ["/alias/out", "/w"], ["/w", "/alias/out"]]
    {
        let entries = entries.map(|entry| format!("{entry:?}")).join(",");
        let policy =
            settings(&format!(r#"{{"denyRead":[],"allowWrite":[{entries}],"denyWrite":[]}}"#));
        let plan = policy.mounts(&tree, &MountOptions::default()).unwrap();
        assert!(!plan.allows(Path::new("/home/ann"), Access::Write), "{entries}");
        assert!(plan.allows(Path::new("/w"), Access::Write), "{entries}");
    }
}

#[test]
fn names_that_lead_to_what_a_session_needs_cover_none_of_it() {
    let tree = host()
        .dir("/w/config")
        .dir("/w/keys")
        .link("/w/usr/x.pem", "/usr")
        .link("/w/up/x.pem", "/w")
        .link("/w/own/x.pem", "/w/keys")
        .link("/w/far/x.pem", "/home/ann/.ssh")
        .link("/w/a/.vscode", "/w")
        .link("/w/b/.bashrc", "/proc/1")
        .file_with("/w/pointer/.git", "gitdir: /w")
        .link("/w/linked/.git", "/w")
        .file("/w/r/.git/HEAD")
        .file_with("/w/r/.git/commondir", "/w")
        .file_with("/w/r/.git/config", "[core]\nhooksPath = ..\n[include]\npath = /w/keys\n");
    let lists = r#"{"denyRead":["/w/**/x.pem"],"allowWrite":["/w"],"denyWrite":[]}"#;
    check("needed.txt", &settings(lists), &tree);
}

#[test]
fn a_value_of_a_git_configuration_that_names_no_file_protects_none() {
    let config = "[user]\nname = main\n[alias]\nx = !python tool.py\n[branch \"main\"]\n\
                  remote = origin\n[core]\neditor = vim\npager = ./less\n\
                  [gpg \"ssh\"]\nallowedSignersFile = signers\n";
    let mut tree = host().file_with("/w/r/.git/config", config);
    for name in [".git/HEAD", ".git/objects/x", ".git/refs/x", "main", "origin", "vim"] {
        tree = tree.file(&format!("/w/r/{name}"));
    }
    for name in ["tool.py", "less", "signers"] {
        tree = tree.file(&format!("/w/r/{name}"));
    }
    let settings = settings(r#"{"denyRead":[],"allowWrite":["/w"],"denyWrite":[]}"#);
    let plan = settings.mounts(&tree, &MountOptions::default()).unwrap();
    let may_write = |name: &str| plan.allows(&Path::new("/w/r").join(name), Access::Write);
    for name in ["main", "origin", "vim"] {
        assert!(may_write(name), "{name}");
    }
    for name in ["tool.py", "less", "signers"] {
        assert!(!may_write(name), "{name}");
    }
}

#[test]
fn patterns_cover_existing_files_and_report_the_rest_as_unenforced() {
    let tree = host().file("/k/a.pem").file("/k/d/b.pem").file("/k/c.txt");
    check(
        "patterns.txt",
        &settings(r#"{"denyRead":["/k/**/*.pem"],"allowWrite":["/k"],"denyWrite":["/k/*.txt"]}"#),
        &tree,
    );
    let broad = settings(r#"{"denyRead":["/**/*.pem"],"allowWrite":[],"denyWrite":[]}"#);
    assert!(
        broad
            .mounts(&tree, &MountOptions::default())
            .unwrap_err()
            .to_string()
            .contains("begins with a wildcard")
    );
}

#[test]
fn denied_paths_that_do_not_exist_become_creation_rules() {
    let tree = host()
        .dir("/w/.claude")
        .file("/w/file")
        .dir("/w/repo/.git")
        .link("/w/dangling", "/w/target/of/it")
        .link("/w/circle", "/w/circle")
        .link("/way", "/w");
    check(
        "absent.txt",
        &settings(
            r#"{"denyRead":["/w/secret/later","/w/**/*.key"],"allowWrite":["/w"],
               "denyWrite":["/w/a/b","/way/c","/usr/d","/w/file/e","/w/dangling","/w/*/*.pem"]}"#,
        ),
        &tree,
    );
}

#[test]
fn an_engine_that_cannot_cover_later_files_denies_them() {
    let tree = host().dir("/r/w[1]/d").link("/r/w[1]/l", "/nowhere");
    let lists = r#"{"denyRead":["/r/w[1]/later","/r/w[1]/**/*.key"],
                    "allowWrite":[{"path":"/r/w[1]","literal":true}],"denyWrite":[]}"#;
    let options = MountOptions { later: LaterFiles::Denied, ..MountOptions::default() };
    let rules = settings(lists).mounts(&tree, &options).unwrap().creation_rules;
    for name in ["later", "d/x.key", "d/.vscode", "a/b/.git", "d/HEAD", "d/.claude/commands"] {
        assert!(rules.denies(&Path::new("/r/w[1]").join(name)), "{name}");
    }
    for name in ["f", "d/x.pem", "d/.claude", "d/.vscode2"] {
        assert!(!rules.denies(&Path::new("/r/w[1]").join(name)), "{name}");
    }
    assert!(!rules.denies(Path::new("/r/w1/d/.vscode")));
}

#[test]
fn a_disabled_section_compiles_to_one_mount() {
    check(
        "disabled.txt",
        &settings(r#"{"disabled":true,"denyRead":["/opt"],"allowWrite":[],"denyWrite":[]}"#),
        &host(),
    );
}

#[test]
fn a_writable_root_excludes_the_settings_of_the_kernel() {
    for (entries, is_open) in [(r#"["/"]"#, false), (r#"["/", "/sys/fs"]"#, true)] {
        let lists = format!(r#"{{"denyRead":[],"allowWrite":{entries},"denyWrite":[]}}"#);
        let policy = settings(&lists);
        let plan = policy.mounts(&host(), &MountOptions::default()).unwrap();
        for (path, is_writable) in
            [("/sys", false), ("/sys/fs", is_open), ("/etc/passwd", true), ("/sys/fs/x", is_open)]
        {
            let path = Path::new(path);
            assert!(plan.allows(path, Access::Read), "{}", path.display());
            assert_eq!(plan.allows(path, Access::Write), is_writable, "{}", path.display());
            let verdict = policy.explain(path, Access::Write);
            assert_eq!(verdict.allowed, is_writable, "{}", path.display());
        }
    }
}

#[test]
fn the_verdict_about_a_host_names_the_deciding_entry() {
    let mut config = SandboxRuntimeConfig::default();
    config.network.allowed_domains = vec!["*.example.com".to_owned(), "example.org:443".to_owned()];
    config.network.denied_domains = vec!["evil.example.com".to_owned()];
    let policy = Policy::from_config(config, Path::new("/root")).unwrap();
    for (host, port, allowed, rule) in [
        ("api.example.com", None, true, "allowedDomains has *.example.com"),
        ("evil.example.com", Some(443), false, "deniedDomains has evil.example.com"),
        ("example.org", Some(443), true, "allowedDomains has example.org:443"),
        ("example.org", Some(80), false, "no entry of allowedDomains covers it"),
        ("example.com", None, false, "no entry of allowedDomains covers it"),
    ] {
        let verdict = policy.explain_host(host, port);
        assert_eq!((verdict.allowed, verdict.rule.to_string().as_str()), (allowed, rule), "{host}");
        assert_eq!(verdict.remedy.is_none(), allowed);
    }
}

#[test]
fn what_lies_beyond_too_many_directories_is_read_only() {
    let mut model = host().dir("/w/repo/.git/hooks").dir("/w/own/d").dir("/w/empty");
    for number in 0..1_100 {
        model = model.dir(&format!("/w/many/{number}/d"));
    }
    let compile = |max_directories, own: bool| {
        let session = if own { "/w/own" } else { "/var/agents/sessions/s1" };
        let builder = Policy::session(Path::new(session)).home(Path::new("/home/ann"));
        let policy = builder.allow_write(Path::new("/w")).build().unwrap();
        policy.mounts(&model, &MountOptions { max_directories, ..MountOptions::default() }).unwrap()
    };
    let is_writable = |plan: &MountPlan, path: &str| plan.permits(Path::new(path), Access::Write);
    let complete = compile(200_000, false);
    assert!(is_writable(&complete, "/w/many/7/d/f") && is_writable(&complete, "/w/repo/f"));
    let reasons = |plan: &MountPlan| {
        let reasons = plan.unenforced.iter().map(|gap| gap.reason);
        reasons.filter(|reason| *reason != UnenforcedReason::Absent).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&complete), []);
    // The first directories are `/w` and those in it.
    for (max_directories, own) in [(3, false), (3, true), (5, true), (100, true), (1_200, true)] {
        let plan = compile(max_directories, own);
        assert_eq!(reasons(&plan), [UnenforcedReason::Closed], "{max_directories}");
        assert!(!is_writable(&plan, "/w/many/1099/d/f"), "{max_directories}");
        assert!(!is_writable(&plan, "/w/repo/.git/hooks/x"), "{max_directories}");
        assert_eq!(is_writable(&plan, "/w/own/d/f"), own || max_directories > 3);
        assert!(is_writable(&plan, "/w/f"), "{max_directories}");
    }
    // What was searched before leaves nothing for the directory around the session's own.
    let other = model.clone().dir("/a/1").dir("/a/2").dir("/a/3");
    let builder = Policy::session(Path::new("/w/own")).home(Path::new("/home/ann"));
    let builder = builder.allow_write(Path::new("/a")).allow_write(Path::new("/w"));
    let options = MountOptions { max_directories: 2, ..MountOptions::default() };
    let plan = builder.build().unwrap().mounts(&other, &options).unwrap();
    assert!(!is_writable(&plan, "/a/3/f") && !is_writable(&plan, "/w/repo/.git/hooks/x"));
    assert!(is_writable(&plan, "/w/own/d/f") && !is_writable(&plan, "/w/empty/f"));
}

#[test]
fn what_is_too_much_in_a_git_directory_is_read_only_except_what_git_uses() {
    let mut model = host().dir("/w/.git/logs/refs").dir("/w/.git/refs/heads");
    for number in 0..100 {
        model = model.dir(&format!("/w/.git/zz/{number}/d"));
    }
    let options = MountOptions { max_directories: 40, ..MountOptions::default() };
    let policy = settings(r#"{"denyRead":[],"allowWrite":["/w"],"denyWrite":[]}"#);
    let plan = policy.mounts(&model, &options).unwrap();
    for (path, is_open) in [("zz/99/d/f", false), ("refs/heads/x", true), ("logs/refs/x", true)] {
        let path = Path::new("/w/.git").join(path);
        assert_eq!(plan.allows(&path, Access::Write), is_open, "{}", path.display());
    }
}

//! Paths that stay hidden or read-only whatever the rules say.

use std::path::Path;

use policy::{Access, MountOptions, Policy, SandboxRuntimeConfig};

use crate::model::Model;

fn tree() -> Model {
    ["/w/home/state/1", "/w/home/sessions/1", "/w/home/sessions/2", "/w/dir", "/usr/bin"]
        .into_iter()
        .fold(Model::default(), Model::dir)
        .file("/w/home/sessions/2/f")
        .file("/w/settings.json")
        .file("/w/key")
        .file("/w/dir/f")
        .link("/w/link.json", "/w/settings.json")
}

fn policy(filesystem: &str) -> Policy {
    let text = format!(
        r#"{{"network":{{"allowedDomains":[],"deniedDomains":[]}},"filesystem":{filesystem}}}"#
    );
    let config = SandboxRuntimeConfig::from_json(&text).unwrap();
    let path = Path::new;
    Policy::from_config(config, path("/root"))
        .unwrap()
        .seal_except(path("/w/home"), path("/w/home/sessions"))
        .seal(path("/w/key"))
        .seal(path("/w/later.key"))
        .freeze(path("/w/link.json"))
        .freeze(path("/w/settings.json"))
        .freeze(path("/w/later.json"))
}

const LISTS: &str = r#""denyRead":[],"denyWrite":[],"#;

#[test]
fn no_rule_opens_a_sealed_path_or_lets_a_frozen_one_change() {
    let tree = tree();
    for lists in [
        r#""allowWrite":["/w"]"#,
        r#""allowWrite":["/"]"#,
        r#""allowWrite":["/w"],"allowRead":["/w/home","/w/key"]"#,
        r#""allowWrite":["/w","/w/home","/w/home/state","/w/key","/w/settings.json"]"#,
        r#""allowWrite":[],"disabled":true"#,
    ] {
        let policy = policy(&format!("{{{LISTS}{lists}}}"));
        let plan = policy.mounts(&tree, &MountOptions::default()).unwrap();
        let check = |path: &str, access, expected: bool| {
            let path = Path::new(path);
            let verdict = policy.explain_mounted(&plan, &tree, path, access);
            assert_eq!(verdict.allowed, expected, "{lists} {path:?} {access:?}: {}", verdict.rule);
            assert!(expected || verdict.remedy.is_none(), "{verdict:?}");
        };
        for sealed in ["/w/home", "/w/home/state/1", "/w/home/new", "/w/key"] {
            check(sealed, Access::Read, false);
            check(sealed, Access::Write, false);
        }
        check("/w/later.key", Access::Write, false);
        for frozen in ["/w/settings.json", "/w/link.json", "/w/later.json"] {
            check(frozen, Access::Write, false);
        }
        check("/w/settings.json", Access::Read, true);
        check("/w/dir/f", Access::Write, true);
        let denied = plan.creation_rules.denied_paths.iter().map(|denied| denied.path());
        let denied: Vec<_> = denied.collect();
        assert!(denied.contains(&"/w/later.json".into()), "{denied:?}");
        assert!(denied.contains(&"/w/later.key".into()), "{denied:?}");
        let points: Vec<_> = plan.ops.iter().filter_map(policy::MountOp::path).collect();
        assert!(points.contains(&Path::new("/w/link.json")), "the link stays: {points:?}");
    }
}

#[test]
fn an_entry_opens_a_directory_inside_the_open_part_of_a_sealed_one() {
    let tree = tree();
    for (lists, read, write) in [
        (r#""allowWrite":["/w"]"#, false, false),
        (r#""allowWrite":["/w","/w/home"]"#, false, false),
        (r#""allowWrite":["/w","/w/home/sessions"]"#, false, false),
        (r#""allowWrite":["/w"],"allowRead":["/w/home/sessions/2"]"#, true, false),
        (r#""allowWrite":["/w","/w/home/sessions/2"]"#, true, true),
        (r#""allowWrite":[],"disabled":true"#, true, true),
    ] {
        let policy = policy(&format!("{{{LISTS}{lists}}}"));
        let plan = policy.mounts(&tree, &MountOptions::default()).unwrap();
        let path = Path::new("/w/home/sessions/2/f");
        for (access, expected) in [(Access::Read, read), (Access::Write, write)] {
            let named = policy.explain(path, access);
            assert_eq!(named.allowed, expected, "{lists} {access:?}: {}", named.rule);
            assert_eq!(plan.permits(path, access), expected, "{lists} {access:?}");
        }
        assert!(!plan.permits(Path::new("/w/home/state/1"), Access::Read));
    }
}

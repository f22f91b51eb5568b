//! Results as JSON beside the page that documents them.

use std::path::Path;

use serde_json::Value;

use super::Cli;

/// Returns the examples of a verb in the documentation, in their order.
pub(super) fn documented(verb: &str) -> Vec<Value> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut verbs = String::new();
    let mut examples = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 1 {
            if verbs.contains(&format!("`{verb}`")) {
                let json = part.strip_prefix("json\n").unwrap();
                examples.push(serde_json::from_str(json).unwrap());
            }
            continue;
        }
        let names = part.lines().rfind(|line| line.starts_with('`') && line.contains(' '));
        verbs = names.map_or(verbs, str::to_owned);
    }
    assert!(!examples.is_empty(), "{verb}");
    examples
}

/// Checks that a value has all keys of an example, and lists where it has lists.
#[track_caller]
pub(super) fn check(verb: &str, found: &Value, example: &Value) {
    match (found, example) {
        (Value::Object(found), Value::Object(example)) => {
            for (key, value) in example {
                let found = found.get(key);
                check(verb, found.unwrap_or_else(|| panic!("{verb}: no {key}")), value);
            }
        }
        (Value::Array(found), Value::Array(example)) => {
            if let (Some(found), Some(example)) = (found.first(), example.first()) {
                check(verb, found, example);
            }
        }
        (found, example) => {
            let is_same = std::mem::discriminant(found) == std::mem::discriminant(example);
            assert!(is_same || found.is_null() || example.is_null(), "{verb}: {found}");
        }
    }
}

#[test]
fn results_have_the_documented_keys() {
    let cli = Cli::new();
    let skill = cli.write("src/SKILL.md", "---\nname: greet\ndescription: Greets.\n---\n");
    let source = skill.parent().unwrap().to_str().unwrap();
    let path = |name: &str| cli.dir().join(name).to_str().unwrap().to_owned();
    let run = |example: usize, arguments: &[&str]| {
        let ran = cli.run(&[&["--json"], arguments].concat()).ok().json();
        let is_group = ["skill", "variable", "policy", "session"].contains(&arguments[0]);
        let verb = arguments[..if is_group { 2 } else { 1 }].join(" ");
        check(&verb, &ran, &documented(&verb)[example]);
    };
    run(0, &["skill", "publish", source]);
    cli.write("src/f", "x");
    cli.run(&["skill", "publish", source]).ok();
    run(0, &["skill", "list"]);
    run(0, &["skill", "versions", "greet"]);
    run(0, &["skill", "show", "greet@2"]);
    run(1, &["skill", "show", "greet@2", "f"]);
    run(0, &["skill", "diff", "greet", "1", "2"]);
    run(0, &["skill", "tag", "greet", "stable", "2"]);
    run(1, &["skill", "tag", "greet"]);
    run(0, &["skill", "rollback", "greet", "1"]);
    run(0, &["skill", "lock", "greet@2", "--file", &path("skills.lock")]);
    run(0, &["skill", "install", "greet@2", &path("installed")]);
    run(0, &["skill", "delete", "greet", "3"]);

    cli.run_with(&["variable", "set", "TOKEN"], "abcdefgh").ok();
    run(0, &["variable", "list"]);
    run(0, &["variable", "get", "TOKEN"]);
    run(0, &["variable", "remove", "TOKEN"]);

    let settings = cli.write(
        "settings.json",
        r#"{"network": {"allowedDomains": [], "deniedDomains": []}, "filesystem":
            {"denyRead": [], "allowWrite": ["relative"], "denyWrite": []}}"#,
    );
    run(0, &["policy", "explain", "/srv/x"]);
    run(0, &["policy", "check", settings.to_str().unwrap()]);
    let other = cli.write("other.json", r#"{"sandbox": {"excludedCommands": ["docker"]}}"#);
    run(0, &["policy", "import", "--from", "claude-code", other.to_str().unwrap()]);

    cli.run(&["bash", "echo hi > a.txt"]).ok();
    run(0, &["session", "list"]);
    run(0, &["session", "show", "default"]);
    run(0, &["session", "sync", "default"]);
    run(0, &["session", "history", "default"]);
    run(0, &["ls"]);
    run(0, &["cp", ":a.txt", &path("copy")]);
    run(0, &["logs"]);
    run(0, &["session", "restore", "default", "a.txt", "--at", "1"]);
    run(0, &["session", "pull", "default", "user_local/sessions/default/a.txt"]);
    run(1, &["session", "show", "default", "--network"]);
    cli.run(&["bash", "rm a.txt"]).ok();
    run(0, &["session", "undelete", "default"]);
    run(0, &["session", "gc", "default"]);
    run(0, &["session", "close", "default"]);
    cli.run(&["bash", "true"]).ok();
    run(0, &["session", "delete", "default", "--yes"]);
    run(0, &["prune", "--unused-for", "30d", "--dry-run"]);
    run(0, &["doctor"]);
}

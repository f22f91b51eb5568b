//! The rules of the reference system.

use agent_tools::{ByteRange, Rules};
use serde_json::json;

use crate::cli::Cli;
use crate::fixture::{Fixture, spec};

#[tokio::test]
async fn a_session_follows_the_rules_of_the_reference() {
    let fixture = Fixture::with(|builder| builder.rules(Rules::Reference).max_output(10));
    fixture.publish_greet().await;
    let session = fixture.sessions.open(spec("s1").skill("greet".parse().unwrap())).await.unwrap();
    assert_eq!(session.read_file("skills/greet/f").await.unwrap().content, "1");

    let ran = session.bash("printf '%s' 0123456789abcdef; echo x > f").await.unwrap();
    assert_eq!(ran.stdout, "0123456789\n\n[stdout truncated: 6 characters removed]");
    assert_eq!(ran.stdout_file, None);
    let whole = session.bash("printf '%s' 0123456789").await.unwrap();
    assert_eq!(whole.stdout, "0123456789");

    session.write_file("/tmp/f", b"of the session").await.unwrap();
    assert_eq!(
        session.bash("cat tmp/f").await.unwrap().stdout,
        "of the ses\n\n[stdout truncated: 4 characters removed]"
    );
    let read = session.call("readFile", json!({ "path": "/tmp/f" })).await.unwrap();
    assert_eq!(read["content"], "of the session");
    let start = ByteRange { start: 0, end: Some(2) };
    assert_eq!(session.read_range("/tmp/f", start).await.unwrap().bytes, b"of");
    for tool in session.tools() {
        assert!(!tool.description.contains("same /tmp"), "{}", tool.description);
    }
}

#[test]
fn the_option_reference_accepts_names_of_skills_with_spaces_and_names_the_links() {
    let cli = Cli::new();
    let skill =
        cli.write("greet/SKILL.md", "---\nname: greet\ndescription: Says hello.\n---\nHi\n");
    cli.run(&["skill", "publish", skill.parent().unwrap().to_str().unwrap()]).ok();
    let read = ["bash", "--skill", "greet@1=My Skill", "tail -n 1 'skills/My Skill/SKILL.md'"];
    let refused = cli.run(&read);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("use --reference"), "{}", refused.stderr);
    let ran = cli.run(&[&["--reference"], &read[..]].concat()).ok();
    assert_eq!(ran.stdout, "Hi\n");
    let ran = cli.run(&["--reference", "--json", "bash", "echo x > f"]).ok().json();
    let stdout = ran["stdout"].as_str().unwrap();
    assert!(stdout.contains("[exulu-artifacts]\n  f: file:///"), "{stdout}");
}

#[test]
fn a_copy_to_tmp_stays_in_the_session_directory_with_the_rules_of_the_reference() {
    let cli = Cli::new();
    let source = cli.write("f", "x\n");
    let copied = ["--reference", "cp", source.to_str().unwrap(), ":/tmp/f"];
    cli.run(&copied).ok();
    assert_eq!(cli.run(&["bash", "cat tmp/f"]).ok().stdout, "x\n");
    assert_eq!(cli.run(&["--reference", "ls", "/tmp"]).ok().stdout.lines().count(), 1);
}

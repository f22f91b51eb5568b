//! The subcommand `skill`, and skills in sessions.

use super::Cli;

#[test]
fn skills_are_published_and_used() {
    let cli = Cli::new();
    let skill = cli.write(
        "src/SKILL.md",
        "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\nRun hello.sh\n",
    );
    cli.write("src/hello.sh", "echo hello from v1");
    let dir = skill.parent().unwrap().to_str().unwrap().to_owned();
    let published = cli.run(&["--json", "skill", "publish", &dir]).ok().json();
    assert_eq!((published["id"].as_str(), published["version"].as_u64()), (Some("greet"), Some(1)));
    assert!(cli.home().join("store/skills/greet/v1/SKILL.md").is_file());
    assert_eq!(
        cli.run(&["bash", "--skill", "greet@1", "sh skills/greet/hello.sh"]).ok().stdout,
        "hello from v1\n"
    );
    cli.write("src/hello.sh", "echo hello from v2");
    cli.run(&["skill", "publish", &dir, "--id", "greet"]).ok();
    assert_eq!(cli.run(&["skill", "versions", "greet"]).ok().stdout, "1\n2\n");
    assert_eq!(cli.run(&["skill", "list"]).ok().stdout, "greet@2\n");
    assert_eq!(
        cli.run(&["bash", "--skill", "greet@2=hi", "sh skills/hi/hello.sh"]).ok().stdout,
        "hello from v2\n"
    );
    let ran = cli.run(&["--json", "bash", "--skill", "greet@2", "touch skills/mine"]).ok().json();
    assert_eq!(ran["artifacts"].as_array().unwrap().len(), 0);
    let target = cli.dir().join("target");
    cli.run(&["skill", "install", "greet@1", target.to_str().unwrap()]).ok();
    assert!(target.join("skills/greet/hello.sh").is_file());
    let missing = cli.run(&["bash", "--session", "fresh", "--skill", "nope@3", "true"]);
    let warned = missing.code == 125 || missing.stderr.contains("nope");
    assert!(warned, "{}", missing.stderr);
    assert_eq!(cli.run(&["skill", "versions", "nope"]).code, 1);
}

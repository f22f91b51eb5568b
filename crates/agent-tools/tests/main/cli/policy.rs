//! The subcommand `policy`, and the options that select a policy.

use super::Cli;

#[test]
fn policies_are_shown_checked_and_used() {
    let cli = Cli::new();
    let shown = cli.run(&["policy", "show"]).ok();
    let file = cli.write("policy.json", &shown.stdout);
    cli.run(&["policy", "check", file.to_str().unwrap()]).ok();
    cli.run(&["bash", "--policy", file.to_str().unwrap(), "echo x > f; cat f"]).ok();
    let typo = cli.write("typo.json", &shown.stdout.replace("denyRead", "denyReed"));
    let checked = cli.run(&["policy", "check", typo.to_str().unwrap()]);
    assert!(
        checked.code == 1
            && checked.stderr.contains("denyReed")
            && checked.stderr.contains("denyRead"),
        "{}",
        checked.stderr
    );
    let secret = cli.write("secret", "top secret");
    let path = secret.to_str().unwrap();
    assert_ne!(cli.run(&["bash", &format!("cat {path}")]).code, 0);
    assert_eq!(
        cli.run(&["bash", "--allow-read", path, &format!("cat {path}")]).ok().stdout,
        "top secret"
    );
    assert_eq!(cli.run(&["bash", "--allow-read", "/no/such/path", "true"]).code, 125);
}

#[test]
fn explain_names_the_rule_that_decides() {
    let cli = Cli::new();
    let explain = |target: &str| cli.run(&["policy", "explain", target]).ok().stdout;
    let session = cli.home().join("sessions/default/f");
    let text = explain(session.to_str().unwrap());
    assert!(
        text.contains("read: allowed") && text.contains("write: allowed: allowWrite has"),
        "{text}"
    );
    let text = explain("/usr/bin/env");
    assert!(text.contains("read: allowed: no entry of denyRead covers it"), "{text}");
    assert!(
        text.contains("read: allowed") && text.contains("write: denied: no entry of allowWrite"),
        "{text}"
    );
    let text = explain("/root/.ssh/id_rsa");
    assert!(text.contains("read: denied: denyRead has /root"), "{text}");
    let text = explain("/tmp/x");
    let own = "allowed: each session has its own /tmp instead of the host's";
    assert!(text.contains(&format!("read: {own}")), "{text}");
    assert!(text.contains(&format!("write: {own}")), "{text}");
    let text = cli.run(&["--engine", "landlock", "policy", "explain", "/tmp/x"]).ok().stdout;
    assert!(text.contains("read: denied: denyRead has /tmp"), "{text}");
    assert!(explain("example.com:443").contains("connect: denied: no entry of allowedDomains"));
    let json = cli.run(&["--json", "policy", "explain", "/etc/shadow"]).ok().json();
    assert_eq!(
        (&json["verdicts"][1]["access"], &json["verdicts"][1]["allowed"]),
        (&"write".into(), &false.into())
    );
    for bad in ["http://x", "x:y", "a b"] {
        assert_eq!(cli.run(&["policy", "explain", bad]).code, 2, "{bad}");
    }
}

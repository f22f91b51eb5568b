//! Sessions with an S3 server that checks signatures.

use testkit::{S3Server, http_get};

use crate::cli::Cli;

/// Returns a machine with a new home and the shared bucket.
pub(crate) fn machine(server: &S3Server) -> Cli {
    Cli::with_store(&format!("s3://{}/general", S3Server::BUCKET), &server.environment())
}

#[test]
fn skills_are_used_artifacts_are_linked_and_another_machine_restores_them() {
    let server = S3Server::start();
    let first = machine(&server);
    let skill = first.write(
        "src/SKILL.md",
        "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\n",
    );
    first.write("src/hello.sh", "echo hello > \"$1\"");
    first.run(&["skill", "publish", skill.parent().unwrap().to_str().unwrap()]).ok();

    let command = "sh skills/greet/hello.sh 'a b é+&%#.txt'; \
                   head -c 70000 /dev/urandom > bytes; base64 -w0 bytes";
    let result = first.run(&["--json", "bash", "--skill", "greet@1", command]).ok().json();
    let artifacts = result["artifacts"].as_array().unwrap();
    let artifact =
        |name: &str| artifacts.iter().find(|artifact| artifact["relativePath"] == name).unwrap();
    assert_eq!(artifacts.len(), 2, "{result}");
    let odd = artifact("a b é+&%#.txt");
    assert_eq!(odd["key"], "bucket/general/user_local/sessions/default/a b é+&%#.txt");
    assert_eq!(http_get(odd["url"].as_str().unwrap()), (200, b"hello\n".to_vec()));

    let link = artifact("bytes")["url"].as_str().unwrap();
    let local = std::fs::read(first.home().join("sessions/default/bytes")).unwrap();
    assert_eq!(http_get(link), (200, local.clone()), "byte for byte");
    assert_eq!(
        http_get(&link.replace("/bytes?", "/other?")).0,
        403,
        "a link opens one object only"
    );

    let second = machine(&server);
    assert_eq!(second.run(&["bash", "cat 'a b é+&%#.txt'"]).ok().stdout, "hello\n");
    assert_eq!(std::fs::read(second.home().join("sessions/default/bytes")).unwrap(), local);
    second.run(&["bash", "rm bytes; echo 2 > new"]).ok();
    second.run(&["session", "close", "default"]).ok();
    let third = machine(&server);
    assert!(!third.run(&["bash", "ls"]).ok().stdout.contains("skills\n"));
    assert_eq!(third.run(&["read-file", "new"]).ok().stdout, "2\n");
}

#[test]
fn wrong_credentials_are_reported_without_the_secret() {
    let server = S3Server::start();
    let mut cli = machine(&server);
    cli.environment.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    cli.environment.push(("AWS_SECRET_ACCESS_KEY".into(), "wrong-and-private".into()));
    let ran = cli.run(&["bash", "true"]);
    assert!(ran.code == 125 && ran.stderr.contains("store"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("wrong-and-private"));
    cli.environment.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    let without = cli.run(&["bash", "true"]);
    assert!(
        without.code == 125 && without.stderr.contains("AWS_SECRET_ACCESS_KEY"),
        "{}",
        without.stderr
    );
}

#[test]
fn a_store_that_fails_later_leaves_the_change_pending_and_close_refuses() {
    let server = S3Server::start();
    let mut cli = machine(&server);
    cli.run(&["bash", "echo 1 > stored"]).ok();
    let good = std::mem::take(&mut cli.environment);
    cli.environment = good.clone();
    cli.environment.retain(|(name, _)| name != "AWS_ENDPOINT");
    cli.environment.push(("AWS_ENDPOINT".into(), "http://127.0.0.1:1".into()));
    let ran = cli.run(&["--json", "bash", "echo 2 > later; cat later"]).ok();
    assert_eq!(ran.json()["pending"][0]["files"][0], "later", "{}", ran.stdout);
    let closed = cli.run(&["session", "close", "default"]);
    assert!(closed.code == 1 && closed.stderr.contains("later"), "{}", closed.stderr);
    assert!(cli.home().join("sessions/default/later").exists());
    cli.environment = good;
    cli.run(&["session", "close", "default"]).ok();
    assert_eq!(machine(&server).run(&["bash", "cat stored later"]).ok().stdout, "1\n2\n");
}

//! The Landlock tier: guarantees that it enforces differently from the namespace tier, and
//! weaknesses that prevent it from opening.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use policy::Policy;
use sandbox_core::{
    CommandOutput, CommandStatus, NativeSandbox, OpenError, Sandbox, Tier, Weakness,
};

use crate::fixture::{Fixture, alive, eventually, fixture, spec, unique_seconds};
use testkit::skipped;

fn open(fixture: &Fixture, accepted: &[Weakness]) -> Result<NativeSandbox, OpenError> {
    landlock(&fixture.policy(), &fixture.dir, accepted)
}

fn landlock(
    policy: &Policy,
    dir: &Path,
    accepted: &[Weakness],
) -> Result<NativeSandbox, OpenError> {
    NativeSandbox::builder(policy, dir).tier(Tier::Landlock { accepted: accepted.to_vec() }).open()
}

/// Opens a sandbox. Returns `None` if the kernel does not support this tier.
fn opened(fixture: &Fixture, accepted: &[Weakness]) -> Option<NativeSandbox> {
    match open(fixture, accepted) {
        Ok(sandbox) => Some(sandbox),
        Err(
            error @ (OpenError::LayerUnavailable { .. }
            | OpenError::WeaknessNotAccepted { weakness: Weakness::Signals, .. }),
        ) => {
            skipped("the tier without namespaces", &error.to_string());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

async fn run(sandbox: &NativeSandbox, command: &str) -> CommandOutput {
    sandbox.exec(spec(command)).await.unwrap()
}

async fn text(sandbox: &NativeSandbox, command: &str) -> String {
    let output = run(sandbox, command).await;
    String::from_utf8_lossy(&[output.stdout.bytes, output.stderr.bytes].concat()).into_owned()
}

#[tokio::test]
async fn another_session_is_not_accessible() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    for attempt in [
        "cat ../s2/secret",
        "ls ..",
        "ls ../s2",
        "echo x > ../s2/new",
        "rm ../s2/secret",
        "cat /etc/shadow",
    ] {
        assert_ne!(run(&sandbox, attempt).await.status, CommandStatus::Exited(0), "{attempt}");
    }
    assert_eq!(
        text(
            &sandbox,
            "echo kept > f && cat f && ls && cat /proc/uptime > /dev/null && wc -l < /dev/null"
        )
        .await,
        "kept\nf\n0\n"
    );
    assert_eq!(fs::read_to_string(fixture.root.join("sessions/s2/secret")).unwrap(), "of another");
}

#[tokio::test]
async fn other_processes_of_the_user_are_not_accessible() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    let mut other = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = other.id();
    for attempt in [
        format!("kill -9 {id}"),
        format!("kill -0 {id}"),
        format!("cat /proc/{id}/environ"),
        format!("cat /proc/{id}/cmdline"),
        "ls /proc".to_owned(),
        format!("renice 10 {id}"),
        "renice 10 -u $(id -u)".to_owned(),
        "renice 10 -g 0".to_owned(),
        "ionice -c 3 -u $(id -u)".to_owned(),
        format!("prlimit --pid {id} --nofile=0"),
        format!("taskset -p 1 {id} > /dev/null"),
    ] {
        let ran = run(&sandbox, &attempt).await;
        assert_ne!(ran.status, CommandStatus::Exited(0), "{attempt}");
        assert!(ran.stdout.bytes.is_empty(), "{attempt}: {ran:?}");
    }
    // Signals every accessible process, which is only the command itself.
    run(&sandbox, "kill -9 -1").await;
    assert!(other.try_wait().unwrap().is_none());
    assert_eq!(
        text(&sandbox, "sleep 100 & kill $! && wait $!; echo $?").await,
        "143\n",
        "a command can signal its own processes"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn two_commands_cannot_access_each_other() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    let seconds = unique_seconds();
    let first = format!("echo $$ > pid; exec sleep {seconds}");
    let mut first = spec(&first);
    first.timeout = Duration::from_secs(2);
    let second = async {
        eventually("the first runs", || alive(&seconds)).await;
        let ran = run(&sandbox, "kill -9 $(cat pid); kill -9 -1").await;
        assert!(alive(&seconds), "{ran:?}");
    };
    let (first, ()) = tokio::join!(sandbox.exec(first), second);
    assert_eq!(first.unwrap().status, CommandStatus::TimedOut);
    assert!(!alive(&seconds));
}

#[tokio::test]
async fn a_chain_of_fast_forks_is_killed() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    if text(&sandbox, "command -v perl").await.is_empty() {
        return skipped("a chain of forks", "package perl-base");
    }
    let markers = [unique_seconds(), unique_seconds()];
    // A chain in which each process only forks the next one, and a tree of sessions that ignore
    // every signal they can.
    let command = format!(
        "perl -e 'while (1) {{ my $p = fork; exit if $p }}' {} & \
         (trap '' TERM HUP INT; setsid setsid bash -c 'sleep {} & sleep 1000 & wait' &) ; \
         sleep 0.2; exit 3",
        markers[0], markers[1]
    );
    for _ in 0..5 {
        assert_eq!(run(&sandbox, &command).await.status, CommandStatus::Exited(3));
        assert!(!alive(&markers[0]) && !alive(&markers[1]));
    }
}

#[tokio::test]
async fn attributes_cannot_be_changed_unless_the_weakness_is_accepted() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    fs::write(fixture.dir.join("script"), "").unwrap();
    let secret = fixture.root.join("sessions/s2/secret");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    for attempt in [
        "chmod +x script",
        "chmod 777 ../s2/secret",
        "touch -d 2001-01-01 ../s2/secret",
        "chown 1 ../s2/secret",
    ] {
        assert_ne!(run(&sandbox, attempt).await.status, CommandStatus::Exited(0), "{attempt}");
    }
    assert_eq!(
        text(&sandbox, "touch new && touch new && ls").await,
        "new\nscript\n",
        "the times of an open file"
    );
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&secret), 0o600);
    let Some(lenient) = opened(&fixture, &[Weakness::Attributes]) else { return };
    assert_eq!(text(&lenient, "chmod 700 script && touch -d 2001-01-01 script").await, "");
    assert_eq!(mode(&fixture.dir.join("script")), 0o700);
    assert!(lenient.report().filesystem.to_string().contains("attributes"));
}

#[tokio::test]
async fn temporary_files_are_private_and_removed_with_the_session() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    let other = opened(&fixture, &[]).unwrap();
    let dir = sandbox.temporary_dir().to_owned();
    assert!(dir.is_dir() && dir != other.temporary_dir());
    assert_eq!(
        text(
            &sandbox,
            &format!("cd {0} && echo kept > f && mkdir -m 0 closed && cat f", dir.display())
        )
        .await,
        "kept\n"
    );
    assert_ne!(
        run(&other, &format!("cat {}/f", dir.display())).await.status,
        CommandStatus::Exited(0)
    );
    assert_ne!(run(&sandbox, "echo x > /tmp/x").await.status, CommandStatus::Exited(0));
    sandbox.close().await;
    assert!(!dir.exists());
    let dir = other.temporary_dir().to_owned();
    drop(other);
    eventually("dropping the session removes it too", || !dir.exists()).await;
}

#[tokio::test]
async fn an_unenforceable_rule_prevents_opening_until_it_is_accepted() {
    let fixture = fixture();
    if opened(&fixture, &[]).is_none() {
        return;
    }
    fs::write(fixture.dir.join(".bashrc"), "").unwrap();
    let error = open(&fixture, &[]).unwrap_err();
    assert!(
        matches!(error, OpenError::WeaknessNotAccepted { weakness: Weakness::InnerRules, .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains(".bashrc")
            && error.to_string().contains("--accept inner-rules`"),
        "{error}"
    );
    let accepted = open(&fixture, &["inner-rules".parse().unwrap()]).unwrap();
    assert!(accepted.report().filesystem.to_string().contains(".bashrc"));
    assert_eq!(text(&accepted, "echo x >> .bashrc").await, "");
    // `allows` follows the policy, not the weaker enforcement.
    assert!(!accepted.allows(&fixture.dir.join(".bashrc"), policy::Access::Write));

    let mut config = Policy::session(&fixture.dir).build().unwrap().config().clone();
    config.network.allow_all_unix_sockets = Some(true);
    let sockets = Policy::from_config(config, "/root".as_ref()).unwrap();
    let error = landlock(&sockets, &fixture.dir, &Weakness::ALL).unwrap_err();
    assert!(matches!(error, OpenError::UnsupportedPolicy { .. }), "{error:?}");
}

#[tokio::test]
async fn every_file_beside_a_denied_one_is_accessible() {
    let fixture = fixture();
    let Some(tree) = crate::fixture::directory_in_sight() else {
        return skipped("files beside a denied one", crate::fixture::NO_DIRECTORY_IN_SIGHT);
    };
    let tree = tree.path().canonicalize().unwrap();
    for name in 0..300 {
        fs::write(tree.join(name.to_string()), "open").unwrap();
    }
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o755)).unwrap();
    let policy = Policy::reference(&fixture.dir)
        .home("/nonexistent".as_ref())
        .deny_read(&tree.join("7"))
        .build()
        .unwrap();
    let sandbox = match landlock(&policy, &fixture.dir, &[]) {
        Ok(sandbox) => sandbox,
        Err(error) => return skipped("the tier without namespaces", &error.to_string()),
    };
    let read =
        format!("cd {}; cat {{0..299}} 2>/dev/null | wc -c; ls | wc -l; cat 7", tree.display());
    let ran = run(&sandbox, &read).await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout.bytes), format!("{}\n0\n", 299 * 4), "{ran:?}");
}

#[tokio::test]
async fn closing_waits_until_every_process_is_dead() {
    let fixture = fixture();
    let Some(sandbox) = opened(&fixture, &[]) else { return };
    let seconds = unique_seconds();
    let command = format!("(setsid sleep {seconds} &) ; sleep 1000");
    let running = sandbox.exec(spec(&command));
    let closing = async {
        eventually("the command runs", || alive(&seconds)).await;
        sandbox.close().await;
        assert!(!alive(&seconds), "closing waits until all are dead");
    };
    let (ran, ()) = tokio::join!(running, closing);
    assert!(ran.is_err());
}

//! Symbolic refs in repositories of the user.

use sandbox_core::{CommandStatus, Sandbox};

use super::host;

#[tokio::test]
async fn a_quarantined_ref_is_no_ref_any_more_and_is_reported_once() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    let write = "cd checkout/.git/refs/heads; mkdir a; printf 'ref: ../../x\n' > a/b";
    let ran = host.run(&sandbox, write).await;
    let git_dir = host.root.join("user/checkout/.git");
    let moved_to: Vec<_> = ran.quarantined.into_iter().filter_map(|file| file.moved_to).collect();
    assert_eq!(moved_to, [git_dir.join("refs-heads-a-b.refused")]);
    for sandbox in [sandbox, host.sandbox()] {
        for _ in 0..2 {
            let ran = host.run(&sandbox, "true").await;
            assert!(ran.quarantined.is_empty(), "{ran:?}");
        }
        sandbox.close().await;
    }
    let quiet = "[ -z \"$(git -C checkout for-each-ref 2>&1 >/dev/null)\" ]";
    assert!(host.bash(quiet, &host.root.join("user")));
}

#[tokio::test]
async fn a_symbolic_ref_may_lead_to_the_head() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    let script = "cd checkout && git symbolic-ref refs/heads/s HEAD && git rev-parse s";
    let ran = host.run(&sandbox, script).await;
    assert!(ran.quarantined.is_empty() && ran.status == CommandStatus::Exited(0), "{ran:?}");
    sandbox.close().await;
}

//! Failing stores: nothing is lost, and retries store everything.

use std::time::Duration;

use artifact_sync::Mirror;
use testkit::{Calls, FailingStore, Failure};

use crate::machine::{Machine, changed, expected, keys};

/// Runs a session with every kind of change. Returns the files that both sides must have in the
/// end.
async fn session(machine: &Machine) -> std::collections::BTreeMap<String, String> {
    machine.put("upload", "u").await;
    let Ok(mirror) = machine.try_open_with(|mirror| mirror).await else {
        return expected(&[("upload", "u")]);
    };
    machine.write("a", "1");
    machine.write("d/b", "2");
    machine.write("gone", "3");
    let _ = mirror.sync().await.unwrap();
    machine.write("a", "changed");
    machine.remove("gone");
    let _ = mirror.sync().await.unwrap();
    expected(&[("a", "changed"), ("d/b", "2"), ("upload", "u")])
}

#[tokio::test]
async fn a_failure_at_any_call_loses_nothing_and_the_next_session_recovers() {
    let count = {
        let store = FailingStore::new();
        let machine = Machine::new(store.clone());
        session(&machine).await;
        store.count(Calls::All)
    };
    assert!(count > 6, "the session talks to the store: {count}");
    let faults = [Failure::Rejected, Failure::ResponseLost, Failure::Truncated];
    for (fault, lasting) in faults.into_iter().flat_map(|fault| [(fault, 1), (fault, usize::MAX)]) {
        // The first call is the user's upload.
        for first in 1..=count {
            let store = FailingStore::new();
            let machine = Machine::new(store.clone());
            store.set_failure(fault);
            store.fail(Calls::All, first, lasting);
            let wanted = session(&machine).await;
            store.recover();
            let mirror = machine.open().await;
            let report = mirror.opened().clone();
            assert!(report.problems().is_empty(), "{report:?}");
            let report = mirror.sync().await.unwrap();
            assert!(report.is_complete(), "{fault:?} at {first}: {report:?}");
            mirror.flush().await.unwrap();
            assert_eq!(
                machine.objects().await,
                wanted,
                "store, {fault:?} at {first}, {lasting} times"
            );
            assert_eq!(machine.files(), wanted, "directory, {fault:?} at {first}, {lasting} times");
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_every_third_call_receives_everything_in_the_end() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open().await;
    store.set_failure(Failure::Random);
    store.fail(Calls::All, 0, usize::MAX);
    for round in 0..40 {
        machine.write(&format!("f{}", round % 7), &format!("{round}"));
        if round % 5 == 4 {
            machine.remove(&format!("f{}", round % 7));
        }
        // The call returns a report whatever the store answers, and written files are kept.
        let report = mirror.sync().await.unwrap();
        assert!(report.conflicts.is_empty(), "{round}: {report:?}");
    }
    let mut rounds = 0;
    // A flush also resolves an entry that has no answer yet.
    while !mirror.flush().await.unwrap().is_complete() {
        rounds += 1;
        assert!(rounds < 50, "{:?}", mirror.pending());
    }
    store.recover();
    mirror.flush().await.unwrap();
    assert_eq!(machine.objects().await, machine.files());
    assert!(machine.files().len() >= 5);
}

#[tokio::test(start_paused = true)]
async fn pending_changes_are_retried_in_the_background_and_reported_by_the_next_call() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open().await;
    machine.write("a", "1");
    store.fail(Calls::All, 0, usize::MAX);
    assert_eq!(mirror.sync().await.unwrap().pending.len(), 1);
    store.recover();
    machine.write("b", "for the next call");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !machine.objects().await.is_empty() {
            break;
        }
    }
    assert_eq!(machine.objects().await, expected(&[("a", "1")]));
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), ["a", "b"]);
    assert!(report.changed.iter().all(|changed| changed.key.is_some()), "{report:?}");
}

#[tokio::test]
async fn a_rejected_change_is_pending_with_the_reason_until_it_is_stored() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open().await;
    machine.write("a", "1");
    store.fail(Calls::All, 0, usize::MAX);
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), ["a"], "a change is reported even if it is not stored");
    assert_eq!(report.changed[0].key, None);
    assert!(report.pending[0].reason.contains("the connection was lost"), "{report:?}");
    let report = mirror.sync().await.unwrap();
    assert_eq!((report.changed.len(), report.still_pending), (0, 1), "but not again");
    drop(mirror);

    let mirror = machine.open().await;
    let pending = mirror.pending();
    assert_eq!((pending.len(), pending[0].path.as_str()), (1, "a"));
    assert!(
        pending[0].reason.contains("the connection was lost"),
        "the reason outlives the process: {pending:?}"
    );
    store.recover();
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.pending.len()), (vec!["a"], 0));
    assert!(mirror.pending().is_empty());
}

#[tokio::test]
async fn a_call_waits_for_a_hanging_store_only_until_the_deadline() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("session");
    let mirror = Mirror::builder(&dir, FailingStore::hanging(), keys())
        .state_dir(place.path().join("state"))
        .deadline(Duration::from_millis(50))
        .open()
        .await
        .unwrap();
    std::fs::write(dir.join("a"), "1").unwrap();
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.pending[0].path.as_str()), (vec!["a"], "a"));
    let report = mirror.sync().await.unwrap();
    assert_eq!((report.pending.len(), report.still_pending), (0, 1), "told once: {report:?}");
}

#[tokio::test]
async fn a_pending_removal_is_no_changed_file() {
    let store = FailingStore::new();
    let machine = Machine::new(store.clone());
    let mirror = machine.open().await;
    machine.write("a", "1");
    assert!(mirror.sync().await.unwrap().is_complete());
    store.fail(Calls::All, 0, usize::MAX);
    machine.remove("a");
    let report = mirror.sync().await.unwrap();
    assert_eq!((report.changed.len(), report.pending.len()), (0, 1), "{report:?}");
    store.recover();
    let report = mirror.sync().await.unwrap();
    assert_eq!((report.changed.len(), report.deleted.len()), (0, 1), "{report:?}");
}

//! Releases of sessions that are idle.

use super::*;

#[tokio::test]
async fn an_idle_release_costs_one_append_and_so_does_the_next_call() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    let mirror = a.own().await;
    let call = mirror.begin_call().await.unwrap();
    assert!(!mirror.release_if_idle().await.unwrap(), "a call is running");
    drop(call);
    a.machine.write("a", "2");
    assert!(!mirror.release_if_idle().await.unwrap(), "a change is not stored");
    mirror.sync().await.unwrap();
    let count = store.count(Calls::All);
    assert!(mirror.release_if_idle().await.unwrap());
    assert!(mirror.release_if_idle().await.unwrap());
    assert_eq!(store.count(Calls::All), count + 1);
    let call = mirror.begin_call().await.unwrap();
    assert_eq!(store.count(Calls::All), count + 2);
    assert!(changed(&mirror.sync().await.unwrap()).is_empty());
    call.confirm().await.unwrap();
    assert_eq!(store.count(Calls::All), count + 2, "nothing is restored");
}

#[tokio::test]
async fn a_call_after_a_release_follows_what_other_homes_stored_meanwhile() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let first = a.own().await;
    assert!(first.release_if_idle().await.unwrap());
    let second = b.open(Takeover::Refuse).await.unwrap();
    let call = second.begin_call().await.unwrap();
    b.machine.write("a", "2");
    second.sync().await.unwrap();
    drop(call);
    assert!(second.release_if_idle().await.unwrap());
    for unannounced in [false, true] {
        let _call = if unannounced { None } else { Some(first.begin_call().await.unwrap()) };
        first.sync().await.unwrap();
        assert_eq!(a.machine.files(), expected(&[("a", "2")]));
    }
    a.machine.write("c", "3");
    assert_eq!(changed(&first.sync().await.unwrap()), ["c"]);
}

#[tokio::test]
async fn a_lost_answer_to_a_release_or_to_its_reversal_loses_nothing() {
    for failing in [1, 2, 3] {
        let store = FailingStore::new();
        let a = Home::new(&store, "a");
        let mirror = a.own().await;
        store.set_failure(testkit::Failure::ResponseLost);
        store.fail(Calls::All, 0, failing);
        let _ = mirror.release_if_idle().await;
        for _ in 0..failing {
            let _ = mirror.begin_call().await;
        }
        store.recover();
        let call = mirror.begin_call().await.unwrap();
        a.machine.write("b", "1");
        assert!(mirror.sync().await.unwrap().is_complete());
        call.confirm().await.unwrap();
        assert_eq!(a.machine.objects().await, a.machine.files());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_released_in_the_background() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    let idle = Duration::from_secs(30);
    let set = |mirror: artifact_sync::MirrorBuilder| {
        mirror.heartbeat(&a.heartbeat, Takeover::Refuse).release_after(idle)
    };
    let mirror = a.machine.open_with(set).await;
    a.machine.write("a", "1");
    mirror.sync().await.unwrap();
    let is_released = async || entries(&*store).await.last().unwrap().contains(r#""release""#);
    let call = mirror.begin_call().await.unwrap();
    tokio::time::sleep(idle * 3).await;
    assert!(!is_released().await);
    drop(call);
    let mut waited = Duration::ZERO;
    while !is_released().await {
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited += Duration::from_secs(1);
        assert!(waited < idle * 4, "the session is idle");
    }
    assert!(waited >= idle - Duration::from_secs(1), "{waited:?}");
}

//! Ownership of sessions by homes that share a store.

mod homes;
mod releases;

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::internal::Timings;
use artifact_sync::{Heartbeat, HomeId, Mirror, SyncError, Takeover};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use testkit::{Calls, Conditions, FailingStore};
use tokio::time::{Instant, timeout};

use crate::machine::{LOG, Machine, changed, expected};

pub(crate) const GENERAL: &str = "general";

/// Machine with a home.
struct Home {
    machine: Machine,
    heartbeat: Heartbeat,
}

impl Home {
    fn new(store: &Arc<FailingStore>, name: &str) -> Self {
        Self::with(store, name, Timings::default())
    }

    fn with(store: &Arc<FailingStore>, name: &str, timings: Timings) -> Self {
        let machine = Machine::new(store.clone());
        let home = HomeId::load_or_create(&machine.state().with_file_name("id")).unwrap();
        Self::of(machine, home, name, timings)
    }

    fn of(machine: Machine, home: HomeId, name: &str, timings: Timings) -> Self {
        let (store, general) = (machine.store.clone(), Key::from(GENERAL));
        let url = Some(format!("http://{name}"));
        let heartbeat =
            Heartbeat::start_with(move || Ok(store), &general, home, url, timings).unwrap();
        Self { machine, heartbeat }
    }

    async fn open(&self, takeover: Takeover) -> Result<Mirror, SyncError> {
        let set =
            |mirror: artifact_sync::MirrorBuilder| mirror.heartbeat(&self.heartbeat, takeover);
        self.machine.try_open_with(set).await
    }

    /// Opens a mirror, stores a file and returns the mirror.
    async fn own(&self) -> Mirror {
        let mirror = self.open(Takeover::Refuse).await.unwrap();
        self.machine.write("a", "1");
        assert!(mirror.sync().await.unwrap().is_complete());
        mirror
    }

    /// Stores a beat of this home, which its thread would send later.
    async fn beat(&self, text: &str) {
        let url = self.heartbeat.url().unwrap();
        let beat = format!(r#"{{"format":1,"url":"{url}","beat":"{text}"}}"#);
        self.machine.store.put(&beat_key(&self.heartbeat), beat.into()).await.unwrap();
    }
}

fn beat_key(heartbeat: &Heartbeat) -> Key {
    Key::from(format!("{GENERAL}/owners/{}", heartbeat.home()))
}

/// Returns the text of all log entries in order.
async fn entries(store: &dyn ObjectStore) -> Vec<String> {
    let listing = store.list_with_delimiter(Some(&Key::from(LOG))).await.unwrap();
    let mut objects = listing.objects;
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    let mut entries = Vec::new();
    for object in objects {
        let content = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        entries.push(String::from_utf8(content.to_vec()).unwrap());
    }
    entries
}

fn is_elsewhere(opened: &Result<Mirror, SyncError>, at: &str) -> bool {
    matches!(opened, Err(SyncError::OwnedElsewhere { url }) if url.as_deref() == Some(at))
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_heartbeat_stands_still_is_replaced_after_four_equal_reads() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let stopped = a.own().await;
    a.beat("1").await;
    let start = Instant::now();
    let mirror = b.open(Takeover::Refuse).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(b.machine.files(), expected(&[("a", "1")]));
    b.machine.write("a", "2");
    assert!(mirror.sync().await.unwrap().is_complete());
    a.machine.write("a", "3");
    assert!(matches!(stopped.sync().await, Err(SyncError::LeaseLost)));
    assert_eq!(b.machine.objects().await, expected(&[("a", "2")]));
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_a_heartbeat_is_replaced_unless_it_is_too_new_to_have_one() {
    for (first_beat, seconds) in [(Duration::from_secs(5), 10), (Duration::ZERO, 0)] {
        let store = FailingStore::new();
        let timings = Timings { first_beat, ..Timings::default() };
        let (a, b) = (Home::new(&store, "a"), Home::with(&store, "b", timings));
        let _old = a.own().await;
        let start = Instant::now();
        b.open(Takeover::Refuse).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), seconds);
        assert_eq!(b.machine.files(), expected(&[("a", "1")]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_owner_is_refused_with_its_address_and_waiting_ends_with_its_release() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let owner = a.own().await;
    a.beat("0").await;
    let beats = async {
        for beat in 1.. {
            tokio::time::sleep(Duration::from_secs(10)).await;
            a.beat(&beat.to_string()).await;
        }
    };
    let released = async {
        assert!(is_elsewhere(&b.open(Takeover::Refuse).await, "http://a"));
        let waiting = b.open(Takeover::Wait);
        tokio::pin!(waiting);
        let still = timeout(Duration::from_secs(300), &mut waiting).await;
        assert!(still.is_err(), "the owner is alive");
        assert!(owner.drain(Duration::ZERO).await.unwrap().is_complete());
        waiting.await.unwrap()
    };
    let mirror = tokio::select! {
        mirror = released => mirror,
        () = beats => unreachable!(),
    };
    assert_eq!(b.machine.files(), expected(&[("a", "1")]));
    assert!(mirror.sync().await.is_ok());
    assert!(matches!(owner.begin_call().await, Err(SyncError::Closing)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_stores_while_it_is_watched_is_alive() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let owner = a.own().await;
    a.beat("1").await;
    let stores = async {
        for number in 0.. {
            tokio::time::sleep(Duration::from_secs(3)).await;
            a.machine.write("a", &number.to_string());
            assert!(owner.sync().await.unwrap().is_complete());
        }
    };
    let start = Instant::now();
    tokio::select! {
        opened = b.open(Takeover::Refuse) => assert!(is_elsewhere(&opened, "http://a")),
        () = stores => unreachable!("the owner never stops"),
    }
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn reads_with_a_long_gap_between_them_prove_nothing() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    drop(a.own().await);
    a.beat("1").await;
    let suspended = Timings { longest_gap: Duration::ZERO, ..Timings::default() };
    let b = Home::with(&store, "b", suspended);
    assert!(timeout(Duration::from_secs(600), b.open(Takeover::Wait)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_session_has_an_owner_while_its_first_call_runs() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let mirror = a.open(Takeover::Refuse).await.unwrap();
    let call = mirror.begin_call().await.unwrap();
    a.beat("1").await;
    let beats = async {
        for number in 2.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            a.beat(&number.to_string()).await;
        }
    };
    let refused = tokio::select! {
        opened = b.open(Takeover::Refuse) => opened.unwrap_err(),
        () = beats => unreachable!("the beats never end"),
    };
    assert!(matches!(refused, SyncError::OwnedElsewhere { .. }), "{refused:?}");
    drop(call);
}

#[tokio::test]
async fn a_steal_fences_the_old_owner_which_sends_nothing_more() {
    let store = FailingStore::new();
    let (a, b) = (Home::new(&store, "a"), Home::new(&store, "b"));
    let old = a.own().await;
    let new = b.open(Takeover::Steal).await.unwrap();
    let before = entries(&*store).await;
    a.machine.write("late", "1");
    assert!(!old.is_lost());
    assert!(matches!(old.sync().await, Err(SyncError::LeaseLost)));
    old.lost().await;
    assert!(old.is_lost());
    let count = store.count(Calls::All);
    a.machine.write("later", "1");
    assert!(matches!(old.begin_call().await, Err(SyncError::LeaseLost)));
    assert!(matches!(old.sync().await, Err(SyncError::LeaseLost)));
    assert!(matches!(old.flush().await, Err(SyncError::LeaseLost)));
    assert!(matches!(old.refresh().await, Err(SyncError::LeaseLost)));
    assert!(matches!(old.release_if_idle().await, Err(SyncError::LeaseLost)));
    assert!(matches!(old.drain(Duration::ZERO).await, Err(SyncError::LeaseLost)));
    assert_eq!(store.count(Calls::All), count, "nothing is sent");
    assert_eq!(entries(&*store).await, before);
    assert_eq!(a.machine.files(), expected(&[("a", "1"), ("late", "1"), ("later", "1")]));
    b.machine.write("b", "1");
    assert_eq!(changed(&new.sync().await.unwrap()), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_waiting_homes_becomes_the_owner_and_the_other_waits_on() {
    let store = FailingStore::new();
    let homes: Vec<Home> = ["a", "b", "c"].iter().map(|name| Home::new(&store, name)).collect();
    drop(homes[0].own().await);
    homes[0].beat("1").await;
    let (mut b, mut c) =
        (Box::pin(homes[1].open(Takeover::Wait)), Box::pin(homes[2].open(Takeover::Wait)));
    let patience = Duration::from_secs(25);
    let (winner, loser) = tokio::select! {
        winner = &mut b => (winner.unwrap(), timeout(patience, c).await),
        winner = &mut c => (winner.unwrap(), timeout(patience, b).await),
    };
    assert!(loser.is_err(), "the winner has a heartbeat");
    assert!(winner.sync().await.is_ok());
    let own = entries(&*store).await.iter().filter(|entry| entry.contains(r#""own""#)).count();
    assert_eq!(own, 2);
}

#[tokio::test]
async fn of_two_copies_of_a_home_the_second_writer_fences_the_first() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    let first = a.own().await;
    let home = a.heartbeat.home().clone();
    let copy = Home::of(Machine::new(store.clone()), home, "a", Timings::default());
    let second = copy.open(Takeover::Refuse).await.unwrap();
    assert_eq!(copy.machine.files(), a.machine.files());
    copy.machine.write("a", "copy");
    assert!(second.sync().await.unwrap().is_complete());
    a.machine.write("a", "first");
    assert!(matches!(first.sync().await, Err(SyncError::LeaseLost)));
    assert!(second.sync().await.is_ok());
    assert_eq!(copy.machine.objects().await, expected(&[("a", "copy")]));
}

#[tokio::test]
async fn calls_within_the_lease_cost_nothing_and_later_ones_prove_the_ownership() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    let mirror = a.own().await;
    let count = store.count(Calls::All);
    let call = mirror.begin_call().await.unwrap();
    assert!(changed(&mirror.sync().await.unwrap()).is_empty());
    call.confirm().await.unwrap();
    assert_eq!(store.count(Calls::All), count);
    drop((call, mirror));

    let lapsed = Timings { lease: Duration::ZERO, ..Timings::default() };
    let a = Home::of(a.machine, a.heartbeat.home().clone(), "a", lapsed);
    let mirror = a.open(Takeover::Refuse).await.unwrap();
    let b = Home::new(&store, "b");
    let call = mirror.begin_call().await.unwrap();
    call.confirm().await.unwrap();
    b.open(Takeover::Steal).await.unwrap();
    assert!(matches!(call.confirm().await, Err(SyncError::LeaseLost)));
    assert!(matches!(mirror.begin_call().await, Err(SyncError::LeaseLost)));
}

#[tokio::test]
async fn a_call_in_a_partition_is_not_confirmed_until_the_partition_ends() {
    let store = FailingStore::new();
    let lapsed = Timings { lease: Duration::ZERO, ..Timings::default() };
    let a = Home::with(&store, "a", lapsed);
    let mirror = a.own().await;
    store.fail(Calls::All, 0, usize::MAX);
    let call = mirror.begin_call().await.unwrap();
    a.machine.write("b", "1");
    assert!(!mirror.sync().await.unwrap().is_complete());
    let error = call.confirm().await.unwrap_err();
    assert!(error.is_retryable() && !mirror.is_lost(), "{error}");
    store.recover();
    call.confirm().await.unwrap();
    assert!(mirror.flush().await.unwrap().is_complete());
    assert_eq!(a.machine.objects().await, a.machine.files());
}

#[tokio::test]
async fn draining_waits_for_running_calls_and_releases_the_session() {
    let store = FailingStore::new();
    let a = Home::new(&store, "a");
    let mirror = a.own().await;
    let call = mirror.begin_call().await.unwrap();
    let running = async {
        tokio::task::yield_now().await;
        assert!(matches!(mirror.begin_call().await, Err(SyncError::Closing)));
        a.machine.write("b", "1");
        assert_eq!(changed(&mirror.sync().await.unwrap()), ["b"]);
        drop(call);
    };
    let (drained, ()) = tokio::join!(mirror.drain(Duration::from_secs(60)), running);
    assert!(drained.unwrap().is_complete());
    assert!(entries(&*store).await.last().unwrap().contains(r#""release""#));
    assert!(matches!(mirror.sync().await, Err(SyncError::Closing)));
}

#[tokio::test]
async fn a_store_without_conditional_creation_serves_one_machine_and_says_so() {
    for (conditions, count) in [(Conditions::Honored, 0), (Conditions::Ignored, 1)] {
        let store = FailingStore::with_conditions(conditions);
        let a = Home::new(&store, "a");
        let mirror = a.own().await;
        assert_eq!(mirror.warnings().len(), count, "{conditions:?}");
    }
}

//! Refreshing beside many objects of other programs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::ObjectStoreExt;
use testkit::{assert_passed, rerun};

use crate::machine::{Machine, PREFIX, expected, key};
use generated::GeneratedStore;

mod generated;

const CHILD: &str = "ARTIFACT_SYNC_REFRESH_CHILD";
const MILLION: usize = 1_000_000;
/// Files that other programs put beside them.
const ADOPTED: usize = 1_500;
/// Memory for the pages in flight and the adopted files. A complete listing needs over 250 MB.
const MAX_KILOBYTES: u64 = 40 << 10;

#[tokio::test(flavor = "current_thread")]
async fn a_million_external_keys_need_bounded_memory() {
    if std::env::var_os(CHILD).is_none() {
        // A separate process, so that no other test affects its memory.
        let mut ran = rerun("refresh::a_million_external_keys_need_bounded_memory");
        return assert_passed(&ran.env(CHILD, "1").output().unwrap());
    }
    // Another program keeps a tree in the session that the rules ignore.
    let store = GeneratedStore::new(MILLION, |number| {
        format!("{PREFIX}/node_modules/m{:04}/f{number:07}", number / 1_000)
    });
    let machine = Machine::new(store.clone());
    let capabilities = store.capabilities();
    for number in 0..ADOPTED {
        let directory = if number % 2 == 0 { "a" } else { "z" };
        machine.put(&format!("{directory}/{number:04}"), "by another program").await;
    }
    let before = status_kilobytes("VmHWM:").max(status_kilobytes("VmRSS:"));
    let mirror = machine.open_with(|mirror| mirror.capabilities(capabilities)).await;
    assert_eq!(mirror.opened().restored.len(), ADOPTED);
    assert!(mirror.opened().problems().is_empty(), "{:?}", mirror.opened().problems());
    let pages = store.pages.load(Ordering::Relaxed);
    assert!(pages >= MILLION / 1_000, "the whole prefix was listed: {pages}");
    machine.store.delete(&key("a/0000")).await.unwrap();
    machine.put("z/new", "new").await;
    let refreshed = mirror.refresh().await.unwrap();
    let names = |paths: &[sandbox_core::RelativePath]| -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        (names(&refreshed.restored), names(&refreshed.removed)),
        (vec!["z/new".to_owned()], vec!["a/0000".to_owned()])
    );
    let kilobytes = status_kilobytes("VmHWM:") - before;
    assert!(kilobytes <= MAX_KILOBYTES, "{kilobytes} kB");
}

/// Returns a value of `/proc/self/status` (`proc_pid_status(5)`).
fn status_kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let figure = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    figure.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_recent_listing_is_not_repeated_at_opening_but_by_a_refresh() {
    let store = GeneratedStore::new(0, |_| String::new());
    let machine = Machine::new(store.clone());
    let open = async || {
        let capabilities = store.capabilities();
        let set = |mirror: artifact_sync::MirrorBuilder| {
            mirror.capabilities(capabilities).listing_age(Duration::from_secs(60 * 60))
        };
        machine.open_with(set).await
    };
    let listings = || store.pages.load(Ordering::Relaxed);
    let mirror = open().await;
    assert_eq!(listings(), 1);
    machine.write("mine", "1");
    mirror.sync().await.unwrap();
    drop(mirror);
    machine.put("theirs", "2").await;
    let mirror = open().await;
    assert_eq!(listings(), 1, "the listing is recent");
    assert_eq!(machine.files(), expected(&[("mine", "1")]));
    mirror.refresh().await.unwrap();
    assert_eq!(listings(), 2);
    assert_eq!(machine.files(), expected(&[("mine", "1"), ("theirs", "2")]));
    drop(mirror);
    machine.remove_all();
    std::fs::remove_dir_all(machine.state()).unwrap();
    open().await;
    assert_eq!(listings(), 3, "nothing is known of a new directory");
}

#[tokio::test]
async fn an_empty_object_above_others_is_a_directory_marker() {
    let machine = Machine::in_memory();
    machine.put("d", "").await;
    machine.put("d/file", "1").await;
    machine.put("empty", "").await;
    let mirror = machine.open().await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    assert_eq!(machine.files(), expected(&[("d/file", "1"), ("empty", "")]));
}

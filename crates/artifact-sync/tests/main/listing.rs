//! Listings that odd keys do not end, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact_sync::internal::{Listed, list_pages};
use artifact_sync::{StoreCapabilities, open_directory};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, Result};
use proptest::prelude::*;
use testkit::{assert_passed, rerun};

use bucket::{Bucket, Offsets, raw};

mod bucket;

const PAGE: usize = 1_000;
const CHILD: &str = "ARTIFACT_SYNC_LISTING_CHILD";
const MILLION: usize = 1_000_000;
/// Memory for the pages in flight. All entries would need over 200 MB.
const MAX_KILOBYTES: u64 = 32 << 10;

/// Findings of a listing, sorted.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) objects: Vec<String>,
    pub(crate) odd: Vec<String>,
    pub(crate) incomplete: Vec<String>,
}

pub(crate) async fn list(
    store: &dyn ObjectStore,
    capabilities: &StoreCapabilities,
    prefix: &str,
) -> Found {
    let mut found = Found::default();
    let mut listed = list_pages(store, capabilities, &Key::parse(prefix).unwrap());
    while let Some(listed) = listed.try_next().await.unwrap() {
        match listed {
            Listed::Object(meta) => found.objects.push(meta.location.into()),
            Listed::OddKey { key, .. } => found.odd.push(key),
            Listed::Incomplete { prefix, .. } => found.incomplete.push(prefix),
            other => panic!("{other:?}"),
        }
    }
    found.objects.sort();
    found.odd.sort();
    found
}

/// Lists by page and compares with the keys.
async fn check(bucket: &Arc<Bucket>, prefix: &str) {
    let found = list(&**bucket, &bucket.capabilities(), prefix).await;
    let below = bucket.keys.iter().filter(|key| key.starts_with(&raw(Some(&Key::from(prefix)))));
    let (mut objects, mut odd) = (Vec::new(), Vec::new());
    for key in below {
        match Key::parse(key) {
            Ok(key) => objects.push(String::from(key)),
            Err(_) => odd.push(key.clone()),
        }
    }
    objects.sort();
    assert_eq!((found.objects, found.odd), (objects, odd));
    assert!(found.incomplete.is_empty(), "{:?}", found.incomplete);
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("p/d{:03}/f{number:07}", number / 1_000))
}

/// Odd keys at the beginning, in the middle and at the end, also at the top of the prefix.
fn odd_keys() -> impl Iterator<Item = String> {
    let odd = ["p//x", "p/\tfirst", "p/d003//y", "p/d004/a\tb", "p/d007/./z", "p/tab\there"];
    odd.into_iter().map(str::to_owned)
}

#[tokio::test]
async fn odd_keys_at_any_level_are_reported_and_cost_no_object() {
    for count in [0, 5, PAGE - 1, PAGE, 12 * PAGE + 7] {
        let bucket = Bucket::new(keys(count).chain(odd_keys()).chain(["o".into(), "p0".into()]));
        check(&bucket, "p").await;
        check(&bucket, "").await;
    }
}

#[tokio::test]
async fn a_page_of_odd_keys_costs_one_request_each() {
    let odd = (0..300).map(|number| format!("p/m\t{number:03}"));
    let bucket = Bucket::new(keys(3_000).chain(odd));
    check(&bucket, "p").await;
    let requests = bucket.requests.load(Ordering::Relaxed);
    assert!(requests < 300 + 60, "{requests}");
}

#[tokio::test]
async fn directory_markers_do_not_stop_the_search_for_an_odd_key() {
    let markers = ["p/d001/", "p/d001.x", "p/d002/f0002000/", "p/d002/f0002000/x"];
    let markers = markers.into_iter().map(str::to_owned);
    let bucket = Bucket::new(keys(5_000).chain(markers).chain(odd_keys()));
    check(&bucket, "p").await;
}

#[tokio::test]
async fn a_small_prefix_costs_one_request() {
    let bucket = Bucket::new(keys(PAGE));
    check(&bucket, "p").await;
    assert_eq!(bucket.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_large_prefix_is_listed_in_parallel_with_few_more_requests() {
    let bucket = Bucket::new(keys(40 * PAGE));
    check(&bucket, "p").await;
    assert!(bucket.requests.load(Ordering::Relaxed) <= 40 + 10);
    assert!(bucket.most_under_way.load(Ordering::Relaxed) >= 6);
}

#[tokio::test]
async fn a_server_that_ignores_offsets_loses_only_objects_beside_an_odd_key() {
    let bucket = Bucket::with_offsets(keys(5 * PAGE), Offsets::Ignored);
    check(&bucket, "p").await;

    let odd = ["p/d003/a\tb".to_owned()];
    let bucket = Bucket::with_offsets(keys(5 * PAGE).chain(odd), Offsets::Ignored);
    let found = list(&*bucket, &bucket.capabilities(), "p").await;
    let expected: Vec<String> = keys(5 * PAGE).filter(|key| !key.starts_with("p/d003/")).collect();
    assert_eq!(found.objects, expected);
    assert_eq!(found.odd, ["p/d003/a\tb"]);
    assert_eq!(found.incomplete, ["p/d003/"]);
}

#[tokio::test]
async fn a_store_without_pages_resumes_behind_an_odd_key_at_the_top() {
    let bucket = Bucket::new(
        ["p//x", "p/a/1", "p/before", "p/tab", "p/tab\there", "p/tab ", "p/z", "p/z/1"]
            .map(str::to_owned),
    );
    let found = list(&*bucket, &StoreCapabilities::default(), "p").await;
    // The store fails before it returns what precedes the second odd key.
    assert_eq!(found.objects, ["p/tab ", "p/z", "p/z/1"]);
    assert_eq!(found.odd, ["p//", "p/tab\there"]);
    assert_eq!(found.incomplete, ["p/"]);
}

#[tokio::test]
async fn odd_names_on_the_local_disk_cost_no_object() {
    let root = tempfile::tempdir().unwrap();
    let opened = open_directory(root.path()).unwrap();
    let dir = root.path().join("p");
    for name in ["a", "tab\there", "d/b", "d/tab\there", "d/e/c", "x#1"] {
        testkit::write_file(&dir, name, "content");
    }
    std::os::unix::fs::symlink("/etc", dir.join("d/link")).unwrap();
    let mut found = list(&*opened.store, &opened.capabilities, "p").await;
    // Without an order, everything is listed again after an odd name.
    found.objects.dedup();
    assert_eq!(found.objects, ["p/a", "p/d/b", "p/d/e/c"]);
    assert_eq!(found.odd, ["p/d/link", "p/d/tab\there", "p/tab\there"]);
    assert!(found.incomplete.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_million_objects_are_listed_in_bounded_memory() {
    if std::env::var_os(CHILD).is_none() {
        // A separate process, so that no other test affects its memory.
        let mut ran = rerun("listing::a_million_objects_are_listed_in_bounded_memory");
        return assert_passed(&ran.env(CHILD, "1").output().unwrap());
    }
    let bucket = Bucket::new(keys(MILLION).chain(odd_keys()));
    let capabilities = bucket.capabilities();
    let before = status_kilobytes("VmHWM:").max(status_kilobytes("VmRSS:"));
    let mut listed = list_pages(&*bucket, &capabilities, &Key::from("p"));
    let (mut objects, mut odd) = (0, 0);
    while let Some(listed) = listed.try_next().await.unwrap() {
        match listed {
            Listed::Object(_) => objects += 1,
            Listed::OddKey { .. } => odd += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((objects, odd), (MILLION, odd_keys().count()));
    let kilobytes = status_kilobytes("VmHWM:") - before;
    assert!(kilobytes <= MAX_KILOBYTES, "{kilobytes} kB");
}

/// Returns a value of `/proc/self/status` (`proc_pid_status(5)`).
fn status_kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let figure = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    figure.trim().trim_end_matches(" kB").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn listings_equal_the_keys(
        tails in proptest::collection::btree_set("[ab\t./]{1,5}", 0..40),
        many in 0..3usize,
    ) {
        let tails = tails.into_iter().map(|tail| format!("p/{tail}"));
        // A key that only differs by a closing slash has the same parsed form.
        let bucket = Bucket::new(tails.filter(|key| !key.ends_with('/')).chain(keys(many * PAGE)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&bucket, "p"));
    }
}

#[tokio::test]
async fn a_failing_store_ends_the_listing_with_its_error() {
    #[derive(Debug)]
    struct Failing(Arc<Bucket>, AtomicUsize);

    #[async_trait]
    impl PaginatedListStore for Failing {
        async fn list_paginated(
            &self,
            prefix: Option<&str>,
            options: PaginatedListOptions,
        ) -> Result<PaginatedListResult> {
            if self.1.fetch_add(1, Ordering::Relaxed) == 4 {
                return Err(Error::Generic {
                    store: "s",
                    source: "the connection was lost".into(),
                });
            }
            self.0.list_paginated(prefix, options).await
        }
    }

    let bucket = Bucket::new(keys(20 * PAGE));
    let mut capabilities = StoreCapabilities::default();
    capabilities.pages = Some(Arc::new(Failing(Arc::clone(&bucket), AtomicUsize::new(0))));
    let listed: Vec<_> = list_pages(&*bucket, &capabilities, &Key::from("p")).collect().await;
    assert!(listed.len() < 20 * PAGE);
    assert!(listed.last().unwrap().is_err());
    assert_eq!(listed.iter().filter(|listed| listed.is_err()).count(), 1);
}

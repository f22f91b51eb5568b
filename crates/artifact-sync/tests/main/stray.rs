//! Objects of other programs under the number of an entry.

use std::sync::Arc;
use std::time::Duration;

use artifact_sync::{GarbageOptions, LogView, SyncError};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use sandbox_core::with_causes;
use testkit::ClockStore;

use crate::machine::{LOG, Machine, expected, keys};

fn number(number: u64) -> Key {
    Key::parse(format!("{LOG}/{number:020}")).unwrap()
}

fn check(error: &SyncError, far: u64) {
    let text = with_causes(error);
    for part in ["ends with entry 3, but", number(far).as_ref(), "delete that object", "--refill"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn an_object_far_behind_the_end_is_named_with_the_remedy() {
    let machine = Machine::in_memory();
    let far = 999_999;
    machine.store.put(&number(far), "of another program".into()).await.unwrap();
    let error = with_causes(&machine.try_open_with(|mirror| mirror).await.unwrap_err());
    assert!(error.contains("is empty, but") && error.contains(number(far).as_ref()), "{error}");
    machine.store.delete(&number(far)).await.unwrap();
    let mirror = machine.open().await;
    for content in ["1", "2"] {
        machine.write("f", content);
        assert!(mirror.sync().await.unwrap().is_complete());
    }
    assert!(mirror.release_if_idle().await.unwrap());
    assert_eq!(mirror.entry(), 3);
    let entry = machine.store.get(&number(2)).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(entry.to_vec()).unwrap();
    for (far, content) in [
        (999_999, "of another program"),
        (999_999, ""),
        // A copy of an entry.
        (999_999, &text),
        (5, "of another program"),
        (u64::MAX, "of another program"),
    ] {
        machine.store.put(&number(far), content.to_owned().into()).await.unwrap();
        let cold = Machine::new(Arc::clone(&machine.store));
        check(&cold.try_open_with(|mirror| mirror).await.unwrap_err(), far);
        check(&cold.try_open_with(|mirror| mirror.refill()).await.unwrap_err(), far);
        let view = LogView::open(Arc::clone(&machine.store), keys(), None).await;
        check(&view.unwrap_err(), far);
        check(&mirror.history(None).await.unwrap_err(), far);
        // The remedy.
        machine.store.delete(&number(far)).await.unwrap();
        cold.open().await;
        assert_eq!(cold.files(), expected(&[("f", "2")]));
    }
}

#[tokio::test]
async fn an_object_far_behind_the_end_stops_neither_the_owner_nor_the_collection_of_garbage() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let clock = ClockStore::new(Arc::new(InMemory::new()));
    let machine = Machine::new(clock.clone());
    let mirror = machine.open().await;
    machine.store.put(&number(999_999), "of another program".into()).await.unwrap();
    let mut deleted = 0;
    for content in ["1", "2", "3", "4"] {
        machine.write("f", content);
        assert!(mirror.sync().await.unwrap().is_complete());
        let report = mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
        deleted += report.entries;
        clock.advance(2 * DAY);
    }
    assert!(deleted > 2, "{deleted}");
    assert!(machine.store.head(&number(999_999)).await.is_ok());
    assert!(mirror.sync().await.unwrap().is_complete());
}

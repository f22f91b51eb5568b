//! Differences between stores that `object_store` does not express in types.
//!
//! They are recognised by texts and error fields of `object_store`, which the tests below pin.

use std::fmt::{self, Write};
use std::io;

use object_store::path::Path as Key;
use object_store::{Error, ObjectStore};

/// Name of the local disk store in `Display`, `Debug`, and [`Error::Generic`].
const LOCAL_DISK: &str = "LocalFileSystem";

/// Longest prefix of a store's `Debug` text that is searched. The text of an in-memory store
/// contains all objects.
const MAX_DEBUG_BYTES: usize = 4_096;

/// Returns whether a store, or the store that it wraps, copies an object by a hard link.
pub(super) fn copies_by_hard_link(store: &dyn ObjectStore) -> bool {
    if store.to_string().contains(LOCAL_DISK) {
        return true;
    }
    // `PrefixStore` does not display the store that it wraps, but its `Debug` text shows it.
    let mut text = Prefix(String::new());
    let _ = write!(text, "{store:?}");
    text.0.contains(&format!("inner: {LOCAL_DISK} {{"))
}

/// Beginning of a long text. Formatting stops at [`MAX_DEBUG_BYTES`].
struct Prefix(String);

impl Write for Prefix {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() < MAX_DEBUG_BYTES { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Returns whether a listing ended because a key in it is not a valid path.
pub(super) fn is_invalid_key_in_listing(error: &Error) -> bool {
    matches!(error, Error::InvalidPath { .. } | Error::Generic { store: LOCAL_DISK, .. })
}

/// Returns whether a store can never hold an object with this key.
pub(super) fn rejects_key_permanently(error: &Error, key: &Key) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::InvalidFilename)
        {
            return true;
        }
        cause = error.source();
    }
    match error {
        Error::InvalidPath { .. } => true,
        Error::Generic { store, .. } => *store == LOCAL_DISK && is_upload_name(key),
        _ => false,
    }
}

/// Returns whether the local disk store reserves this name for uploads in progress:
/// `<name>#<number>`.
fn is_upload_name(key: &Key) -> bool {
    let number = key.as_ref().rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::limit::LimitStore;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use object_store::prefix::PrefixStore;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;

    #[test]
    fn the_local_disk_is_recognised_bare_and_wrapped() {
        let local = || LocalFileSystem::new();
        assert_eq!(local().to_string(), "LocalFileSystem(file:///)");
        assert!(format!("{:?}", local()).starts_with("LocalFileSystem {"));
        let prefixed = PrefixStore::new(local(), "a/b");
        assert_eq!(prefixed.to_string(), "PrefixObjectStore(a/b)");
        let limited = LimitStore::new(local(), 2);
        assert_eq!(limited.to_string(), "LimitStore(2, LocalFileSystem(file:///))");
        let throttled = ThrottledStore::new(local(), ThrottleConfig::default());
        assert_eq!(throttled.to_string(), "ThrottledStore(LocalFileSystem(file:///))");
        let erased: Arc<dyn ObjectStore> = Arc::new(local());
        let stores: [Box<dyn ObjectStore>; 7] = [
            Box::new(local()),
            Box::new(Arc::new(local())),
            Box::new(PrefixStore::new(LimitStore::new(local(), 2), "c")),
            Box::new(PrefixStore::new(erased, "d")),
            Box::new(prefixed),
            Box::new(limited),
            Box::new(throttled),
        ];
        for store in stores {
            assert!(copies_by_hard_link(&*store), "{store}");
        }
    }

    #[tokio::test]
    async fn other_stores_are_not_taken_for_the_local_disk() {
        let memory = InMemory::new();
        memory.put(&Key::from("LocalFileSystem"), "LocalFileSystem".into()).await.unwrap();
        memory.put(&Key::from("large"), vec![b'x'; 1 << 20].into()).await.unwrap();
        assert_eq!(memory.to_string(), "InMemory");
        assert!(!copies_by_hard_link(&memory));
        assert!(!copies_by_hard_link(&PrefixStore::new(memory, "LocalFile")));
    }

    #[tokio::test]
    async fn errors_of_a_wrapped_local_disk_name_it() {
        let root = tempfile::tempdir().unwrap();
        let local = LocalFileSystem::new_with_prefix(root.path()).unwrap();
        let store = PrefixStore::new(local, "p");
        for (name, is_permanent) in [("a#1", true), (&*"n".repeat(256), true), ("a", false)] {
            let key = Key::parse(name).unwrap();
            let stored = store.put(&key, "x".into()).await;
            assert_eq!(stored.is_err(), is_permanent, "{name}");
            let Err(error) = stored else { continue };
            assert!(rejects_key_permanently(&error, &key), "{error:?}");
        }
        std::fs::write(root.path().join("p/tab\there"), "x").unwrap();
        let listed: Result<Vec<_>, _> = store.list(None).try_collect().await;
        assert!(is_invalid_key_in_listing(&listed.unwrap_err()));
    }
}

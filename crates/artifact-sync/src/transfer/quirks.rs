//! Differences between stores that `object_store` does not express in types.
//!
//! They are recognised by texts and error fields of `object_store`, which the tests below pin.

use std::fmt::{self, Write};
use std::io;

use object_store::path::Path as Key;
use object_store::{Error, ObjectStore};

use crate::transfer::stores::StoreCapabilities;

/// Name of the local disk store in `Display`, `Debug`, and [`Error::Generic`].
const LOCAL_DISK: &str = "LocalFileSystem";

/// Longest prefix of a store's `Debug` text that is searched. The text of an in-memory store
/// contains all objects.
const MAX_DEBUG_BYTES: usize = 4_096;

/// Returns whether a store, or the store that it wraps, is a directory of the local disk. It copies
/// an object by a hard link then.
pub(crate) fn is_on_local_disk(store: &dyn ObjectStore) -> bool {
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
pub(crate) fn is_invalid_key_in_listing(error: &Error) -> bool {
    matches!(error, Error::InvalidPath { .. } | Error::Generic { store: LOCAL_DISK, .. })
}

/// Returns whether an error says that an object does not exist. Below an object, the local disk
/// fails differently, because a file is no directory.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) || is_caused_by(error, io::ErrorKind::NotADirectory)
}

/// Returns whether a put may have failed because a directory has the name of the object. On the
/// local disk, creation then fails like that of an existing object.
pub(super) fn is_directory_in_the_way(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. }) || is_caused_by(error, io::ErrorKind::IsADirectory)
}

/// Describes an object whose name a directory of a store on the local disk has.
pub(super) fn name_of_a_directory() -> Error {
    let problem = "the store has a directory of this name, which other programs use";
    let source = io::Error::new(io::ErrorKind::IsADirectory, problem).into();
    Error::Generic { store: LOCAL_DISK, source }
}

fn is_caused_by(error: &Error, kind: io::ErrorKind) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns whether a store can never hold an object with this key.
pub(super) fn rejects_key_permanently(error: &Error, key: &Key) -> bool {
    let permanent = [io::ErrorKind::InvalidFilename, io::ErrorKind::IsADirectory];
    if permanent.iter().any(|kind| is_caused_by(error, *kind)) {
        return true;
    }
    match error {
        Error::InvalidPath { .. } => true,
        Error::Generic { store, .. } => {
            *store == LOCAL_DISK && key.filename().is_some_and(is_upload_name)
        }
        _ => false,
    }
}

/// Returns whether the local disk store reserves a file name for uploads in progress:
/// `<name>#<number>`. Only the first `#` counts.
pub(super) fn is_upload_name(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Group of stores whose keys have the same limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLimits {
    /// Each key is a file on the local disk.
    LocalDisk,
    /// Keys are texts.
    Text,
}

impl KeyLimits {
    /// Returns the limits of a store.
    pub fn of(store: &dyn ObjectStore, capabilities: &StoreCapabilities) -> Self {
        if capabilities.root.is_some() || is_on_local_disk(store) {
            Self::LocalDisk
        } else {
            Self::Text
        }
    }
}

/// Longest file name of Linux file systems (`NAME_MAX`, `limits.h`).
const MAX_NAME_BYTES: usize = 255;
/// Shortest suffix of an upload in progress.
const UPLOAD_SUFFIX_BYTES: usize = "#1".len();

/// Returns an explanation if a store cannot hold an object with this key. The content of such a
/// file can still be stored under another key.
pub fn projection_key_problem(key: &Key, limits: KeyLimits) -> Option<&'static str> {
    let name = key.filename()?;
    if limits == KeyLimits::Text {
        return None;
    }
    if is_upload_name(name) {
        Some("a store on the local disk reserves names that end with # and a number")
    } else if name.len() > MAX_NAME_BYTES - UPLOAD_SUFFIX_BYTES {
        Some("a store on the local disk holds no name of more than 253 bytes")
    } else {
        None
    }
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
            assert!(is_on_local_disk(&*store), "{store}");
        }
    }

    #[tokio::test]
    async fn other_stores_are_not_taken_for_the_local_disk() {
        let memory = InMemory::new();
        memory.put(&Key::from("LocalFileSystem"), "LocalFileSystem".into()).await.unwrap();
        memory.put(&Key::from("large"), vec![b'x'; 1 << 20].into()).await.unwrap();
        assert_eq!(memory.to_string(), "InMemory");
        assert!(!is_on_local_disk(&memory));
        assert!(!is_on_local_disk(&PrefixStore::new(memory, "LocalFile")));
    }

    #[tokio::test]
    async fn a_key_without_a_problem_can_be_stored_and_one_with_a_problem_cannot() {
        let root = tempfile::tempdir().unwrap();
        let local = LocalFileSystem::new_with_prefix(root.path()).unwrap();
        let limits = KeyLimits::of(&local, &StoreCapabilities::default());
        assert_eq!(limits, KeyLimits::LocalDisk);
        let (short, long) = ("n".repeat(253), "n".repeat(254));
        for name in ["a", "a#", "a#1", "#7", "a#1x", "a#b#1", "d#1/x", "d/x#1", &short, &long] {
            let key = Key::parse(name).unwrap();
            let problem = projection_key_problem(&key, limits);
            let stored = local.put(&key, "x".into()).await;
            assert_eq!(problem.is_none(), stored.is_ok(), "{name}: {problem:?} {stored:?}");
            assert_eq!(projection_key_problem(&key, KeyLimits::Text), None);
        }
        let memory = KeyLimits::of(&InMemory::new(), &StoreCapabilities::default());
        assert_eq!(memory, KeyLimits::Text);
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

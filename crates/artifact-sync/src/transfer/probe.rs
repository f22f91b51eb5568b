//! Properties of a store that only a test shows.
//!
//! Some stores have no conditional requests, and some accept a condition but ignore it. A store is
//! therefore probed once per endpoint, with a temporary object, and the result is kept in a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult,
    UpdateVersion,
};
use sandbox_core::STAGED_PREFIX;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::transfer::deletion::{ConditionalDelete, ConditionalDeletion};
use crate::transfer::stores::StoreCapabilities;

mod file;

use file::ProbeFile;

/// Directory of probe objects below the application's prefix.
const DIRECTORY: &str = "probes";
/// Age at which a leftover probe object is deleted.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Attribute whose survival is probed.
const ATTRIBUTE: &str = "probe";

/// Properties of a store, detected once. All mirrors of a store can share one value.
#[derive(Clone, Debug, Default)]
pub struct StoreProbe {
    properties: Arc<OnceCell<StoreProperties>>,
    file: Option<Arc<ProbeFile>>,
    directory: Option<Key>,
}

/// Behaviour of a store that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreProperties {
    /// Enforces a put only if the key is free.
    pub(crate) create: bool,
    /// Enforces a put only if the key holds one version.
    pub(crate) update: bool,
    /// Enforces a deletion only if the key holds one version. Absent if nothing could try.
    pub(crate) delete: Option<bool>,
    /// Keeps attributes of objects.
    pub(crate) keeps_attributes: bool,
}

impl StoreProbe {
    /// Keeps the result in a file, as one record per endpoint. Records expire after 30 days.
    /// `endpoint` is [`OpenedStore::endpoint`](crate::OpenedStore::endpoint) or another text
    /// without credentials.
    #[must_use]
    pub fn persistent(mut self, file: PathBuf, endpoint: String) -> Self {
        self.file = Some(Arc::new(ProbeFile::new(file, endpoint)));
        self
    }

    /// Puts temporary objects below `<prefix>/probes`, instead of the prefix of the mirror.
    #[must_use]
    pub fn below(mut self, prefix: &Key) -> Self {
        self.directory = Some(prefix.clone().join(DIRECTORY));
        self
    }

    /// Like [`StoreProbe::below`], unless a place was set before.
    pub(crate) fn or_below(self, prefix: &Key) -> Self {
        if self.directory.is_some() { self } else { self.below(prefix) }
    }

    /// Returns the properties of the store, if they are known already.
    pub(crate) fn known(&self) -> Option<StoreProperties> {
        self.properties.get().copied()
    }

    /// Returns the properties of the store, from memory, the file, or a probe. `prefix` is used if
    /// no place was set by [`StoreProbe::below`]. After an error, the next call tries again.
    pub(crate) async fn properties(
        &self,
        store: &dyn ObjectStore,
        capabilities: &StoreCapabilities,
        prefix: &Key,
    ) -> Result<StoreProperties, Error> {
        let detect = || async {
            let deleter = capabilities.conditional_delete.as_deref();
            if let Some(file) = &self.file
                && let Some(known) = file.load().await
                && (known.delete.is_some() || deleter.is_none())
            {
                return Ok(known);
            }
            let (key, ()) = futures::join!(self.new_key(prefix), self.sweep(store));
            let properties = probe(store, deleter, &key).await?;
            if let Some(file) = &self.file {
                file.save(properties).await;
            }
            Ok(properties)
        };
        self.properties.get_or_try_init(detect).await.copied()
    }

    /// Returns a key of its own for each probe. Two concurrent probes of one key would report that
    /// no condition is enforced.
    async fn new_key(&self, prefix: &Key) -> Key {
        let mut random = [0; 8];
        // Random keys only avoid a wrong result, so a failure is ignored.
        let _ = getrandom::fill(&mut random);
        let random = format!("{:016x}", u64::from_le_bytes(random));
        match &self.directory {
            Some(directory) => directory.clone().join(random),
            // Mirrors ignore this name.
            None => prefix.clone().join(format!("{STAGED_PREFIX}probe-{random}")),
        }
    }

    /// Deletes objects of probes that were killed.
    async fn sweep(&self, store: &dyn ObjectStore) {
        let Some(directory) = &self.directory else { return };
        let now = SystemTime::now();
        let leftovers = store.list(Some(directory)).try_filter_map(move |meta| {
            std::future::ready(Ok(
                is_leftover(meta.last_modified.into(), now).then_some(meta.location)
            ))
        });
        let mut deleted = store.delete_stream(leftovers.boxed());
        while let Some(deletion) = deleted.next().await {
            if let Err(error) = deletion {
                tracing::debug!(%directory, %error, "cannot sweep leftover probes");
            }
        }
    }
}

/// Probes a store with a temporary object.
async fn probe(
    store: &dyn ObjectStore,
    deleter: Option<&dyn ConditionalDelete>,
    key: &Key,
) -> Result<StoreProperties, Error> {
    let probed = Probe { store, key }.run(deleter).await;
    // A leftover is small and is swept later.
    let _ = store.delete(key).await;
    if let Ok(properties) = probed
        && !(properties.create && properties.update)
    {
        tracing::info!(%store, ?properties, "this store ignores some conditions");
    }
    probed
}

struct Probe<'p> {
    store: &'p dyn ObjectStore,
    key: &'p Key,
}

impl Probe<'_> {
    async fn run(&self, deleter: Option<&dyn ConditionalDelete>) -> Result<StoreProperties, Error> {
        let attributes = Attributes::from_iter([(Attribute::Metadata(ATTRIBUTE.into()), "1")]);
        let (first, attributes) = match self.put("probe", PutMode::Create, &attributes).await {
            Err(error) if lacks_support(&error) => {
                // Either attributes or the condition are not supported.
                let plain = Attributes::new();
                match self.put("probe", PutMode::Create, &plain).await {
                    Err(error) if lacks_support(&error) => {
                        match self.put("probe", PutMode::Overwrite, &attributes).await {
                            Err(error) if lacks_support(&error) => (None, plain),
                            put => put.map(|_| (None, attributes))?,
                        }
                    }
                    put => (Some(put?), plain),
                }
            }
            put => (Some(put?), attributes),
        };
        let create = first.is_some()
            && matches!(
                overwritten(self.put("probe", PutMode::Create, &attributes).await)?,
                Overwritten::No
            );
        let stale = version(match first {
            Some(first) => first,
            None => self.put("probe", PutMode::Overwrite, &attributes).await?,
        });
        let mut current = version(self.put("probed", PutMode::Overwrite, &attributes).await?);
        let differs = stale.e_tag.is_some() && stale.e_tag != current.e_tag;
        let mut update = false;
        if differs {
            let late = self.put("late", PutMode::Update(stale.clone()), &attributes).await;
            match overwritten(late)? {
                Overwritten::No => update = true,
                Overwritten::Yes(put) => current = version(put),
                Overwritten::NotTried => {}
            }
        }
        let keeps_attributes = !attributes.is_empty() && self.has_attribute().await?;
        let delete = match deleter {
            Some(deleter) if differs => self.deletes(deleter, &stale, &current).await,
            Some(_) => Some(false),
            None => None,
        };
        Ok(StoreProperties { create, update, delete, keeps_attributes })
    }

    async fn put(
        &self,
        content: &'static str,
        mode: PutMode,
        attributes: &Attributes,
    ) -> Result<PutResult, Error> {
        let attributes = attributes.clone();
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.store.put_opts(self.key, content.into(), options).await
    }

    async fn has_attribute(&self) -> Result<bool, Error> {
        let attributes = self.store.get(self.key).await?.attributes;
        let kept = attributes.get(&Attribute::Metadata(ATTRIBUTE.into()));
        Ok(kept.is_some_and(|value| value.as_ref() == "1"))
    }

    /// Returns whether the store keeps an object that has another version, and deletes one that has
    /// this version. Returns `None` if it cannot be reached in this way.
    async fn deletes(
        &self,
        deleter: &dyn ConditionalDelete,
        stale: &UpdateVersion,
        current: &UpdateVersion,
    ) -> Option<bool> {
        let mut outcomes = Vec::new();
        for version in [stale, current] {
            match deleter.delete_if(self.key, version).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {
                    return Some(false);
                }
                Err(error) => {
                    tracing::debug!(%error, "conditional deletion cannot be probed");
                    return None;
                }
            }
        }
        Some(outcomes == [ConditionalDeletion::OtherVersion, ConditionalDeletion::Deleted])
    }
}

/// Returns whether a probe object is too old for a running probe.
fn is_leftover(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).is_ok_and(|age| age > LEFTOVER_AGE)
}

fn version(put: PutResult) -> UpdateVersion {
    UpdateVersion { e_tag: put.e_tag, version: put.version }
}

fn lacks_support(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
}

/// Effect of a put whose condition was not met.
enum Overwritten {
    /// The store enforced the condition.
    No,
    /// The store ignored the condition.
    Yes(PutResult),
    /// The store does not know the condition.
    NotTried,
}

fn overwritten(put: Result<PutResult, Error>) -> Result<Overwritten, Error> {
    match put {
        Ok(put) => Ok(Overwritten::Yes(put)),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Overwritten::No),
        Err(error) if lacks_support(&error) => Ok(Overwritten::NotTried),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use object_store::memory::InMemory;
    use testkit::{Calls, Conditions, FailingStore};

    use super::*;

    const ALL: StoreProperties =
        StoreProperties { create: true, update: true, delete: None, keeps_attributes: true };

    /// Deleter of an object in memory.
    #[derive(Debug)]
    struct Deleter {
        store: Arc<InMemory>,
        behaviour: Behaviour,
    }

    #[derive(Clone, Copy, Debug)]
    enum Behaviour {
        Enforces,
        Ignores,
        DeletesNothing,
        IsForbidden,
        IsUnreachable,
    }

    #[async_trait]
    impl ConditionalDelete for Deleter {
        async fn delete_if(
            &self,
            key: &Key,
            version: &UpdateVersion,
        ) -> Result<ConditionalDeletion, Error> {
            match self.behaviour {
                Behaviour::IsForbidden => {
                    let path = key.to_string();
                    return Err(Error::PermissionDenied { path, source: "forbidden".into() });
                }
                Behaviour::IsUnreachable => {
                    return Err(Error::Generic { store: "s", source: "unreachable".into() });
                }
                Behaviour::DeletesNothing => return Ok(ConditionalDeletion::OtherVersion),
                Behaviour::Enforces if self.store.head(key).await?.e_tag != version.e_tag => {
                    return Ok(ConditionalDeletion::OtherVersion);
                }
                Behaviour::Enforces | Behaviour::Ignores => {}
            }
            self.store.delete(key).await?;
            Ok(ConditionalDeletion::Deleted)
        }
    }

    fn general() -> Key {
        Key::from("general")
    }

    #[tokio::test]
    async fn conditional_deletion_counts_only_if_it_keeps_other_versions_and_deletes_this_one() {
        for (behaviour, expected) in [
            (Behaviour::Enforces, Some(true)),
            (Behaviour::Ignores, Some(false)),
            (Behaviour::DeletesNothing, Some(false)),
            (Behaviour::IsForbidden, Some(false)),
            (Behaviour::IsUnreachable, None),
        ] {
            let store = Arc::new(InMemory::new());
            let deleter = Deleter { store: Arc::clone(&store), behaviour };
            let capabilities = StoreCapabilities {
                conditional_delete: Some(Arc::new(deleter)),
                ..StoreCapabilities::default()
            };
            let probe = StoreProbe::default().below(&general());
            let found = probe.properties(&*store, &capabilities, &general()).await.unwrap();
            assert_eq!(found, StoreProperties { delete: expected, ..ALL }, "{behaviour:?}");
            let left: Vec<_> = store.list(None).try_collect().await.unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[tokio::test]
    async fn ignored_and_missing_conditions_are_detected() {
        for (conditions, create, update) in [
            (Conditions::Honored, true, true),
            (Conditions::Ignored, false, false),
            (Conditions::CreateOnly, true, false),
        ] {
            let store = FailingStore::with_conditions(conditions);
            let capabilities = StoreCapabilities::default();
            let probe = StoreProbe::default();
            let found = probe.properties(&*store, &capabilities, &general()).await.unwrap();
            assert_eq!(found, StoreProperties { create, update, ..ALL }, "{conditions:?}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_is_probed_once_and_again_for_a_new_ability() {
        let dir = tempfile::tempdir().unwrap();
        let store = FailingStore::new();
        let probe = |endpoint: &str| {
            let file = dir.path().join("probes.json");
            StoreProbe::default().below(&general()).persistent(file, endpoint.to_owned())
        };
        let none = StoreCapabilities::default();
        let deleter = Deleter { store: Arc::default(), behaviour: Behaviour::IsForbidden };
        let some = StoreCapabilities {
            conditional_delete: Some(Arc::new(deleter)),
            ..StoreCapabilities::default()
        };
        for (endpoint, capabilities, probes) in [
            ("a", &none, true),
            ("a", &none, false),
            ("b", &none, true),
            ("a", &some, true),
            ("a", &some, false),
            ("a", &none, false),
        ] {
            store.fail(Calls::All, usize::MAX, 1);
            // A probe of its own, like in another process.
            probe(endpoint).properties(&*store, capabilities, &general()).await.unwrap();
            assert_eq!(store.count(Calls::All) > 0, probes, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_failed_probe_leaves_no_result() {
        for failing in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("probes.json");
            let store = FailingStore::new();
            let probe = StoreProbe::default().persistent(file.clone(), "a".to_owned());
            store.fail(Calls::All, failing, usize::MAX);
            let failed = probe.properties(&*store, &StoreCapabilities::default(), &general()).await;
            // The last call only deletes the temporary object.
            assert_eq!((failed.is_err(), file.exists()), (failing < 5, failing == 5), "{failing}");
            store.recover();
            let found = probe.properties(&*store, &StoreCapabilities::default(), &general()).await;
            assert_eq!(found.unwrap(), ALL);
        }
    }

    #[cfg(feature = "fs")]
    #[tokio::test]
    async fn leftovers_of_killed_probes_are_deleted_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let opened = crate::transfer::open_directory(dir.path()).unwrap();
        let now = SystemTime::now();
        for (name, age) in [("old", LEFTOVER_AGE * 2), ("new", Duration::ZERO)] {
            let key = general().join(DIRECTORY).join(name);
            opened.store.put(&key, "probe".into()).await.unwrap();
            let file = std::fs::File::open(dir.path().join(key.as_ref())).unwrap();
            file.set_modified(now - age).unwrap();
        }
        let probe = StoreProbe::default().below(&general());
        let found = probe.properties(&*opened.store, &opened.capabilities, &general()).await;
        let expected = StoreProperties { update: false, keeps_attributes: false, ..ALL };
        assert_eq!(found.unwrap(), expected);
        let left: Vec<_> = opened.store.list(None).try_collect().await.unwrap();
        let left: Vec<&str> = left.iter().map(|meta| meta.location.as_ref()).collect();
        assert_eq!(left, ["general/probes/new"]);
    }
}

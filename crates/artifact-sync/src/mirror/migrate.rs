//! Migration of a session of version 0.1, which kept an index instead of a journal and had no log.
//!
//! The log begins with the versions that the index proves: files that were stored, and files that
//! were removed here. Everything else follows from the usual rules, because the journal then holds
//! what version 0.1 had seen: scans find local changes, and the listing shows external ones. The
//! index is deleted last, so an interrupted migration is repeated.

mod copy;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::{StreamExt, TryStreamExt};
use object_store::{Error, ObjectMeta};
use sandbox_core::RelativePath;

use crate::error::SyncError;
use crate::keys;
use crate::log::{
    Author, Content, FileVersion, Hash, Line, MAX_INLINE_BYTES_PER_ENTRY, Origin, Token,
    unix_seconds,
};
use crate::mirror::contents::Contents;
use crate::mirror::shared::{SentBatch, Shared};
use crate::report::RestoreReport;
use crate::scan::RecordedSignature;
use crate::state::{FormerFile, FormerRecord, KnownObject, Version};
use crate::transfer::{ContentError, Fetched, Listed, Projection, list_pages};

use copy::{LocalFile, knows};
use plan::{Step, known_object, plan, replaced_object};

pub(super) use copy::FormerCopy;

/// Files with which one entry begins the log at most.
const PER_ENTRY: usize = 256;
/// Concurrent transfers.
const TRANSFERS_AT_ONCE: usize = 16;
/// Mode of a file whose mode version 0.1 did not record.
const MODE: u16 = 0o644;

/// Objects of the projection that an index names.
#[derive(Debug, Default)]
struct FormerObjects {
    by_path: HashMap<String, ObjectMeta>,
    /// Set if an absent object was removed by another program: the listing is complete and not
    /// empty. An empty one is that of a lost or of another store.
    shows_removals: bool,
}

/// Path with its step.
struct Candidate {
    path: String,
    file: FormerFile,
    local: LocalFile,
    step: Step,
}

/// Version with which the log begins for a path, and what the journal learns of it.
struct Beginning {
    path: String,
    file: FileVersion,
    /// Signature of the file in the directory, if it has this content.
    signature: Option<RecordedSignature>,
    seen: Option<Version>,
}

impl Shared {
    /// Makes the log begin with what version 0.1 knew of paths that the log does not know, and
    /// deletes its index.
    ///
    /// # Cancel safety
    /// The next call continues.
    pub(super) async fn migrate(
        self: &Arc<Self>,
        copy: &FormerCopy,
        report: &mut RestoreReport,
    ) -> Result<(), SyncError> {
        // It may be turned off, but version 0.1 stored files nowhere else.
        let projection = Projection {
            remote: Arc::clone(&self.remote),
            blobs: Arc::clone(&self.blobs),
            fetcher: Arc::clone(&self.fetcher),
        };
        let objects = self.former_objects(copy).await?;
        let (mut removed, mut others, mut restored) = (Vec::new(), Vec::new(), Vec::new());
        for (path, file, local) in copy.iter() {
            match self.plan_migration(path, file, local, &objects) {
                Some(Step::Restore { object }) => restored.push((path.clone(), object)),
                Some(step) => {
                    let is_removed = local == LocalFile::Removed;
                    let candidates = if is_removed { &mut removed } else { &mut others };
                    let (path, file) = (path.clone(), file.clone());
                    candidates.push(Candidate { path, file, local, step });
                }
                None => {}
            }
        }
        // The history has a removed file as of the entry before its removal. Removals go before the
        // other files, because a directory may have taken the name.
        let to_remove = removed.iter().map(|candidate| candidate.path.clone()).collect();
        self.begin_with(&projection, removed).await?;
        self.append_removals(copy, to_remove).await?;
        self.begin_with(&projection, others).await?;
        self.adopt(&projection, restored, report).await?;
        let ended = self.ledger().end_migration();
        ended.map_err(|(path, source)| SyncError::Index { path, source })
    }

    /// Makes the log begin with versions of files.
    async fn begin_with(
        &self,
        projection: &Projection,
        candidates: Vec<Candidate>,
    ) -> Result<(), SyncError> {
        let mut candidates = candidates.into_iter().peekable();
        while candidates.peek().is_some() {
            let inline_left = AtomicU64::new(MAX_INLINE_BYTES_PER_ENTRY);
            let some: Vec<_> = candidates.by_ref().take(PER_ENTRY).collect();
            let beginnings: Vec<Option<Beginning>> = futures::stream::iter(some)
                .map(async |candidate| self.begin_path(projection, candidate, &inline_left).await)
                .buffered(TRANSFERS_AT_ONCE)
                .try_collect()
                .await?;
            self.append_beginnings(beginnings.into_iter().flatten().collect()).await?;
        }
        Ok(())
    }

    /// Lists the objects that the index names.
    async fn former_objects(&self, copy: &FormerCopy) -> Result<FormerObjects, SyncError> {
        let prefix = self.remote.prefix();
        let failed = |source| SyncError::List { prefix: prefix.to_string(), source };
        let mut listed = list_pages(self.remote.store(), self.remote.capabilities(), prefix);
        let mut objects = FormerObjects::default();
        let mut is_complete = true;
        while let Some(listed) = listed.try_next().await.map_err(failed)? {
            match listed {
                Listed::Object(meta) => {
                    objects.shows_removals = true;
                    let path = keys::strip_prefix(prefix, &meta.location);
                    if let Some(path) = path.filter(|path| copy.file(path).is_some()) {
                        objects.by_path.insert(path.to_owned(), meta.clone());
                    }
                }
                Listed::OddKey { .. } => {}
                Listed::Incomplete { .. } => is_complete = false,
            }
        }
        objects.shows_removals &= is_complete;
        Ok(objects)
    }

    fn plan_migration(
        &self,
        path: &str,
        file: &FormerFile,
        local: LocalFile,
        objects: &FormerObjects,
    ) -> Option<Step> {
        let ledger = self.ledger();
        let log = ledger.log();
        if log.nodes.contains_key(path) || log.removed.contains_key(path) {
            let is_removal = local == LocalFile::Removed
                && log.file(path).is_some_and(|version| knows(file, version));
            return is_removal.then_some(Step::Remove);
        }
        plan(file, local, objects.by_path.get(path), objects.shows_removals)
    }

    /// Stores what a step needs. Returns `None` if the usual rules apply, because the file or the
    /// object has changed meanwhile.
    async fn begin_path(
        &self,
        projection: &Projection,
        candidate: Candidate,
        inline_left: &AtomicU64,
    ) -> Result<Option<Beginning>, SyncError> {
        let Ok(path) = RelativePath::parse(&candidate.path) else { return Ok(None) };
        let (object, is_known) = match &candidate.step {
            Step::Remove | Step::Restore { .. } => return Ok(None),
            Step::BeginWithFile { hash, seen } => {
                return self.keep(&path, &candidate, *hash, seen.clone(), inline_left).await;
            }
            Step::BeginWithObject { object } => (object.clone(), true),
            Step::Compare { object } => (object.clone(), false),
        };
        let fetched = self.fetch_former(projection, &path, &object).await?;
        let Some(fetched) = fetched else { return Ok(None) };
        let step = if is_known {
            Some(candidate.step.clone())
        } else if candidate.file.has_content(&fetched.hash) {
            Some(known_object(candidate.local, fetched.hash, object.clone()))
        } else {
            replaced_object(&candidate.file, candidate.local)
        };
        match step {
            Some(Step::BeginWithFile { hash, seen }) => {
                self.keep(&path, &candidate, hash, seen, inline_left).await
            }
            Some(Step::BeginWithObject { object }) => {
                let content = self.store_fetched(&path, &fetched, inline_left).await?;
                Ok(Some(Beginning::of_object(&candidate, &object, &fetched, content)))
            }
            _ => Ok(None),
        }
    }

    /// Begins with the file in the directory, if it still has this content.
    async fn keep(
        &self,
        path: &RelativePath,
        candidate: &Candidate,
        hash: Hash,
        seen: Option<Version>,
        inline_left: &AtomicU64,
    ) -> Result<Option<Beginning>, SyncError> {
        let stored = self.blobs.store(path, &Contents::default(), inline_left, self).await;
        let stored = match stored {
            Ok(stored) => stored,
            Err(ContentError::Gone) => return Ok(None),
            Err(ContentError::Retryable(problem) | ContentError::Permanent(problem)) => {
                // The knowledge of the index must not be lost, so the opening fails.
                let source = Error::Generic { store: "session log", source: problem.into() };
                return Err(SyncError::Append { source });
            }
        };
        if stored.hash != hash {
            if let Content::Blob(blob) = stored.content {
                self.ledger().forget_upload(blob);
            }
            return Ok(None);
        }
        let signature = stored.signature.signature;
        let file = FileVersion {
            size: signature.size,
            hash,
            mode: signature.mode,
            modified: signature.modified,
            token: Token::random(),
            number: 0,
            content: stored.content,
            origin: origin(&candidate.file),
            adopted: seen.clone().map(Box::new),
        };
        Ok(Some(Beginning {
            path: candidate.path.clone(),
            file,
            signature: Some(stored.signature),
            seen,
        }))
    }

    /// Fetches the listed version of an object. Returns `None` if it is gone or another one.
    async fn fetch_former(
        &self,
        projection: &Projection,
        path: &RelativePath,
        object: &ObjectMeta,
    ) -> Result<Option<Fetched>, SyncError> {
        let fetched = match self.fetcher.fetch_object(path, &object.location).await {
            Ok(fetched) => fetched,
            Err(SyncError::Fetch { source: Error::NotFound { .. }, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let failed = |source| SyncError::Fetch { key: object.location.to_string(), source };
        let now = projection.inspect_object(path.as_str()).await.map_err(failed)?;
        let is_same = now.is_some_and(|now| now.meta.e_tag == object.e_tag);
        Ok(is_same.then_some(fetched))
    }

    /// Appends the removals of files that the log has as version 0.1 knew them.
    async fn append_removals(
        &self,
        copy: &FormerCopy,
        paths: Vec<String>,
    ) -> Result<(), SyncError> {
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        let at = unix_seconds();
        let lines: Vec<Line> = {
            let ledger = self.ledger();
            let is_known = |path: &String| {
                let version = ledger.log().file(path);
                version.zip(copy.file(path)).is_some_and(|(version, file)| knows(file, version))
            };
            let removal = |path| Line::Removed { path, by: Author::Agent, at, number: 0 };
            paths.into_iter().filter(is_known).map(removal).collect()
        };
        if !lines.is_empty() {
            self.append(&mut appender, lines, SentBatch::default()).await?;
        }
        Ok(())
    }

    /// Appends versions, and records what is known of their files and objects.
    async fn append_beginnings(&self, beginnings: Vec<Beginning>) -> Result<(), SyncError> {
        if beginnings.is_empty() {
            return Ok(());
        }
        let (mut lines, mut sent, mut seen) = (Vec::new(), SentBatch::default(), Vec::new());
        for Beginning { path, file, signature, seen: version } in beginnings {
            let object = version.map(|version| KnownObject { token: file.token, version });
            seen.extend(object.map(|object| (path.clone(), object)));
            sent.signatures.extend(signature.map(|signature| (path.clone(), signature)));
            lines.push(Line::File { path, file });
        }
        let mut appender = self.appender.lock().await;
        self.settle(&mut appender).await?;
        self.append(&mut appender, lines, sent).await?;
        let mut ledger = self.ledger();
        seen.into_iter().for_each(|(path, object)| ledger.set_seen(&path, object));
        Ok(())
    }
}

impl Beginning {
    fn of_object(
        candidate: &Candidate,
        object: &ObjectMeta,
        fetched: &Fetched,
        content: Content,
    ) -> Self {
        let version = Version::from(object);
        let last_modified = object.last_modified;
        let (mode, modified) = match &candidate.file.record {
            Some(FormerRecord::Stored { signature, hash, .. }) if *hash == fetched.hash => {
                (signature.mode, signature.modified)
            }
            _ => (
                MODE,
                (
                    last_modified.timestamp(),
                    last_modified.timestamp_subsec_nanos().min(999_999_999),
                ),
            ),
        };
        let file = FileVersion {
            size: fetched.size,
            hash: fetched.hash,
            mode,
            modified,
            token: Token::random(),
            number: 0,
            content,
            origin: origin(&candidate.file),
            adopted: Some(Box::new(version.clone())),
        };
        Self { path: candidate.path.clone(), file, signature: None, seen: Some(version) }
    }
}

/// Returns the writer of a file as far as version 0.1 knew it.
fn origin(file: &FormerFile) -> Origin {
    match &file.record {
        Some(FormerRecord::Stored { origin, .. }) => *origin,
        Some(FormerRecord::Removed { .. } | FormerRecord::ExpectedRemote) => Origin::External,
        None => Origin::Agent,
    }
}

//! Uploads to fresh keys: every part fails once, and a later process sends only what is missing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use artifact_sync::internal::{
    FreshUploadError, FreshUploads, MemoryBudget, PartRecord, UploadRecord, UploadStep, Uploaded,
};
use artifact_sync::{Mirror, StoreCapabilities, open_directory, open_store};
use futures::FutureExt;
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use object_store::{Attribute, Attributes, Error, ObjectStore, ObjectStoreExt};
use testkit::{Calls, FailingStore, Failure, LostUploads, S3Server, assert_passed, rerun};

use crate::machine::Machine;

const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 5;
/// Four whole parts and one byte.
const BYTES: usize = (PARTS - 1) * PART_BYTES + 1;
const LOST_UPLOADS: [LostUploads; 2] = [LostUploads::NotFound, LostUploads::Denied];

fn content() -> Vec<u8> {
    (0..BYTES).map(|at| (at * 31 % 251) as u8).collect()
}

/// File to upload, with the journal of one machine.
struct Upload {
    dir: tempfile::TempDir,
    journal: Mutex<Option<UploadRecord>>,
    uploads: FreshUploads,
}

impl Upload {
    fn new(store: Arc<dyn ObjectStore>, capabilities: StoreCapabilities) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("large"), content()).unwrap();
        let uploads = FreshUploads::new(store, capabilities, MemoryBudget::default());
        Self { dir, journal: Mutex::default(), uploads }
    }

    fn on(store: &Arc<FailingStore>) -> Self {
        Self::new(Arc::clone(store) as _, capabilities(store))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("large")
    }

    async fn attempt(&self) -> Result<Uploaded, FreshUploadError> {
        self.attempt_with(|_| ()).await
    }

    /// Drops an attempt at the step with this number.
    async fn attempt_dropped_at(&self, step: usize) {
        let (dropped, steps) = (tokio::sync::Notify::new(), Mutex::new(0));
        tokio::select! {
            biased;
            () = dropped.notified() => {}
            _ = self.attempt_with(|_| {
                let mut steps = steps.lock().unwrap();
                if *steps == step {
                    dropped.notify_one();
                }
                *steps += 1;
            }) => {}
        }
    }

    /// Ends an attempt right before it completes the upload. Returns the record.
    async fn attempt_without_completion(&self) -> UploadRecord {
        let crash = |_: &UploadStep<'_>| {
            if self.acknowledged() == PARTS {
                resume_unwind(Box::new("a crash"));
            }
        };
        let crashed = AssertUnwindSafe(self.attempt_with(crash)).catch_unwind().await;
        assert!(crashed.is_err());
        let mut record = self.journal.lock().unwrap().clone().unwrap();
        record.parts.sort_by_key(|part| part.number);
        record
    }

    async fn attempt_with(
        &self,
        on_step: impl Fn(&UploadStep<'_>) + Send + Sync,
    ) -> Result<Uploaded, FreshUploadError> {
        let file = Arc::new(File::open(self.path()).unwrap());
        // The journal survives a process as text.
        let earlier = self.journal.lock().unwrap().take();
        let text = serde_json::to_string(&earlier).unwrap();
        let earlier: Option<UploadRecord> = serde_json::from_str(&text).unwrap();
        *self.journal.lock().unwrap() = earlier.clone();
        let journal = |step: UploadStep<'_>| {
            UploadRecord::apply(&mut self.journal.lock().unwrap(), step);
            on_step(&step);
        };
        let attributes = Attributes::from_iter([(Attribute::ContentType, "text/x-large")]);
        self.uploads.upload(&key(), file, attributes, earlier, &journal).await
    }

    fn acknowledged(&self) -> usize {
        self.journal.lock().unwrap().as_ref().map_or(0, |record| record.parts.len())
    }
}

fn capabilities(store: &Arc<FailingStore>) -> StoreCapabilities {
    let mut capabilities = StoreCapabilities::default();
    capabilities.multipart = Some(Arc::clone(store) as _);
    capabilities
}

fn key() -> Key {
    Key::from("logs/user_7/s1/blobs/0af1")
}

#[track_caller]
fn check_hash(uploaded: &Uploaded, content: &[u8]) {
    assert_eq!(uploaded.hash, blake3::hash(content));
    assert_eq!(uploaded.bytes(), content.len() as u64);
}

async fn check_object(store: &dyn ObjectStore, content: &[u8]) {
    let got = store.get(&key()).await.unwrap();
    assert_eq!(got.attributes.get(&Attribute::ContentType).unwrap().as_ref(), "text/x-large");
    assert!(got.bytes().await.unwrap() == content, "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_at_any_part_resumes_with_the_missing_parts_only() {
    for failure in [Failure::Rejected, Failure::ResponseLost] {
        for failing in 0..PARTS {
            let store = FailingStore::new();
            store.set_failure(failure);
            store.fail(Calls::Parts, failing, usize::MAX);
            let upload = Upload::on(&store);
            let failed = upload.attempt().await;
            assert!(matches!(failed, Err(FreshUploadError::Store(_))), "{failed:?}");
            let acknowledged = upload.acknowledged();
            assert_eq!((acknowledged, store.open_uploads().len()), (failing, 1));

            store.recover();
            store.fail(Calls::Parts, usize::MAX, 1);
            check_hash(&upload.attempt().await.unwrap(), &content());
            assert_eq!(store.count(Calls::Parts), PARTS - acknowledged, "missing parts only");
            assert_eq!((upload.acknowledged(), store.open_uploads().len()), (0, 0));
            check_object(&*store, &content()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_at_any_step_resumes() {
    for last in 0..=PARTS {
        let store = FailingStore::new();
        let upload = Upload::on(&store);
        upload.attempt_dropped_at(last).await;
        let before = upload.acknowledged();
        store.fail(Calls::Parts, usize::MAX, 1);
        check_hash(&upload.attempt().await.unwrap(), &content());
        assert!(store.count(Calls::Parts) <= PARTS - before, "dropped after step {last}");
        assert_eq!(store.open_uploads().len(), 0);
        check_object(&*store, &content()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_was_lost_counts() {
    for answer in LOST_UPLOADS {
        let store = FailingStore::new();
        store.set_lost_uploads(answer);
        store.set_failure(Failure::ResponseLost);
        // One call creates the upload before the parts.
        store.fail(Calls::All, 1 + PARTS, 1);
        let upload = Upload::on(&store);
        assert!(upload.attempt().await.is_err());
        assert_eq!((upload.acknowledged(), store.open_uploads().len()), (PARTS, 0));
        store.fail(Calls::Parts, usize::MAX, 1);
        check_hash(&upload.attempt().await.unwrap(), &content());
        assert_eq!((upload.acknowledged(), store.count(Calls::Parts)), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_content_begins_a_new_upload_and_aborts_the_old_one() {
    let store = FailingStore::new();
    for (at, is_longer) in [(0, false), (3 * PART_BYTES as u64 + 5, false), (0, true)] {
        store.fail(Calls::Parts, PARTS - 1, usize::MAX);
        let upload = Upload::on(&store);
        assert!(upload.attempt().await.is_err());
        let mut changed = content();
        changed[at as usize] ^= 1;
        if is_longer {
            changed.push(7);
        }
        std::fs::write(upload.path(), &changed).unwrap();
        store.recover();
        store.fail(Calls::Parts, usize::MAX, 1);
        check_hash(&upload.attempt().await.unwrap(), &changed);
        assert_eq!((store.count(Calls::Parts), store.open_uploads().len()), (PARTS, 0));
        check_object(&*store, &changed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_changes_while_it_is_read_is_never_completed() {
    let store = FailingStore::new();
    let upload = Upload::on(&store);
    let path = upload.path();
    let changed = upload
        .attempt_with(|step| {
            if matches!(step, UploadStep::PartSent(_)) {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(b"changed", 0).unwrap();
            }
        })
        .await;
    assert!(matches!(changed, Err(FreshUploadError::FileChanged)), "{changed:?}");
    assert_eq!((upload.acknowledged(), store.open_uploads().len()), (0, 0));
    assert!(store.head(&key()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_upload_begins_again() {
    for answer in LOST_UPLOADS {
        let store = FailingStore::new();
        store.set_lost_uploads(answer);
        store.fail(Calls::Parts, 2, usize::MAX);
        let upload = Upload::on(&store);
        assert!(upload.attempt().await.is_err());
        store.expire_upload(&store.open_uploads()[0]);
        store.recover();
        check_hash(&upload.attempt().await.unwrap(), &content());
        assert_eq!((upload.acknowledged(), store.open_uploads().len()), (0, 0));
        check_object(&*store, &content()).await;
    }
}

/// Machine whose next session finds the record of an upload that misses its completion.
async fn interrupted(store: &Arc<FailingStore>) -> Machine {
    let machine = Machine::new(Arc::clone(store) as _);
    let mirror = open(&machine, store).await;
    machine.write("large", &"x".repeat(BYTES));
    store.fail(Calls::Parts, PARTS - 1, usize::MAX);
    assert_eq!(mirror.sync().await.unwrap().pending.len(), 1);
    assert_eq!(store.open_uploads().len(), 1);
    store.recover();
    machine
}

async fn open(machine: &Machine, store: &Arc<FailingStore>) -> Mirror {
    let capabilities = capabilities(store);
    machine.open_with(|mirror| mirror.capabilities(capabilities)).await
}

/// Stores what is pending in the next session. Returns the number of parts sent to the log.
async fn parts_sent(machine: &Machine, store: &Arc<FailingStore>) -> usize {
    let mirror = open(machine, store).await;
    store.fail(Calls::Parts, usize::MAX, 1);
    let report = mirror.flush().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((store.open_uploads().len(), machine.blobs().await.len()), (0, 1));
    store.count(Calls::Parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stores_a_file_whose_upload_expired() {
    for answer in LOST_UPLOADS {
        let store = FailingStore::new();
        store.set_lost_uploads(answer);
        let machine = interrupted(&store).await;
        store.expire_upload(&store.open_uploads()[0]);
        assert_eq!(parts_sent(&machine, &store).await, PARTS, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_resumes_an_upload_after_access_was_denied_for_a_time() {
    let store = FailingStore::new();
    let machine = interrupted(&store).await;
    store.set_failure(Failure::Denied);
    let mirror = open(&machine, &store).await;
    store.fail(Calls::All, 0, usize::MAX);
    for _ in 0..3 {
        let report = mirror.sync().await.unwrap();
        assert_eq!(report.pending.len() + report.still_pending, 1, "{report:?}");
    }
    drop(mirror);
    store.recover();
    assert_eq!(parts_sent(&machine, &store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_an_ended_process_is_aborted() {
    let store = FailingStore::new();
    store.fail(Calls::Parts, 2, usize::MAX);
    let upload = Upload::on(&store);
    assert!(upload.attempt().await.is_err());
    store.recover();
    let record = upload.journal.lock().unwrap().clone().unwrap();
    upload.uploads.abort(&record).await.unwrap();
    assert_eq!(store.open_uploads().len(), 0);
    upload.uploads.abort(&record).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_named_uploads_takes_files_of_every_size() {
    let root = tempfile::tempdir().unwrap();
    let opened = open_directory(root.path()).unwrap();
    let upload = Upload::new(opened.store.clone(), opened.capabilities);
    for bytes in [0, 1, PART_BYTES, PART_BYTES + 1, BYTES] {
        let content = &content()[..bytes];
        std::fs::write(upload.path(), content).unwrap();
        check_hash(&upload.attempt().await.unwrap(), content);
        let got = opened.store.get(&key()).await.unwrap().bytes().await.unwrap();
        assert!(got == content, "{bytes} bytes");
    }
}

#[test]
fn an_upload_resumes_on_a_server() {
    const TEST: &str = "multipart::resumes_on_the_server_of_the_environment";
    let server = S3Server::start();
    assert_passed(&rerun(TEST).envs(server.environment()).output().unwrap());
    assert_eq!(server.leftover_uploads(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_on_the_server_of_the_environment() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        return;
    }
    let opened = open_store("s3://bucket").unwrap();
    // Not after the last part: this server answers while it still completes an upload.
    for last in [0, 2, PARTS - 1] {
        let upload = Upload::new(opened.store.clone(), opened.capabilities.clone());
        upload.attempt_dropped_at(last).await;
        // Answers that are there already count before the upload is dropped.
        assert!(upload.acknowledged() >= last);
        check_hash(&upload.attempt().await.unwrap(), &content());
        check_object(&*opened.store, &content()).await;
    }
    let server = opened.capabilities.multipart.clone().unwrap();
    for is_completed in [true, false] {
        let upload = Upload::new(opened.store.clone(), opened.capabilities.clone());
        opened.store.delete(&key()).await.unwrap();
        let record = upload.attempt_without_completion().await;
        let (id, parts) = (&record.upload_id, record.parts);
        if is_completed {
            let id_of = |part: PartRecord| PartId { content_id: part.part_id };
            let parts = parts.into_iter().map(id_of).collect();
            server.complete_multipart(&key(), id, parts).await.unwrap();
        } else {
            server.abort_multipart(&key(), id).await.unwrap();
        }
        // This server denies requests about an upload that has ended.
        let again = server.abort_multipart(&key(), id).await;
        assert!(matches!(again, Err(Error::PermissionDenied { .. })), "{again:?}");
        let sent = AtomicUsize::new(0);
        let count = |step: &UploadStep<'_>| {
            sent.fetch_add(usize::from(matches!(step, UploadStep::PartSent(_))), Ordering::Relaxed);
        };
        check_hash(&upload.attempt_with(count).await.unwrap(), &content());
        assert_eq!(sent.into_inner(), if is_completed { 0 } else { PARTS });
        check_object(&*opened.store, &content()).await;
    }
    let upload = Upload::new(opened.store.clone(), opened.capabilities.clone());
    let aborted = upload.attempt_with(|step| {
        if matches!(step, UploadStep::PartSent(_)) {
            truncate(&upload.path());
        }
    });
    assert!(matches!(aborted.await, Err(FreshUploadError::FileChanged)));
}

fn truncate(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(1).unwrap();
}

//! Uploads to fresh keys: every part fails once, and a later process sends only what is missing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use artifact_sync::internal::{
    FreshUploadError, FreshUploads, MemoryBudget, UploadRecord, UploadStep, Uploaded,
};
use artifact_sync::{StoreCapabilities, open_directory, open_store};
use object_store::path::Path as Key;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt};
use testkit::{Calls, FailingStore, Failure, S3Server, assert_passed, rerun};

const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 5;
/// Four whole parts and one byte.
const BYTES: usize = (PARTS - 1) * PART_BYTES + 1;

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
        let mut capabilities = StoreCapabilities::default();
        capabilities.multipart = Some(Arc::clone(store) as _);
        Self::new(Arc::clone(store) as _, capabilities)
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
    let store = FailingStore::new();
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
    let store = FailingStore::new();
    store.fail(Calls::Parts, 2, usize::MAX);
    let upload = Upload::on(&store);
    assert!(upload.attempt().await.is_err());
    store.expire_upload(&store.open_uploads()[0]);
    store.recover();
    check_hash(&upload.attempt().await.unwrap(), &content());
    assert_eq!((upload.acknowledged(), store.open_uploads().len()), (0, 0));
    check_object(&*store, &content()).await;
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
    // Not after the last part: this server answers while it still completes an upload. A completion
    // whose answer is lost has a test of its own.
    for last in [0, 2, PARTS - 1] {
        let upload = Upload::new(opened.store.clone(), opened.capabilities.clone());
        upload.attempt_dropped_at(last).await;
        // Answers that are there already count before the upload is dropped.
        assert!(upload.acknowledged() >= last);
        check_hash(&upload.attempt().await.unwrap(), &content());
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

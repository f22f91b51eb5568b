//! Memory use of large uploads.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use artifact_sync::{Mirror, SessionKeys};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use testkit::{assert_passed, rerun};

const CHILD: &str = "ARTIFACT_SYNC_MEMORY_CHILD";
const LARGE_BYTES: u64 = 2 << 30;
/// Memory for parts in flight and for the program itself.
const MAX_BYTES: u64 = 90 << 20;

/// Store that discards the parts of uploads.
#[derive(Debug, Default)]
struct Forgetful(InMemory);

#[derive(Debug)]
struct Parts {
    bytes: u64,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.bytes += data.content_length() as u64;
        Box::pin(async move {
            // A part occupies memory until it was sent.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            drop(data);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        assert_eq!(self.bytes, LARGE_BYTES);
        Ok(PutResult {
            e_tag: Some("etag".to_owned()),
            version: None,
            extensions: Default::default(),
        })
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Display for Forgetful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("forgetful")
    }
}

#[async_trait]
impl ObjectStore for Forgetful {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts { bytes: 0 }))
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploading_two_gigabytes_needs_90_megabytes_of_memory() {
    if std::env::var_os(CHILD).is_none() {
        // A separate process, so that no other test affects its memory.
        let mut ran = rerun("memory::uploading_two_gigabytes_needs_90_megabytes_of_memory");
        return assert_passed(&ran.env(CHILD, "1").output().unwrap());
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("session");
    let keys = SessionKeys::at(Key::from("p"), Key::from("l"));
    let mirror = Mirror::builder(&dir, Arc::new(Forgetful::default()), keys)
        .state_dir(place.path().join("state"))
        .deadline(std::time::Duration::from_secs(300))
        .open()
        .await
        .unwrap();
    // A sparse file takes no disk space.
    std::fs::File::create(dir.join("large")).unwrap().set_len(LARGE_BYTES).unwrap();
    // The resident part of this program's own file depends on the machine.
    let before = status_kilobytes("VmRSS:");
    let report = mirror.sync().await.unwrap();
    assert_eq!((report.changed.len(), report.pending.len()), (1, 0), "{report:?}");
    let kilobytes = status_kilobytes("VmHWM:") - before;
    assert!(kilobytes * 1024 <= MAX_BYTES, "{kilobytes} kB");
}

/// Returns a value of `/proc/self/status` (`proc_pid_status(5)`).
fn status_kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let figure = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    figure.trim().trim_end_matches(" kB").parse().unwrap()
}

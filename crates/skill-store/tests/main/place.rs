//! A skill's source, a store that can fail, and sessions.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use sandbox_core::SessionDir;
use skill_store::{InstallReport, SkillError, SkillStore};

pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) skills: SkillStore,
    pub(crate) session: Arc<SessionDir>,
}

pub(crate) const FRONT: &str = "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\n";

impl Place {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let session = Arc::new(SessionDir::create(&root.path().join("session")).unwrap());
        let skills = SkillStore::new(Arc::clone(&store), Key::from("general"));
        Self { root, store, skills, session }
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }

    /// Writes the source of a skill anew: SKILL.md and these files.
    pub(crate) fn source(&self, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.root.path().join("source");
        let _ = std::fs::remove_dir_all(&dir);
        for (path, content) in [("SKILL.md", FRONT)].iter().chain(files) {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    pub(crate) async fn publish(&self, files: &[(&str, &str)]) -> u32 {
        self.skills.publish(&self.source(files), None).await.unwrap().version.get()
    }

    pub(crate) async fn install(
        &self,
        skill: &str,
    ) -> std::result::Result<InstallReport, SkillError> {
        self.skills
            .install(&skill.parse().unwrap(), &self.session, &self.root.path().join("state"))
            .await
    }

    pub(crate) fn installed(&self, path: &str) -> PathBuf {
        self.session.path().join("skills").join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.installed(path)).unwrap()
    }

    /// The names in `skills/<below>`, in order.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.installed(below)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Fails one get and counts them.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    pub(crate) gets: AtomicUsize,
    pub(crate) fails_at: AtomicUsize,
    pub(crate) puts: AtomicUsize,
    pub(crate) put_fails_at: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        let never = || AtomicUsize::new(usize::MAX);
        Arc::new(Self {
            inner: InMemory::new(),
            gets: 0.into(),
            fails_at: never(),
            puts: 0.into(),
            put_fails_at: never(),
        })
    }
}

fn cut() -> Error {
    Error::Generic { store: "faulty", source: "the line is cut".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.puts.fetch_add(1, Ordering::SeqCst) == self.put_fails_at.load(Ordering::SeqCst) {
            return Err(cut());
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        if !options.head
            && self.gets.fetch_add(1, Ordering::SeqCst) == self.fails_at.load(Ordering::SeqCst)
        {
            return Err(cut());
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Key>,
        offset: &Key,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Key, to: &Key, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

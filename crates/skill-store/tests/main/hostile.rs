//! Installation of untrusted objects, and in a session that the agent has prepared.

use std::fmt;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use artifact_sync::open_directory;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use skill_store::SkillError;

use crate::fixture::{Fixture, SKILL_FILE};

#[tokio::test]
async fn a_symlink_by_the_agent_is_replaced_and_not_followed() {
    for planted in ["skills", "skills/greet"] {
        let fixture = Fixture::in_memory();
        fixture.publish(&[("f", "1")]).await;
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let link = fixture.session.path().join(planted);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        fixture.install("greet@1").await.unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{planted}");
        assert!(fixture.installed("greet").symlink_metadata().unwrap().is_dir());
        assert_eq!(fixture.read("greet/f"), "1");
        // The same after the installation, although the state file has the skill.
        std::fs::remove_dir_all(fixture.installed("")).unwrap();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        assert!(!fixture.install("greet@1").await.unwrap().was_installed);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{planted}");
    }
}

#[tokio::test]
async fn a_file_with_the_name_of_the_directory_is_replaced() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    std::fs::write(fixture.session.path().join("skills"), "a file").unwrap();
    fixture.install("greet@1").await.unwrap();
    assert_eq!(fixture.read("greet/f"), "1");
}

#[tokio::test]
async fn a_key_that_is_no_path_is_left_out_with_a_warning() {
    let disk = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(open_directory(disk.path()).unwrap().store);
    fixture.publish(&[("f", "1"), ("d/g", "2")]).await;
    // Another program has stored the same files, without records.
    std::fs::remove_dir_all(disk.path().join("general/skills/greet/.versions")).unwrap();
    std::fs::write(disk.path().join("general/skills/greet/v1/d/tab\there"), "x").unwrap();
    let report = fixture.install("greet@1").await.unwrap();
    assert_eq!(report.warnings.len(), 2, "{report:?}");
    assert_eq!(fixture.read("greet/f"), "1");
}

#[tokio::test]
async fn a_version_that_exceeds_a_limit_is_an_error_before_any_download() {
    let fixture = Fixture::in_memory();
    let put = async |key: String, content: Vec<u8>| {
        fixture.store.put(&Key::parse(key).unwrap(), content.into()).await.unwrap();
    };
    for number in 0..513 {
        put(format!("general/skills/many/v1/f{number}"), b"x".to_vec()).await;
    }
    put("general/skills/large/v1/SKILL.md".to_owned(), SKILL_FILE.as_bytes().to_vec()).await;
    put("general/skills/large/v1/f".to_owned(), vec![0; 17 << 20]).await;
    for skill in ["many@1", "large@1"] {
        let error = fixture.install(skill).await.unwrap_err();
        assert!(matches!(error, SkillError::TooLarge { .. }), "{error}");
    }
    assert!(fixture.names("").is_empty());
}

/// A store that lists every object with a size of one byte.
#[derive(Debug, Default)]
struct LyingStore(InMemory);

impl fmt::Display for LyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LyingStore")
    }
}

fn small(meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta { size: 1, ..meta }
}

#[async_trait]
impl ObjectStore for LyingStore {
    async fn put_opts(
        &self,
        key: &Key,
        content: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(key, content, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.0.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix).map(|meta| meta.map(small)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let mut listed = self.0.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(small).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_listing_that_claims_small_sizes_does_not_fill_the_memory_or_the_disk() {
    let fixture = Fixture::new(Arc::new(LyingStore::default()));
    for version in [1, 2] {
        for number in 0..4 {
            let key = format!("general/skills/large/v{version}/f{number}");
            let content = vec![0; if version == 1 { 20 << 20 } else { 5 << 20 }];
            fixture.store.put(&Key::parse(key).unwrap(), content.into()).await.unwrap();
        }
        let error = fixture.install(&format!("large@{version}")).await.unwrap_err();
        assert!(error.to_string().contains("the limit says"), "{error}");
        assert!(fixture.names("").is_empty());
    }
}

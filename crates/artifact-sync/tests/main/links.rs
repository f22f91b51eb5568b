//! Links to the file as it is, and to the file as it was.

use std::sync::Arc;

use artifact_sync::{
    ChangedFile, LinkTarget, Linker, Mirror, MirrorBuilder, OpenedStore, SessionKeys, SyncReport,
    open_directory,
};
use object_store::path::Path as Key;
use object_store::{Attribute, GetOptions, ObjectStore};
use sandbox_core::RelativePath;
use testkit::{Calls, FailingStore, http_get};

use crate::machine::{Machine, changed, expected, key};

/// Linker whose links are the keys.
#[derive(Debug)]
struct KeyLinks;

#[async_trait::async_trait]
impl Linker for KeyLinks {
    async fn link(&self, key: &Key) -> Result<Option<String>, artifact_sync::LinkError> {
        Ok(Some(key.to_string()))
    }
}

fn linked(machine: &mut Machine) -> impl FnOnce(MirrorBuilder) -> MirrorBuilder + use<> {
    machine.linker = Some(Arc::new(KeyLinks));
    |mirror| mirror.links_to(LinkTarget::Version)
}

fn link(report: &SyncReport, path: &str) -> String {
    let is_named = |changed: &&ChangedFile| changed.path.as_str() == path;
    report.changed.iter().find(is_named).unwrap().url.clone().unwrap()
}

async fn open_link(machine: &Machine, link: &str) -> String {
    let got = machine.store.get_opts(&Key::from(link), GetOptions::default()).await.unwrap();
    String::from_utf8(got.bytes().await.unwrap().into()).unwrap()
}

fn read_file_link(link: &str) -> String {
    std::fs::read_to_string(url::Url::parse(link).unwrap().to_file_path().unwrap()).unwrap()
}

#[tokio::test]
async fn a_link_opens_the_file_as_it_is_or_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let opened = open_directory(&place.path().join("store")).unwrap();
    for target in [LinkTarget::Projection, LinkTarget::Version] {
        let mut machine = Machine::new(Arc::clone(&opened.store));
        machine.linker.clone_from(&opened.linker);
        let mirror = match target {
            LinkTarget::Version => machine.open_with(|mirror| mirror.links_to(target)).await,
            _ => machine.open().await,
        };
        machine.write("a b.txt", "first");
        let first = link(&mirror.sync().await.unwrap(), "a b.txt");
        machine.write("a b.txt", "second");
        let second = link(&mirror.sync().await.unwrap(), "a b.txt");
        assert_eq!(read_file_link(&second), "second");
        let of_first = if target == LinkTarget::Version { "first" } else { "second" };
        assert_eq!(read_file_link(&first), of_first, "{target:?}");
        machine.remove("a b.txt");
        mirror.sync().await.unwrap();
    }
}

#[tokio::test]
async fn every_way_to_a_version_gives_it_a_link() {
    let mut machine = Machine::in_memory();
    let set = linked(&mut machine);
    let mirror = machine.open_with(set).await;
    let large = "0123456789abcdef".repeat(600_000);
    machine.write("small", "small");
    machine.write("large", &large);
    let report = mirror.sync().await.unwrap();
    assert_eq!(open_link(&machine, &link(&report, "small")).await, "small");
    assert!(open_link(&machine, &link(&report, "large")).await == large);
    // The object of the projection keeps its own key.
    assert_eq!(report.changed[1].key, Some(key("small")));

    // A renamed file has the content of the old name.
    machine.rename("small", "renamed");
    let report = mirror.sync().await.unwrap();
    assert_eq!(open_link(&machine, &link(&report, "renamed")).await, "small");

    machine.write("tool.txt", "written by a tool");
    let path = RelativePath::parse("tool.txt").unwrap();
    let stored = link(&mirror.put_file(&path).await.unwrap(), "tool.txt");
    assert_eq!(open_link(&machine, &stored).await, "written by a tool");
    let again = link(&mirror.put_file(&path).await.unwrap(), "tool.txt");
    assert_eq!(again, stored, "an unchanged file has the same link");
}

#[tokio::test]
async fn a_content_inside_an_entry_gets_an_object_of_its_own_once_the_file_is_written_again() {
    let mut machine = Machine::in_memory();
    let mirror = machine.open().await;
    machine.write("a", "inline");
    mirror.sync().await.unwrap();
    assert!(machine.blobs().await.is_empty());
    drop(mirror);
    let set = linked(&mut machine);
    let mirror = machine.open_with(set).await;
    // Every write changes the time of the file, even if the content stays.
    let file = std::fs::File::open(machine.dir().join("a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let path = RelativePath::parse("a").unwrap();
    let report = mirror.put_file(&path).await.unwrap();
    assert_eq!(open_link(&machine, &link(&report, "a")).await, "inline");
}

#[tokio::test]
async fn without_a_linker_small_contents_stay_inside_entries() {
    let machine = Machine::in_memory();
    let mirror = machine.open_with(|mirror| mirror.links_to(LinkTarget::Version)).await;
    machine.write("a", "1");
    assert_eq!(mirror.sync().await.unwrap().changed[0].url, None);
    assert!(machine.blobs().await.is_empty());
}

#[tokio::test]
async fn without_a_projection_links_open_versions() {
    let mut machine = Machine::in_memory();
    machine.linker = Some(Arc::new(KeyLinks));
    let mirror = machine.open_with(MirrorBuilder::without_projection).await;
    machine.write("a", "1");
    let report = mirror.sync().await.unwrap();
    assert_eq!((changed(&report), report.changed[0].key.clone()), (vec!["a"], None));
    let first = link(&report, "a");
    machine.write("a", "2");
    mirror.sync().await.unwrap();
    assert_eq!(open_link(&machine, &first).await, "1");
    assert!(machine.objects().await.is_empty());
    // More files than those whose objects a call would wait for.
    for number in 0..30 {
        machine.write(&format!("d/{number}"), &"x".repeat(20_000 + number));
    }
    mirror.sync().await.unwrap();
    machine.rename("d", "e");
    let report = mirror.sync().await.unwrap();
    assert_eq!(report.changed.len(), 30);
    assert!(report.changed.iter().all(|changed| changed.url.is_some()), "{report:?}");
    assert_eq!(mirror.sync().await.unwrap().changed, []);
}

#[tokio::test]
async fn a_version_link_opens_an_adopted_and_a_restored_file() {
    let mut machine = Machine::in_memory();
    let set = linked(&mut machine);
    let mirror = machine.open_with(set).await;
    machine.put("upload", "by another program").await;
    mirror.refresh().await.unwrap();
    let path = RelativePath::parse("upload").unwrap();
    let adopted = link(&mirror.put_file(&path).await.unwrap(), "upload");
    assert_eq!(open_link(&machine, &adopted).await, "by another program");
    machine.write("upload", "changed");
    let entry = mirror.sync().await.unwrap().entry;
    machine.remove("upload");
    mirror.sync().await.unwrap();
    mirror.restore_version(&path, entry).await.unwrap();
    let restored = link(&mirror.put_file(&path).await.unwrap(), "upload");
    assert_eq!(open_link(&machine, &restored).await, "changed");
    assert_eq!(machine.files(), expected(&[("upload", "changed")]));
}

/// Checks that presigned links to versions open without credentials, and keep the type and the name
/// of the file.
pub(crate) async fn check_presigned(opened: &OpenedStore) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("session");
    let keys = SessionKeys::at(Key::from("links/files"), Key::from("links/log"));
    let mirror = Mirror::builder(&dir, Arc::clone(&opened.store), keys)
        .state_dir(place.path().join("state"))
        .capabilities(opened.capabilities.clone())
        .linker(opened.linker.clone().unwrap())
        .links_to(LinkTarget::Version)
        .open()
        .await
        .unwrap();
    // A link to the projection could not have this name on every store.
    let name = "Bericht é 1.html";
    let large = "0123456789abcdef".repeat(600_000);
    for content in ["<p>first</p>", &large] {
        std::fs::write(dir.join(name), content).unwrap();
        let first = link(&mirror.sync().await.unwrap(), name);
        std::fs::write(dir.join(name), "<p>second</p>").unwrap();
        let second = link(&mirror.sync().await.unwrap(), name);
        assert!(http_get(&first) == (200, content.as_bytes().to_vec()), "{first}");
        assert_eq!(http_get(&second), (200, b"<p>second</p>".to_vec()), "{second}");
        // The client of Azure cannot set the attributes of a resumable upload.
        if content == large && opened.endpoint.starts_with("az://") {
            continue;
        }
        let key = first.split('?').next().unwrap().rsplit_once("links/log/").unwrap().1;
        let key = Key::from(format!("links/log/{key}"));
        let got = opened.store.get_opts(&key, GetOptions::default()).await.unwrap();
        let attribute = |name| got.attributes.get(&name).map(|value| value.as_ref().to_owned());
        assert_eq!(attribute(Attribute::ContentType).as_deref(), Some("text/html"));
        assert_eq!(
            attribute(Attribute::ContentDisposition).as_deref(),
            Some("inline; filename*=UTF-8''Bericht%20%C3%A9%201.html")
        );
    }
}

#[tokio::test]
async fn a_file_that_is_stored_after_an_outage_gets_its_key_and_its_link() {
    let store = FailingStore::new();
    let mut machine = Machine::new(store.clone());
    machine.linker = Some(Arc::new(KeyLinks));
    let mirror = machine.open().await;
    machine.write("before", "0");
    assert!(mirror.sync().await.unwrap().is_complete());
    store.fail(Calls::All, 0, usize::MAX);
    machine.write("a", "1");
    machine.write("b", "2");
    let report = mirror.sync().await.unwrap();
    assert_eq!(report.pending.len(), 2, "{report:?}");
    assert!(report.changed.iter().all(|changed| changed.key.is_none()));
    store.recover();
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    for (path, changed) in ["a", "b"].into_iter().zip(&report.changed) {
        assert_eq!(changed.path.as_str(), path);
        assert_eq!(changed.key, Some(key(path)), "{report:?}");
        assert_eq!(changed.url, Some(key(path).to_string()));
    }
    assert!(mirror.sync().await.unwrap().changed.is_empty(), "each file is named once");
}

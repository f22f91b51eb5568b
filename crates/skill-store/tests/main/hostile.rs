//! Keys that others wrote, and a session whose agent has been there first.

use std::os::unix::fs::symlink;

use artifact_sync::open_directory;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::SkillError;

use crate::place::{FRONT, Place};

#[tokio::test]
async fn a_symlink_of_the_agents_leads_nowhere() {
    for planted in ["skills", "skills/greet"] {
        let place = Place::in_memory();
        place.publish(&[("f", "1")]).await;
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let link = place.session.path().join(planted);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        place.install("greet@1").await.unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{planted}");
        assert!(place.installed("greet").symlink_metadata().unwrap().is_dir());
        assert_eq!(place.read("greet/f"), "1");
        // And the same later, in the place of what is recorded as installed.
        std::fs::remove_dir_all(place.installed("")).unwrap();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        assert!(!place.install("greet@1").await.unwrap().was_there);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{planted}");
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_the_directory_gives_way() {
    let place = Place::in_memory();
    place.publish(&[("f", "1")]).await;
    std::fs::write(place.installed(""), "a file")
        .unwrap_or_else(|_| std::fs::write(place.session.path().join("skills"), "a file").unwrap());
    place.install("greet@1").await.unwrap();
    assert_eq!(place.read("greet/f"), "1");
}

#[tokio::test]
async fn an_odd_key_is_left_out_and_told() {
    let disk = tempfile::tempdir().unwrap();
    let place = Place::new(open_directory(disk.path()).unwrap().store);
    place.publish(&[("f", "1"), ("d/g", "2")]).await;
    std::fs::write(disk.path().join("general/skills/greet/v1/d/tab\there"), "x").unwrap();
    let report = place.install("greet@1").await.unwrap();
    assert_eq!(report.warnings.len(), 1, "{report:?}");
    assert_eq!(place.read("greet/f"), "1");
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_it_is_fetched() {
    let place = Place::in_memory();
    let put = async |key: String, content: Vec<u8>| {
        place.store.put(&Key::parse(key).unwrap(), content.into()).await.unwrap();
    };
    for number in 0..513 {
        put(format!("general/skills/many/v1/f{number}"), b"x".to_vec()).await;
    }
    put("general/skills/large/v1/SKILL.md".to_owned(), FRONT.as_bytes().to_vec()).await;
    put("general/skills/large/v1/f".to_owned(), vec![0; 17 << 20]).await;
    for skill in ["many@1", "large@1"] {
        let error = place.install(skill).await.unwrap_err();
        assert!(matches!(error, SkillError::Refused { .. }), "{error}");
    }
    assert!(place.names("").is_empty());
}

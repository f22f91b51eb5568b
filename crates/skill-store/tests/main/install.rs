//! Installation in a session.

use std::os::unix::fs::PermissionsExt;

use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use skill_store::{PublishOptions, SkillError};

use testkit::{Calls, FailingStore};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_skill_is_installed_with_its_name_or_another() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("scripts/run.sh", "#!/bin/sh\n"), ("data.bin", "x")]).await;
    let report = fixture.install("greet@1").await.unwrap();
    assert_eq!(report.skill.description.as_deref(), Some("Says hello. Use it to greet."));
    assert!(report.warnings.is_empty() && !report.was_installed, "{report:?}");
    assert_eq!(fixture.read("greet/scripts/run.sh"), "#!/bin/sh\n");
    let mode =
        |path| std::fs::metadata(fixture.installed(path)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("greet/scripts/run.sh"), 0, "a script is executable");
    assert_eq!(mode("greet/data.bin"), 0);
    fixture.install("greet@1=hello").await.unwrap();
    assert_eq!(fixture.names(""), ["greet", "hello"]);
}

#[tokio::test]
async fn an_executable_file_stays_executable() {
    let fixture = Fixture::in_memory();
    let source = fixture.source(&[("tool", "\x7fELF")]);
    std::fs::set_permissions(source.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture.skills.publish(&source, &PublishOptions::default()).await.unwrap();
    fixture.install("greet@1").await.unwrap();
    assert_ne!(
        std::fs::metadata(fixture.installed("greet/tool")).unwrap().permissions().mode() & 0o100,
        0
    );
}

#[tokio::test]
async fn the_same_version_is_unchanged_and_another_replaces_the_directory() {
    let store = FailingStore::new();
    let fixture = Fixture::new(store.clone());
    fixture.publish(&[("old", "1"), ("both", "1")]).await;
    fixture.publish(&[("new", "2"), ("both", "2")]).await;
    fixture.install("greet@1").await.unwrap();
    std::fs::write(fixture.installed("greet/notes"), "of the agent").unwrap();
    let gets = store.count(Calls::Gets);
    assert!(fixture.install("greet@1").await.unwrap().was_installed);
    assert_eq!(store.count(Calls::Gets), gets, "nothing is downloaded");
    assert_eq!(fixture.read("greet/notes"), "of the agent");
    let report = fixture.install("greet@2").await.unwrap();
    assert!(!report.was_installed);
    assert_eq!(fixture.names("greet"), ["SKILL.md", "both", "new"]);
    assert_eq!(fixture.names(""), ["greet"], "no staging directory remains");
    fixture.install("greet@1").await.unwrap();
    assert_eq!(fixture.names("greet"), ["SKILL.md", "both", "old"]);
}

#[tokio::test]
async fn a_version_that_was_changed_in_the_store_is_not_installed_and_each_file_is_named() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1"), ("g", "22"), ("h", "333"), ("kept", "4")]).await;
    for (path, content) in [("f", "x"), ("g", "longer than before")] {
        let key = Key::parse(format!("general/skills/greet/v1/{path}")).unwrap();
        fixture.store.put(&key, content.into()).await.unwrap();
    }
    fixture.store.delete(&Key::from("general/skills/greet/v1/h")).await.unwrap();
    let error = fixture.install("greet@1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "version 1 of the skill greet was changed in the store: f has another digest; \
         g is longer than its manifest or the limit says; h is absent"
    );
    assert_eq!(error.kind(), skill_store::ErrorKind::Unverified);
    assert!(fixture.names("").is_empty());
}

#[tokio::test]
async fn a_file_that_the_agent_changed_or_deleted_is_installed_again() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1"), ("d/g", "2")]).await;
    fixture.install("greet@1").await.unwrap();
    let changes: [fn(&std::path::Path); 4] = [
        |dir| std::fs::remove_dir_all(dir).unwrap(),
        |dir| std::fs::remove_file(dir.join("d/g")).unwrap(),
        |dir| {
            // The same size and modification time.
            let file = std::fs::File::options().write(true).open(dir.join("f")).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            std::io::Write::write_all(&mut &file, b"x").unwrap();
            file.set_modified(modified).unwrap();
        },
        |dir| {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(dir.join("f"), mode).unwrap();
        },
    ];
    for change in changes {
        change(&fixture.installed("greet"));
        let report = fixture.install("greet@1").await.unwrap();
        assert!(!report.was_installed && report.warnings[0].contains("was changed"), "{report:?}");
        assert_eq!((fixture.read("greet/f"), fixture.read("greet/d/g")), ("1".into(), "2".into()));
        assert!(fixture.install("greet@1").await.unwrap().was_installed);
    }
}

#[tokio::test]
async fn a_failing_download_keeps_the_installed_version() {
    let files = [("a", "2"), ("b", "3")];
    // The manifest, two files and SKILL.md.
    for failing in 0..4 {
        let store = FailingStore::new();
        let fixture = Fixture::new(store.clone());
        fixture.publish(&[("a", "1")]).await;
        fixture.publish(&files).await;
        fixture.install("greet@1").await.unwrap();
        store.fail(Calls::Gets, failing, 1);
        fixture.install("greet@2").await.unwrap_err();
        assert_eq!(
            (fixture.names(""), fixture.names("greet")),
            (vec!["greet".into()], vec!["SKILL.md".into(), "a".into()])
        );
        assert_eq!(fixture.read("greet/a"), "1");
        fixture.install("greet@2").await.unwrap();
        assert_eq!(fixture.read("greet/b"), "3");
    }
}

#[tokio::test]
async fn without_a_version_the_latest_is_installed() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    fixture.publish(&[("f", "2")]).await;
    let report = fixture.install("greet").await.unwrap();
    assert_eq!((report.skill.version.get(), fixture.read("greet/f").as_str()), (2, "2"));
    assert!(report.warnings.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_skill_from_another_program_is_installed_although_it_breaks_the_specification() {
    let fixture = Fixture::in_memory();
    let put = async |key: &str, content: &str| {
        fixture
            .store
            .put(&Key::parse(format!("general/skills/{key}")).unwrap(), content.to_owned().into())
            .await
            .unwrap();
    };
    put("old/v3/run.py", "print()").await;
    put("old/v3/sub", "").await;
    put("old/v3/sub/f", "x").await;
    put("odd/v1/SKILL.md", "---\nname: Not Valid\ndescription: Still read.\nauthor: x\n---\n")
        .await;
    let report = fixture.install("old@3").await.unwrap();
    assert_eq!(report.skill.description, None);
    assert!(report.warnings[0].contains("verified by version only"), "{report:?}");
    assert!(report.warnings[1].contains("no SKILL.md"), "{report:?}");
    assert!(fixture.install("old@3").await.unwrap().was_installed);
    assert_eq!(fixture.names("old"), ["run.py", "sub"]);
    assert_eq!(
        fixture.install("odd@1").await.unwrap().skill.description.as_deref(),
        Some("Still read.")
    );
    assert_eq!(fixture.skills.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_skill_is_installed_in_any_directory() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    let into = fixture.root.path().join("a/b");
    fixture.skills.install_into(&"greet@1".parse().unwrap(), &into).await.unwrap();
    assert_eq!(std::fs::read_to_string(into.join("skills/greet/f")).unwrap(), "1");
}

#[tokio::test]
async fn nothing_of_a_user_is_replaced_outside_of_sessions() {
    let fixture = Fixture::in_memory();
    fixture.publish(&[("f", "1")]).await;
    let into = fixture.root.path().join("into");
    let skill = "greet@1".parse().unwrap();
    let refused = async || {
        let error = fixture.skills.install_into(&skill, &into).await.unwrap_err();
        assert!(matches!(error, SkillError::Occupied { .. }), "{error:?}");
    };
    std::fs::create_dir_all(into.join("skills/greet")).unwrap();
    std::fs::write(into.join("skills/greet/draft.md"), "draft").unwrap();
    refused().await;
    assert_eq!(std::fs::read_to_string(into.join("skills/greet/draft.md")).unwrap(), "draft");
    std::fs::rename(into.join("skills"), into.join("shared")).unwrap();
    std::os::unix::fs::symlink("shared", into.join("skills")).unwrap();
    refused().await;
    assert!(into.join("skills").is_symlink());
    std::fs::remove_file(into.join("skills")).unwrap();
    std::fs::create_dir_all(into.join("skills/greet")).unwrap();
    for _ in 0..2 {
        fixture.skills.install_into(&skill, &into).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(into.join("skills/greet/f")).unwrap(), "1");
}

#[tokio::test]
async fn a_skill_whose_modes_were_changed_is_installed_again() {
    use std::os::unix::fs::PermissionsExt;

    let fixture = Fixture::in_memory();
    fixture.publish(&[("d/e/f", "1"), ("g", "2")]).await;
    assert!(!fixture.install("greet@1").await.unwrap().was_installed);
    assert!(fixture.install("greet@1").await.unwrap().was_installed);
    for path in ["", "d", "d/e", "d/e/f", "g"] {
        let changed = fixture.installed("greet").join(path);
        let mode = changed.metadata().unwrap().permissions().mode();
        std::fs::set_permissions(&changed, PermissionsExt::from_mode(mode ^ 0o022)).unwrap();
        let report = fixture.install("greet@1").await.unwrap();
        assert!(!report.was_installed && report.warnings[0].contains("was changed"), "{path}");
        assert_eq!(changed.metadata().unwrap().permissions().mode(), mode, "{path}");
        assert!(fixture.install("greet@1").await.unwrap().was_installed, "{path}");
    }
    // The agent may add files.
    std::fs::write(fixture.installed("greet/d/new"), "").unwrap();
    assert!(fixture.install("greet@1").await.unwrap().was_installed);
}

#[tokio::test]
async fn a_manifest_without_a_skill_file_is_not_installed() {
    for keeps in [false, true] {
        let disk = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(artifact_sync::open_directory(disk.path()).unwrap().store);
        fixture.publish(&[("f", "1")]).await;
        let mut manifest = fixture.skills.manifest(&"greet@1".parse().unwrap()).await.unwrap();
        manifest.files.retain(|file| keeps && file.path.as_str() == "f");
        let records = disk.path().join("general/skills/greet/.versions");
        for entry in std::fs::read_dir(&records).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "json") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let name = format!("v1.{}.json", manifest.digest());
        std::fs::write(records.join(name), manifest.to_json()).unwrap();
        let error = fixture.install("greet@1").await.unwrap_err();
        assert!(matches!(error, SkillError::Manifest { .. }), "{error}");
        assert!(!fixture.installed("greet").exists());
    }
}

//! Files that a publisher hardly means to publish, and names that no skill may have.

use std::io::{Cursor, Write};

use skill_store::{ErrorKind, PublishOptions, PublishReport, SkillError, SkillId};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::fixture::Fixture;

const FILES: [(&str, &str); 9] = [
    (".git/HEAD", "ref"),
    ("SKILL.md~", "old"),
    ("d/.f.swp", "swap"),
    ("d/.DS_Store", "x"),
    (".env", "A=1"),
    (".env.example", "A="),
    ("d/id_ed25519", "key"),
    ("d/deploy.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"),
    ("f", "x"),
];

#[track_caller]
fn check(report: &PublishReport) {
    assert_eq!(report.left_out, [".git", "SKILL.md~", "d/.DS_Store", "d/.f.swp"]);
    let secrets: Vec<_> = report.likely_secrets.iter().map(|path| path.as_str()).collect();
    assert_eq!(secrets, [".env", "d/deploy.txt", "d/id_ed25519"]);
    assert_eq!(report.files, 6);
}

#[tokio::test]
async fn a_report_names_left_out_files_and_likely_secrets() {
    let fixture = Fixture::in_memory();
    let source = fixture.source(&FILES);
    let options = PublishOptions::default();
    check(&fixture.skills.publish(&source, &options).await.unwrap());

    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let skill_file = ("SKILL.md", crate::fixture::SKILL_FILE);
    for (path, content) in [skill_file].iter().chain(&FILES) {
        writer.start_file(*path, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    let archive = fixture.root.path().join("skill.zip");
    std::fs::write(&archive, writer.finish().unwrap().into_inner()).unwrap();
    let report = fixture.skills.publish_zip(&archive, &options).await.unwrap();
    check(&report);
    let plain = fixture.skills.publish(&fixture.source(&[("f", "x")]), &options).await.unwrap();
    assert!(plain.left_out.is_empty() && plain.likely_secrets.is_empty());
}

#[tokio::test]
async fn no_skill_is_published_or_installed_under_a_reserved_name() {
    let fixture = Fixture::in_memory();
    let source = fixture.source(&[]);
    for name in [".git", ".Git", ".hidden"] {
        let options = PublishOptions::default().id(SkillId::parse(name).unwrap());
        let error = fixture.skills.publish(&source, &options).await.unwrap_err();
        assert!(matches!(error, SkillError::ReservedName { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(fixture.skills.ids().await.unwrap().is_empty());
    fixture.publish(&[]).await;
    for name in [".git", ".GIT"] {
        let error = fixture.install(&format!("greet@1={name}")).await.unwrap_err();
        assert!(matches!(error, SkillError::ReservedName { .. }), "{error}");
    }
    assert!(!fixture.installed("").exists());
}

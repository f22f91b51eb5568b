//! Publication of zip archives.

use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;

use skill_store::{ArchiveError, PublishOptions, SkillError};
use zip::CompressionMethod::Deflated;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::fixture::{Fixture, SKILL_FILE};

type Entry<'e> = (&'e str, u32, &'e [u8]);

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = SimpleFileOptions::default().compression_method(Deflated);
        writer.start_file(*name, options.unix_permissions(*mode)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn publish(fixture: &Fixture, bytes: &[u8]) -> Result<usize, ArchiveError> {
    let path = fixture.root.path().join("skill.zip");
    std::fs::write(&path, bytes).unwrap();
    match fixture.skills.publish_zip(&path, &PublishOptions::default()).await {
        Ok(published) => Ok(published.files),
        Err(SkillError::Archive { source, .. }) => {
            assert!(fixture.skills.list().await.unwrap().is_empty(), "nothing is stored");
            Err(source)
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn names_that_every_file_system_tells_apart_are_published() {
    let fixture = Fixture::in_memory();
    let names = ["stra\u{df}e", "strase", "\u{130}", "i", "\u{131}", "e\u{301}", "e", "ﾊ", "ハ"];
    let entries = names.map(|name| (name, 0o644, &b"x"[..]));
    let bytes = archive(&[&[SKILL][..], &entries].concat());
    assert_eq!(publish(&fixture, &bytes).await, Ok(1 + names.len()));
}

const SKILL: Entry<'static> = ("SKILL.md", 0o644, SKILL_FILE.as_bytes());

#[tokio::test]
async fn an_archive_is_published_like_a_directory() {
    for prefix in ["", "greet/"] {
        let fixture = Fixture::in_memory();
        let names = ["SKILL.md", "d/run", ".Git/HEAD"].map(|name| format!("{prefix}{name}"));
        let attributes = format!("__MACOSX/{prefix}._SKILL.md");
        let bytes = archive(&[
            (&names[0], 0o644, SKILL_FILE.as_bytes()),
            (&names[1], 0o755, b"x"),
            (&names[2], 0o644, b"ref"),
            (&attributes, 0o644, b"attributes"),
        ]);
        assert_eq!(publish(&fixture, &bytes).await, Ok(2), "{prefix}");
        fixture.install("greet@1").await.unwrap();
        let mode = fixture.installed("greet/d/run").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fixture.names("greet"), ["SKILL.md", "d"]);
    }
}

#[tokio::test]
async fn an_entry_that_no_skill_may_have_is_an_error_of_its_kind() {
    let refused = async |entry: Entry<'_>| {
        publish(&Fixture::in_memory(), &archive(&[SKILL, entry])).await.expect_err(entry.0)
    };
    for name in [
        "../x",
        "/x",
        "a/../../x",
        "a\\x",
        "C:/x",
        "a//x",
        "./x",
        "tab\there",
        "a\u{202e}b",
        "a\u{2066}",
        "a\u{200b}b",
        "a\u{e0041}",
    ] {
        let error = refused((name, 0o644, b"x")).await;
        assert!(matches!(error, ArchiveError::InvalidName { .. }), "{name}: {error}");
    }
    let link = with_mode(archive(&[SKILL, ("link", 0o644, b"/etc/passwd")]), b"link", 0o120_777);
    let error = publish(&Fixture::in_memory(), &link).await.unwrap_err();
    assert_eq!(error, ArchiveError::Link { name: "link".to_owned() });
    for mode in [0o020_644, 0o060_644, 0o010_644, 0o140_644] {
        let entry = archive(&[SKILL, ("device", 0o644, b"x")]);
        let bytes = with_mode(entry, b"device", mode);
        let error = publish(&Fixture::in_memory(), &bytes).await.unwrap_err();
        assert!(matches!(error, ArchiveError::SpecialFile { .. }), "{mode:o}: {error}");
    }
    for names in [
        ["Readme", "README"],
        ["a", "A/b"],
        ["d/x", "D/y"],
        ["stra\u{df}e", "STRASSE"],
        ["\u{130}", "i\u{307}"],
        ["caf\u{e9}", "cafe\u{301}"],
        ["CAF\u{c9}/a", "cafe\u{301}/b"],
        ["\u{fb01}n", "fin"],
        ["\u{3a3}", "\u{3c2}"],
    ] {
        let bytes = archive(&[SKILL, (names[0], 0o644, b"1"), (names[1], 0o644, b"2")]);
        let error = publish(&Fixture::in_memory(), &bytes).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Collision { .. }), "{names:?}: {error}");
    }
}

#[tokio::test]
async fn a_name_of_a_file_and_a_directory_is_named_as_both() {
    let bytes = archive(&[SKILL, ("f", 0o644, b"1"), ("f/g", 0o644, b"2")]);
    let error = publish(&Fixture::in_memory(), &bytes).await.unwrap_err();
    assert_eq!(error, ArchiveError::FileAndDirectory { name: "f".to_owned() });
}

#[tokio::test]
async fn an_end_record_that_counts_other_entries_is_refused() {
    for count in [1_u8, 3] {
        let mut bytes = archive(&[SKILL, ("a", 0o644, b"1")]);
        let end = bytes.len() - 22;
        (bytes[end + 8], bytes[end + 10]) = (count, count);
        let error = publish(&Fixture::in_memory(), &bytes).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Unreadable { .. }), "{count}: {error}");
    }
}

/// Sets the mode of an entry in the directory of an archive (APPNOTE.TXT 6.3.10, 4.3.12).
fn with_mode(mut bytes: Vec<u8>, name: &[u8], mode: u32) -> Vec<u8> {
    let at = central(&bytes, name);
    bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    bytes
}

/// Returns the offset of the header of an entry in the directory of an archive.
fn central(bytes: &[u8], name: &[u8]) -> usize {
    let headers = (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02"));
    let mut headers = headers.filter(|at| bytes[at + 46..].starts_with(name));
    headers.next().unwrap()
}

#[tokio::test]
async fn an_entry_with_two_names_is_an_error() {
    let mut bytes = archive(&[SKILL, ("run.sh", 0o644, b"x")]);
    let name = (0..bytes.len()).find(|at| bytes[*at..].starts_with(b"run.sh")).unwrap();
    bytes[name..name + 6].copy_from_slice(b"../../");
    let error = publish(&Fixture::in_memory(), &bytes).await.unwrap_err();
    let (name, other) = ("run.sh".to_owned(), "../../".to_owned());
    assert_eq!(error, ArchiveError::OtherName { name, other });
}

#[tokio::test]
async fn an_archive_that_grows_beyond_the_limits_is_an_error() {
    let fixture = Fixture::in_memory();
    let zeros = vec![0; (16 << 20) + 1];
    let bomb = archive(&[SKILL, ("zeros", 0o644, &zeros)]);
    assert!(bomb.len() < 100_000, "it is small: {}", bomb.len());
    assert!(matches!(publish(&fixture, &bomb).await, Err(ArchiveError::TooLarge { .. })));
    // The directory claims a small size.
    let mut lying = bomb.clone();
    let at = central(&lying, b"zeros");
    lying[at + 24..at + 28].copy_from_slice(&5_u32.to_le_bytes());
    let error = publish(&fixture, &lying).await.unwrap_err();
    assert!(
        matches!(error, ArchiveError::WrongSize { .. } | ArchiveError::Unreadable { .. }),
        "{error}"
    );
    let half = vec![0; 9 << 20];
    let sum = archive(&[SKILL, ("a", 0o644, &half), ("b", 0o644, &half)]);
    assert!(matches!(publish(&fixture, &sum).await, Err(ArchiveError::TooLarge { .. })));
}

#[tokio::test]
async fn an_archive_of_many_entries_is_refused_before_they_are_read() {
    let fixture = Fixture::in_memory();
    let names: Vec<String> = (0..2_000).map(|number| format!("f{number}")).collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|name| (&**name, 0o644, &b""[..])).collect();
    let error = publish(&fixture, &archive(&entries)).await.unwrap_err();
    assert_eq!(error, ArchiveError::TooManyEntries { entries: 2_000 });
    let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let entries: Vec<Entry<'_>> = many.iter().map(|name| (&**name, 0o644, &b""[..])).collect();
    let error = publish(&fixture, &archive(&entries)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::TooManyEntries { .. }), "{error}");
    let error = publish(&fixture, &archive(&entries[..600])).await.unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_archive_is_an_error() {
    let fixture = Fixture::in_memory();
    let good = archive(&[SKILL, ("f", 0o644, b"some content that is long enough")]);
    for bytes in [&b""[..], b"no archive", &good[..good.len() - 5], &good[10..]] {
        assert!(publish(&fixture, bytes).await.is_err());
    }
    // Every third byte in turn. What is published nevertheless has its content.
    for at in (0..good.len()).step_by(3) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x41;
        let fixture = Fixture::in_memory();
        let path = fixture.root.path().join("skill.zip");
        std::fs::write(&path, &damaged).unwrap();
        let published = fixture.skills.publish_zip(&path, &PublishOptions::default()).await;
        if published.is_ok() {
            fixture.install("greet@1").await.unwrap();
        } else {
            assert!(fixture.skills.list().await.unwrap().is_empty());
        }
    }
}

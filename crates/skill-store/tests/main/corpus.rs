//! SKILL.md files in the shapes that skills of other clients have, in `tests/corpus`.
//!
//! `tests/corpus/verdicts.txt` has the verdict on each; `UPDATE_GOLDEN=1` writes it again.

use std::fmt::Write;
use std::path::Path;

use skill_store::{FrontMatter, FrontMatterError, PublishOptions};

use crate::fixture::Fixture;

/// Returns the strict verdict on a SKILL.md, and its deviations.
fn verdict(text: &[u8]) -> String {
    match FrontMatter::parse(text) {
        Ok(_) => "valid".to_owned(),
        Err(FrontMatterError::Deviations { deviations, lenient }) => {
            let places =
                deviations.iter().map(|found| format!("{} {}", found.field, found.position));
            let accepted = if lenient.is_some() { "lenient" } else { "refused" };
            format!("{accepted}: {}", places.collect::<Vec<_>>().join(", "))
        }
        Err(error) => {
            let variant = format!("{error:?}");
            format!("refused: {}", variant.split([' ', '(']).next().unwrap())
        }
    }
}

#[tokio::test]
async fn a_skill_of_each_shape_is_installed_as_it_was_published_or_refused() {
    let fixture = Fixture::in_memory();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut verdicts = String::new();
    for file in files {
        let shape = file.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read(&file).unwrap();
        let verdict = verdict(&text);
        writeln!(verdicts, "{shape}: {verdict}").unwrap();

        let source = fixture.source(&[]);
        std::fs::write(source.join("SKILL.md"), &text).unwrap();
        let strict = PublishOptions::default().id(shape.parse().unwrap());
        let is_strict = fixture.skills.publish(&source, &strict).await.is_ok();
        assert_eq!(is_strict, verdict == "valid", "{shape}: {verdict}");
        let published = fixture.skills.publish(&source, &strict.lenient()).await;
        assert_eq!(published.is_ok(), !verdict.starts_with("refused"), "{shape}: {published:?}");
        if published.is_ok() {
            fixture.install(&format!("{shape}@latest")).await.unwrap();
            let installed = std::fs::read(fixture.installed(&format!("{shape}/SKILL.md")));
            assert_eq!(installed.unwrap(), text, "{shape}");
        }
    }
    let golden = directory.join("verdicts.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &verdicts).unwrap();
    }
    assert_eq!(verdicts, std::fs::read_to_string(&golden).unwrap_or_default());
}

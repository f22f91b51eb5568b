//! Zip archives: what is read stays in the skill and within its limits.

#![no_main]

use std::io::Cursor;

use skill_store::internal::read_archive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(content) = read_archive(Cursor::new(input)) else { return };
    let files = content.files;
    let bytes: usize = files.iter().map(|(_, object)| object.content.len()).sum();
    assert!(bytes <= 16 << 20 && files.len() <= 512);
    for (path, _) in &files {
        assert!(path.components().all(|part| !matches!(part, "" | "." | ".." | ".git")));
        assert!(!path.as_str().contains('\\'));
    }
    assert!(files.is_sorted_by(|(a, _), (b, _)| a < b));
});

//! Manifests: an accepted text is the text of what was parsed, and its paths stay in the skill.

#![no_main]

use skill_store::Manifest;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(manifest) = Manifest::parse(input) else { return };
    assert_eq!(manifest.to_json(), input);
    assert!(manifest.bytes() <= 16 << 20 && manifest.files.len() <= 512);
    for file in &manifest.files {
        assert!(file.path.components().all(|part| !matches!(part, "" | "." | "..")));
        assert_eq!(manifest.file(&file.path), Some(file));
    }
});

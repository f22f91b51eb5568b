//! The front matter of SKILL.md: the strict check accepts what the lenient one has no remark about.

#![no_main]

use skill_store::{FrontMatter, FrontMatterError};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Most inputs have no lines `---`, so they are tried with them too.
    let wrapped = [b"---\n", input, b"\n---\n"].concat();
    for text in [input, &wrapped] {
        match (FrontMatter::parse(text), FrontMatter::parse_leniently(text)) {
            (Ok(strict), Ok((lenient, deviations))) => {
                assert!(deviations.is_empty() && strict == lenient);
                assert!((1..=64).contains(&strict.name.len()));
            }
            (Err(FrontMatterError::Deviations { deviations, .. }), Ok((_, found))) => {
                assert!(!found.is_empty() && deviations == found);
                let lines = text.split(|byte| *byte == b'\n').count() as u64;
                assert!(found.iter().all(|found| (1..=lines).contains(&found.position.line)));
            }
            (
                Err(FrontMatterError::Deviations { deviations, .. }),
                Err(FrontMatterError::Deviations { deviations: found, .. }),
            ) => {
                // The lenient check reports only what keeps the file from being accepted.
                assert!(!found.is_empty() && found.iter().all(|one| deviations.contains(one)));
            }
            (Err(strict), Err(lenient)) => assert_eq!(strict, lenient),
            (strict, lenient) => panic!("{strict:?}, but {lenient:?}"),
        }
    }
});

//! Names and limits of skills, in a session and in a store.

/// Directory of skills in a session, and of their keys below the prefix of a
/// [`SkillStore`](crate::SkillStore).
pub const SKILLS_DIRECTORY: &str = "skills";
/// Name of the file that every skill has.
pub(crate) const SKILL_FILE: &str = "SKILL.md";
/// Directory of keys with the records of all versions of one skill.
pub(crate) const RECORDS: &str = ".versions";
/// Directory of keys that name the latest version of each skill. It is beside `skills`, so that a
/// listing of the ids has nothing else.
pub(crate) const INDEX: &str = "skill-index";

/// Maximum number of files in a skill.
pub(crate) const MAX_FILES: usize = 512;
/// Maximum size of all files of a skill together.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
/// Maximum length of a path in a skill.
pub(crate) const MAX_PATH_BYTES: usize = 512;
/// Maximum number of records of one skill: each version has up to five.
pub(crate) const MAX_RECORDS: usize = 100_000;

/// Maximum number of concurrent uploads, and of skills that are looked at together.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;
/// Maximum number of concurrent downloads. The files of a skill are small, so their time is mostly
/// waiting.
pub(crate) const CONCURRENT_DOWNLOADS: usize = 128;

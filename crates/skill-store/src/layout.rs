//! Names and limits of skills, in a session and in a store.

/// Directory of skills in a session, and of their keys below the prefix of a
/// [`SkillStore`](crate::SkillStore).
pub const SKILLS_DIRECTORY: &str = "skills";
/// Name of the file that every skill has.
pub(crate) const SKILL_FILE: &str = "SKILL.md";
/// Directory of keys that reserve the version numbers of one skill.
pub(crate) const RESERVATIONS: &str = ".versions";

/// Maximum number of files in a skill.
pub(crate) const MAX_FILES: usize = 512;
/// Maximum size of all files of a skill together.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
/// Maximum length of a path in a skill.
pub(crate) const MAX_PATH_BYTES: usize = 512;

/// Maximum number of concurrent requests to the store.
pub(crate) const CONCURRENT_REQUESTS: usize = 16;

//! A directory that is to be published.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use artifact_sync::Object;
use sandbox_core::RelativePath;

use crate::error::SkillError;
use crate::front_matter::{FrontMatter, SKILL_FILE};

/// The most files of one skill.
pub(crate) const MAX_FILES: usize = 512;
/// The most bytes of one skill.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
/// The longest path of a file in a skill, in bytes.
pub(crate) const MAX_PATH_BYTES: usize = 512;
/// `O_NOFOLLOW | O_NONBLOCK` of Linux (`asm-generic/fcntl.h`): a symlink or a FIFO that is swapped
/// in is not opened or waited for.
const OPEN_FLAGS: i32 = 0o400_000 | 0o4_000;
/// History is no part of a skill.
const LEFT_OUT: &str = ".git";

/// The files of a skill, in memory.
pub(crate) struct Source {
    pub(crate) files: Vec<(RelativePath, Object)>,
    pub(crate) front_matter: FrontMatter,
}

impl Source {
    /// Reads a directory and checks it whole, before anything is published.
    pub(crate) fn read(dir: &Path) -> Result<Self, SkillError> {
        let mut reading = Reading { root: dir, files: Vec::new(), bytes: 0 };
        reading.directory(dir, "")?;
        let mut files = reading.files;
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let path = dir.join(SKILL_FILE);
        let Some((_, skill_file)) = files.iter().find(|(path, _)| path.as_str() == SKILL_FILE)
        else {
            let problem = format!(
                "it has no {SKILL_FILE}, which says what the skill is called and when to use it"
            );
            return Err(SkillError::Unfit { path: dir.to_owned(), problem });
        };
        let front_matter = FrontMatter::parse(&skill_file.content)
            .map_err(|source| SkillError::SkillFile { path, source })?;
        Ok(Self { files, front_matter })
    }
}

struct Reading<'d> {
    root: &'d Path,
    files: Vec<(RelativePath, Object)>,
    bytes: u64,
}

impl Reading<'_> {
    fn directory(&mut self, dir: &Path, prefix: &str) -> Result<(), SkillError> {
        let failed = |source| SkillError::Read { path: dir.to_owned(), source };
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| unfit(&path, "its name is not UTF-8"))?;
            if name == LEFT_OUT {
                continue;
            }
            let below = format!("{prefix}{name}");
            let kind = entry
                .file_type()
                .map_err(|source| SkillError::Read { path: path.clone(), source })?;
            if kind.is_dir() {
                self.directory(&path, &format!("{below}/"))?;
            } else if kind.is_file() {
                self.file(path, &below)?;
            } else if kind.is_symlink() {
                return Err(unfit(
                    &path,
                    "symlinks are no part of a skill; put the file itself there",
                ));
            } else {
                return Err(unfit(&path, "it is no regular file"));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, below: &str) -> Result<(), SkillError> {
        if self.files.len() == MAX_FILES {
            return Err(unfit(self.root, format!("it has more than {MAX_FILES} files")));
        }
        let relative =
            RelativePath::parse(below).map_err(|error| unfit(&path, error.to_string()))?;
        if below.len() > MAX_PATH_BYTES {
            return Err(unfit(&path, format!("its path is longer than {MAX_PATH_BYTES} bytes")));
        }
        if artifact_sync::key_for(&Default::default(), &relative).is_err() {
            return Err(unfit(&path, "its name has a character that object keys cannot have"));
        }
        let read = || {
            let file = File::options().read(true).custom_flags(OPEN_FLAGS).open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let mut content = Vec::new();
            file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
            Ok(Object::new(content, metadata.permissions().mode() & 0o100 != 0))
        };
        let object = read().map_err(|source| SkillError::Read { path: path.clone(), source })?;
        self.bytes += object.content.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(unfit(self.root, format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        self.files.push((relative, object));
        Ok(())
    }
}

fn unfit(path: &Path, problem: impl Into<String>) -> SkillError {
    SkillError::Unfit { path: path.to_owned(), problem: problem.into() }
}

//! Directories and archives to publish.

use std::collections::BTreeSet;
use std::fs::{DirEntry, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use artifact_sync::internal::{Object, key_for};
use rustix::fs::OFlags;
use sandbox_core::RelativePath;

use crate::archive::{ArchiveContent, ArchiveError, read_archive};
use crate::cautions::{is_left_out, is_likely_secret};
use crate::error::SkillError;
use crate::front_matter::{Deviation, FrontMatter, Strictness};
use crate::layout::{MAX_BYTES, MAX_FILES, MAX_PATH_BYTES, SKILL_FILE};
use crate::names::{Names, has_deceptive};

/// The files of a skill, in memory, sorted by path.
pub(crate) struct SkillSource {
    pub(crate) files: Vec<(RelativePath, Object)>,
    /// The name in SKILL.md.
    pub(crate) name: String,
    pub(crate) deviations: Vec<Deviation>,
    /// The files and directories that are left out.
    pub(crate) left_out: BTreeSet<String>,
    /// The files that likely hold secrets.
    pub(crate) likely_secrets: Vec<RelativePath>,
}

impl SkillSource {
    /// Reads a directory and checks it completely.
    pub(crate) fn read(dir: &Path, strictness: Strictness) -> Result<Self, SkillError> {
        let content = ArchiveContent::default();
        let mut reader = Reader { root: dir, content, bytes: 0, names: Names::default() };
        reader.read_directory(dir, "")?;
        let mut content = reader.content;
        content.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::check(dir, content, strictness)
    }

    /// Reads a zip archive and checks it completely.
    pub(crate) fn read_zip(archive: &Path, strictness: Strictness) -> Result<Self, SkillError> {
        let file = open(archive).map_err(unreadable(archive))?;
        let content = read_archive(BufReader::new(file))
            .map_err(|source| SkillError::Archive { path: archive.to_owned(), source })?;
        Self::check(archive, content, strictness)
    }

    fn check(
        root: &Path,
        content: ArchiveContent,
        strictness: Strictness,
    ) -> Result<Self, SkillError> {
        let ArchiveContent { files, left_out } = content;
        let path = root.join(SKILL_FILE);
        let Some((_, skill_file)) = files.iter().find(|(path, _)| path.as_str() == SKILL_FILE)
        else {
            let is_other_case = |path: &str| path.eq_ignore_ascii_case(SKILL_FILE);
            let other = files.iter().map(|(path, _)| path.as_str()).find(|p| is_other_case(p));
            let problem = match other {
                Some(other) => format!("it has no {SKILL_FILE}; rename {other} to {SKILL_FILE}"),
                None => format!(
                    "it has no {SKILL_FILE}, which says what the skill is called and when to use it"
                ),
            };
            return Err(SkillError::InvalidSource { path: root.to_owned(), problem });
        };
        let parsed = match strictness {
            Strictness::Strict => {
                FrontMatter::parse(&skill_file.content).map(|parsed| (parsed, Vec::new()))
            }
            Strictness::Lenient => FrontMatter::parse_leniently(&skill_file.content),
        };
        let (front_matter, deviations) =
            parsed.map_err(|source| SkillError::InvalidSkillFile { path, source })?;
        let secrets = files.iter().filter(|(path, object)| is_likely_secret(path, &object.content));
        let likely_secrets = secrets.map(|(path, _)| path.clone()).collect();
        Ok(Self { files, name: front_matter.name, deviations, left_out, likely_secrets })
    }
}

/// State of a walk through the directory.
struct Reader<'d> {
    root: &'d Path,
    content: ArchiveContent,
    bytes: u64,
    names: Names,
}

impl Reader<'_> {
    fn read_directory(&mut self, dir: &Path, prefix: &str) -> Result<(), SkillError> {
        for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
            self.read_entry(&entry.map_err(unreadable(dir))?, prefix)?;
        }
        Ok(())
    }

    fn read_entry(&mut self, entry: &DirEntry, prefix: &str) -> Result<(), SkillError> {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().ok_or_else(|| invalid(&path, "its name is not UTF-8"))?;
        let relative = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(unreadable(&path))?;
        if is_left_out(name, kind.is_dir()) {
            self.content.left_out.insert(relative);
            return Ok(());
        }
        if kind.is_dir() {
            self.read_directory(&path, &format!("{relative}/"))
        } else if kind.is_file() {
            self.read_file(path, &relative)
        } else if kind.is_symlink() {
            Err(invalid(&path, "a skill cannot contain symlinks; put the file itself there"))
        } else {
            Err(invalid(&path, "it is no regular file"))
        }
    }

    fn read_file(&mut self, path: PathBuf, relative: &str) -> Result<(), SkillError> {
        if self.content.files.len() == MAX_FILES {
            return Err(invalid(self.root, format!("it has more than {MAX_FILES} files")));
        }
        let parsed =
            RelativePath::parse(relative).map_err(|error| invalid(&path, error.to_string()))?;
        if relative.len() > MAX_PATH_BYTES {
            return Err(invalid(&path, format!("its path is longer than {MAX_PATH_BYTES} bytes")));
        }
        if key_for(&Default::default(), &parsed).is_err() {
            return Err(invalid(&path, "its name has a character that object keys cannot have"));
        }
        if has_deceptive(relative) {
            let problem = "its name has a character that changes how the name is shown";
            return Err(invalid(&path, problem));
        }
        let collision = |error: ArchiveError| invalid(self.root, error.to_string());
        self.names.add(&parsed, false).map_err(collision)?;
        let object = read_object(&path).map_err(unreadable(&path))?;
        self.bytes += object.content.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(invalid(self.root, format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        self.content.files.push((parsed, object));
        Ok(())
    }
}

fn read_object(path: &Path) -> io::Result<Object> {
    let file = open(path)?;
    let is_executable = file.metadata()?.permissions().mode() & 0o100 != 0;
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    Ok(Object::new(content, is_executable))
}

fn open(path: &Path) -> io::Result<File> {
    // Another process can replace the file by a symlink or a FIFO. Neither is followed or waited
    // for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> SkillError {
    move |source| SkillError::Read { path: path.to_owned(), source }
}

fn invalid(path: &Path, problem: impl Into<String>) -> SkillError {
    SkillError::InvalidSource { path: path.to_owned(), problem: problem.into() }
}

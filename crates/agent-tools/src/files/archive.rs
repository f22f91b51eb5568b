//! Tar archives of session files: their limits, their report, and the names in them.

use artifact_sync::SyncReport;
use sandbox_core::RelativePath;
use serde::{Deserialize, Serialize};

use crate::output::FileNote;

/// Limits of [`Session::import_tar`](crate::Session::import_tar).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TarLimits {
    /// The maximum size of all files together, 1 GiB by default.
    pub max_bytes: u64,
    /// The maximum number of entries, 100,000 by default.
    pub max_entries: u64,
}

impl Default for TarLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_entries: 100_000 }
    }
}

/// The report of [`Session::export_tar`](crate::Session::export_tar) and
/// [`Session::import_tar`](crate::Session::import_tar).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct TarReport {
    /// The number of entries in the archive.
    pub entries: u64,
    /// The size of all files together.
    pub bytes: u64,
    /// Files that an export has left out, at most 50, with reasons.
    pub omitted: Vec<FileNote>,
    /// The number of all files that were left out.
    pub omitted_count: u64,
    /// The changes that an import has mirrored.
    pub sync: SyncReport,
}

/// Reads the name of an entry: a path below the place of the import, or `None` for that place.
pub(super) fn entry_name(bytes: &[u8]) -> Result<Option<RelativePath>, &'static str> {
    let name = std::str::from_utf8(bytes).map_err(|_| "its name is not UTF-8")?;
    if name.starts_with('/') {
        return Err("its name is absolute");
    }
    let mut plain = name.trim_end_matches('/');
    while let Some(rest) = plain.strip_prefix("./") {
        plain = rest.trim_start_matches('/');
    }
    if matches!(plain, "" | ".") {
        return Ok(None);
    }
    if plain.split('/').any(|component| component == "..") {
        return Err("its name has the component `..`");
    }
    RelativePath::parse(plain).map(Some).map_err(|_| "its name is no path of a file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_relative() {
        let plain = |name: &str| {
            entry_name(name.as_bytes()).map(|path| path.map(|path| path.as_str().to_owned()))
        };
        assert_eq!(plain("./a/b/"), Ok(Some("a/b".to_owned())));
        assert_eq!((plain("./"), plain(".")), (Ok(None), Ok(None)));
        for name in ["/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\0b"] {
            assert!(plain(name).is_err(), "{name}");
        }
        assert!(entry_name(b"\xff").is_err());
    }
}

//! Signatures that distinguish states of a file without reading it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use sandbox_core::internal::is_opened_by_grant;
use serde::{Deserialize, Serialize};

/// Granularity of times without a fraction of a second. ext4 with small inodes stores whole
/// seconds; FAT stores even ones.
const COARSEST_NANOSECONDS: i128 = 2_000_000_000;
/// Coarsest granularity of other times, of exFAT and of the kernel's tick (`CONFIG_HZ=100`).
const COARSE_NANOSECONDS: i128 = 10_000_000;
/// Largest lead of a file server's clock, one hour. A file whose change time is further ahead was
/// written before the clock was set back, and a later write gives it another time.
const LONGEST_AHEAD_NANOSECONDS: i128 = 3_600_000_000_000;
/// Bits of a mode that are mirrored.
const PERMISSIONS: u16 = 0o777;

/// Size, times, inode and mode of a regular file. Writing to a file, replacing it, or changing its
/// mode changes at least one field. A change that keeps size and modification time still changes
/// the inode or the change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// Seconds and nanoseconds since 1970.
    pub(crate) changed: (i64, u32),
    pub(crate) inode: u64,
    /// The nine permission bits. Other bits, such as the one for set-user-ID, are not mirrored.
    pub(crate) mode: u16,
}

/// Signature in a record, with its power as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedSignature {
    pub(crate) signature: Signature,
    /// Set if a later write may leave the signature as it is. Equal signatures then prove nothing,
    /// like those of a racy entry in an index of git.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_racy: bool,
}

/// Time of the clock that stamps files, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StampTime(i64, u32);

impl Signature {
    /// Reads the signature of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// Reads the signature of an open file for a record. The content must be read afterwards.
    pub(crate) fn record(file: &File) -> io::Result<RecordedSignature> {
        let now = StampTime::now();
        Ok(Self::of(file)?.recorded_at(now))
    }

    /// Returns the signature for a record. `now` is a time before the content was read.
    ///
    /// A later write sets the change time to `now` or a later time. So the signature is evidence if
    /// its own change time is older, by more than the granularity of the file system's times. The
    /// modification time does not matter: programs set it at will.
    pub(crate) fn recorded_at(self, now: StampTime) -> RecordedSignature {
        let (changed, fraction) = self.changed;
        let granularity = if fraction == 0 { COARSEST_NANOSECONDS } else { COARSE_NANOSECONDS };
        let age = now.nanoseconds() - StampTime(changed, fraction).nanoseconds();
        // Opening a file that denies reading changes its mode for a moment, and its change time
        // with it. Such a signature would always be racy. A write to it raises an event or needs
        // another change of its mode, unless the file was opened before.
        let is_racy = !is_opened_by_grant(self.mode)
            && (-LONGEST_AHEAD_NANOSECONDS..=granularity).contains(&age);
        RecordedSignature { signature: self, is_racy }
    }

    /// Returns the signature for a record that proves nothing.
    pub(crate) fn racy(self) -> RecordedSignature {
        RecordedSignature { signature: self, is_racy: true }
    }

    /// Returns whether both are the same file with the same content. Renaming a file changes its
    /// change time, which is not compared.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }
}

impl RecordedSignature {
    /// Returns whether a file with this signature has the recorded content.
    pub(crate) fn proves(&self, signature: &Signature) -> bool {
        !self.is_racy && self.signature == *signature
    }
}

impl StampTime {
    /// Reads the clock. Kernels before 6.13 stamp files with its coarse variant, and later ones
    /// with that time or a finer one.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        // Nanoseconds are below one billion.
        Self(now.tv_sec, now.tv_nsec as u32)
    }

    fn nanoseconds(self) -> i128 {
        i128::from(self.0) * 1_000_000_000 + i128::from(self.1)
    }
}

impl From<&Metadata> for Signature {
    fn from(metadata: &Metadata) -> Self {
        // Nanoseconds are below one billion and modes have 16 bits, so the casts keep their values.
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec() as u32),
            changed: (metadata.ctime(), metadata.ctime_nsec() as u32),
            inode: metadata.ino(),
            mode: permissions(metadata.mode() as u16),
        }
    }
}

impl From<&rustix::fs::Statx> for Signature {
    fn from(stat: &rustix::fs::Statx) -> Self {
        Self {
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            inode: stat.stx_ino,
            mode: permissions(stat.stx_mode),
        }
    }
}

/// Returns the nine permission bits of a mode.
pub(crate) fn permissions(mode: u16) -> u16 {
    mode & PERMISSIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(changed: (i64, u32), now: (i64, u32), is_racy: bool) {
        let signature =
            Signature { size: 1, modified: (i64::MAX, 0), changed, inode: 1, mode: 0o644 };
        let recorded = signature.recorded_at(StampTime(now.0, now.1));
        assert_eq!(recorded.is_racy, is_racy, "{changed:?} at {now:?}");
        assert_eq!(recorded.proves(&signature), !is_racy);
    }

    #[test]
    fn a_signature_is_racy_until_the_granularity_of_its_time_has_passed() {
        check((100, 500), (100, 500), true);
        check((100, 500), (100, 10_000_500), true);
        check((100, 500), (100, 10_000_501), false);
        check((100, 999_999_999), (101, 0), true);
        check((100, 999_999_999), (101, 10_000_000), false);
        check((101, 5), (100, 0), true);
        // Whole seconds.
        check((100, 0), (100, 999_999_999), true);
        check((100, 0), (102, 0), true);
        check((100, 0), (102, 1), false);
    }

    #[test]
    fn a_time_ahead_of_the_clock_is_racy_unless_the_clock_was_set_back() {
        check((3_700, 0), (100, 0), true);
        check((3_701, 0), (100, 0), false);
        check((i64::MAX, 1), (i64::MIN, 0), false);
        check((i64::MIN, 1), (i64::MAX, 0), false);
    }

    #[test]
    fn a_record_tells_only_of_a_racy_signature_that_it_is_one() {
        let signature =
            Signature { size: 1, modified: (2, 3), changed: (4, 5), inode: 6, mode: 0o644 };
        for (now, fields) in [(4, 2), (9, 1)] {
            let recorded = signature.recorded_at(StampTime(now, 6));
            let text = serde_json::to_value(recorded).unwrap();
            assert_eq!(text.as_object().unwrap().len(), fields, "{text}");
            let read: RecordedSignature = serde_json::from_value(text).unwrap();
            assert_eq!(read, recorded);
        }
    }
}

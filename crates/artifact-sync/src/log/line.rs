//! Lines of log entries.

mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::log::ids::{Hash, Token};
use crate::state::Version;

/// Largest content that a `file` line holds itself, in bytes.
pub(crate) const MAX_INLINE_BYTES: u64 = 16 << 10;
/// Most inline content of one entry, in bytes.
pub(crate) const MAX_INLINE_BYTES_PER_ENTRY: u64 = 256 << 10;

/// One line of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", try_from = "wire::Wire")]
pub(crate) enum Line {
    /// This home may append from here on. The epoch is the number of the entry.
    Own {
        home: String,
        /// Address of the owner for other homes, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// The owner gives the session up.
    Release,
    /// A version of a file.
    File {
        path: String,
        #[serde(flatten)]
        file: FileVersion,
    },
    /// A directory that is empty, or whose mode is not the usual one.
    Directory {
        path: String,
        mode: u16,
    },
    Symlink {
        path: String,
        target: String,
    },
    /// The path is not part of the session.
    Removed {
        path: String,
        by: Author,
        /// Time of the removal by the writer's clock, in seconds since 1970.
        at: i64,
        /// Number of the entry that removed the path, in snapshots.
        #[serde(default, skip_serializing_if = "is_zero")]
        number: u64,
    },
    /// An external object that another path has adopted, or that an older version adopted.
    Adopted {
        path: String,
        #[serde(flatten)]
        version: Version,
    },
    /// The projection's version of a path as the writer of a snapshot last saw it.
    Projected {
        path: String,
        #[serde(flatten)]
        version: Version,
    },
    /// The lines after this one are the complete state.
    Snapshot {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
        /// Number of the entry that deleted the former session of this id; zero if none did.
        #[serde(default, skip_serializing_if = "is_zero")]
        began: u64,
    },
    /// The session was deleted on purpose.
    Erased,
}

/// One version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileVersion {
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    /// The nine permission bits.
    pub(crate) mode: u16,
    /// Modification time in seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// Token of this content under this path. Objects of the projection carry it.
    pub(crate) token: Token,
    /// Number of the entry that introduced the token. Zero is the entry of this line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) number: u64,
    #[serde(flatten)]
    pub(crate) content: Content,
    pub(crate) origin: Origin,
    /// Version of the external object from which this one was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<Box<Version>>,
}

/// Place of a file version's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Content {
    /// A blob of this name.
    Blob(Token),
    /// The line itself. Few versions in memory have this.
    Inline(Box<Inline>),
    /// A `file` line with the same hash in the entry of this number.
    Entry(u64),
}

/// Content of a small file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Inline(pub(crate) bytes::Bytes);

/// Writer of a file version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Origin {
    Agent,
    External,
}

/// Cause of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Author {
    Agent,
    External,
    /// The engine confirmed an earlier removal, or moved a file to another name.
    Engine,
}

/// Home that may append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) home: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// Number of the `own` entry.
    pub(crate) epoch: u64,
}

impl Line {
    /// Returns the path that the line changes.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::File { path, .. }
            | Self::Directory { path, .. }
            | Self::Symlink { path, .. }
            | Self::Removed { path, .. }
            | Self::Adopted { path, .. }
            | Self::Projected { path, .. } => Some(path),
            Self::Own { .. } | Self::Release | Self::Snapshot { .. } | Self::Erased => None,
        }
    }
}

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Inline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Inline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let content = STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Ok(Self(content.into()))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

//! Records of the journal.

use serde::{Deserialize, Serialize};

use crate::log::{Hash, Line, Node, Position, Token};
use crate::scan::RecordedSignature;
use crate::state::version::Version;
use crate::transfer::{PartRecord, UploadRecord};

/// Version of the format of journals.
pub(super) const FORMAT: u32 = 3;

/// One line of the journal.
///
/// Neither tags beside the fields nor flattened fields occur, because serde would buffer such
/// records: opening a session reads them all.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum JournalEntry {
    /// First record: format of the journal, and the log that it follows.
    Journal {
        format: u32,
        log: String,
    },
    /// Id under which this state directory owns its session, unless the caller names a home.
    Home {
        id: String,
    },
    /// Lines of the log. They count from the next [`JournalEntry::Position`] on.
    Lines {
        number: u64,
        lines: Vec<Line>,
    },
    /// End of the log as far as the working copy follows it.
    Position {
        position: Position,
    },
    /// An entry is sent that the working copy follows already. Only the next
    /// [`JournalEntry::Acknowledged`] makes it part of the log.
    Sent {
        position: Position,
        lines: Vec<Line>,
        signatures: Vec<(String, RecordedSignature)>,
    },
    /// The log holds the entry that was sent last.
    Acknowledged {
        number: u64,
    },
    /// The working copy holds the current version of a file, with this signature.
    Local {
        path: String,
        signature: RecordedSignature,
    },
    /// The log could not be applied to a path, which has this instead.
    Unfollowed {
        path: String,
        remains: Remains,
    },
    /// The projection was seen with this version of a path.
    KnownObject {
        path: String,
        token: Token,
        version: Version,
    },
    /// The projection was seen without the path.
    NoObject {
        path: String,
    },
    /// The path has no file any more, and its object was never seen.
    UnknownObject {
        path: String,
    },
    Failed {
        path: String,
        failure: Failure,
    },
    /// A blob is being uploaded. Garbage collection spares it.
    Uploading {
        blob: Token,
        path: String,
    },
    /// A multipart upload of the blob has begun.
    Parts {
        blob: Token,
        upload: UploadRecord,
    },
    /// The store holds one more part of the blob.
    Part {
        blob: Token,
        part: PartRecord,
    },
    /// The upload ended, and nothing will refer to the blob.
    Uploaded {
        blob: Token,
    },
    Stage {
        stage: Stage,
    },
    /// The log is being applied to the directory up to this position.
    Applying {
        position: Position,
    },
    /// The directory of the working copy has the mark by which it is recognized.
    Marked,
    /// The working copy was compared since the machine started with this id.
    Boot {
        id: String,
        /// Set until the projection was listed too, if an earlier start may have lost objects.
        suspects_objects: bool,
    },
    /// The projection was listed at this time, in seconds since 1970.
    Listed {
        at: i64,
    },
    /// Garbage was collected at this time, in seconds since 1970.
    Collected {
        at: i64,
    },
}

/// Stage in the life of a working copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stage {
    /// Nothing is known, or a restore is under way.
    #[default]
    Restoring,
    /// The working copy was restored completely.
    Open,
    /// The closing entry was acknowledged, and the working copy is being deleted.
    Closing,
    /// The entry that deletes the session everywhere was sent.
    Erasing,
}

/// State in which a path of the working copy was left when the log could not be applied to it. It
/// is no change by a program, and the next opening tries again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Remains {
    Nothing,
    File { signature: RecordedSignature, hash: Hash },
    Directory { mode: u16 },
    Symlink { target: String },
}

impl Remains {
    /// Returns the state of a path that nothing has changed since the log named this node.
    pub(crate) fn of(node: Option<&Node>, signature: Option<&RecordedSignature>) -> Self {
        match (node, signature) {
            (Some(Node::File(file)), Some(signature)) => {
                Self::File { signature: *signature, hash: file.hash }
            }
            (Some(Node::Directory { mode }), _) => Self::Directory { mode: *mode },
            (Some(Node::Symlink { target }), _) => Self::Symlink { target: target.clone() },
            (None | Some(Node::File(_)), _) => Self::Nothing,
        }
    }
}

/// Failure to store a change of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Set if no retry can succeed.
    pub(crate) is_final: bool,
}

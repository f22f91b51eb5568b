//! State of the model: the store, both machines, and the record of what was promised.

use std::rc::Rc;

use crate::settings::{Mutation, Setting};

pub(crate) const PATHS: usize = 2;
pub(crate) const MACHINES: usize = 2;

/// Content of a file; zero is an absent file.
///
/// No two writes have equal contents. Those of external writers begin at 8.
pub(crate) type Content = u8;

/// Set of contents, one bit each.
pub(crate) type Contents = u16;

pub(crate) const fn bit(content: Content) -> Contents {
    if content == 0 { 0 } else { 1 << content }
}

/// Random token of an entry; no two entries that ever existed share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Token {
    pub(crate) number: u8,
    pub(crate) machine: u8,
    pub(crate) process: u8,
}

/// Name of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Blob(pub(crate) u8, pub(crate) u8);

/// Version and time of an object, as an adopted line records them.
///
/// The time is the length of the log when the object was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Version {
    pub(crate) etag: u8,
    pub(crate) modified: u8,
}

/// The file of one `file` line; a line without a blob holds its content inline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct File {
    pub(crate) content: Content,
    pub(crate) token: Token,
    pub(crate) blob: Option<Blob>,
    pub(crate) adopted: Option<Version>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Line {
    Own,
    Release,
    File(u8, File),
    Removed(u8),
    /// Version of an external object that was adopted under another name.
    Adopted(u8, Version),
    /// Files for versions that are kept beside their path.
    Beside(Contents),
    /// Contents that the agent replaced or removed with this entry. No machine reads it.
    Drops(Contents),
    Snapshot(Snapshot),
}

/// Complete state of a session as of one number.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Snapshot {
    pub(crate) files: [Option<File>; PATHS],
    /// Number of the entry that last removed the path.
    pub(crate) removed: [Option<u8>; PATHS],
    /// Versions of external objects that lines adopted.
    pub(crate) adopted: Vec<(u8, Version)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) token: Token,
    pub(crate) lines: Vec<Line>,
}

/// One number of the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Numbered {
    Entry(Rc<Entry>),
    Deleted,
    /// Entry that a late request created under a deleted number. It breaks the chain of hashes.
    Recreated(Rc<Entry>),
}

/// Object of the projection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Object {
    pub(crate) content: Content,
    pub(crate) marker: Option<Token>,
    pub(crate) version: Version,
}

/// Stored blob; its age counts from `day`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct StoredBlob {
    pub(crate) name: Blob,
    pub(crate) content: Content,
    pub(crate) day: u8,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Request {
    Append(u8, Rc<Entry>),
    PutBlob(u8, StoredBlob),
    /// Conditional PUT of a path; the last field is the expected version.
    Put(u8, File, Option<u8>),
    /// DELETE of a path, conditional where the store can do it.
    Delete(u8, u8),
    DeleteBlob(Blob),
    /// Deletion of the entries below a number.
    DeleteEntries(u8),
}

/// Progress of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    Off,
    /// The `own` entry was sent.
    Owning,
    /// Paths below the number were applied, from the log up to the second number.
    Applying(u8, u8),
    Ready,
    /// The closing entry was acknowledged; paths below the number were deleted.
    Closing(u8),
    Fenced,
}

/// One machine: its disk and the process that runs there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Machine {
    // The working copy and the journal survive crashes.
    pub(crate) restored: bool,
    pub(crate) disk: [Content; PATHS],
    pub(crate) base: [Option<File>; PATHS],
    pub(crate) position: u8,
    /// Token and version of the object that the last listing or PUT found at the path.
    pub(crate) seen: [Option<(Token, u8)>; PATHS],
    /// Blobs that were uploaded but not yet referenced, and their epoch.
    pub(crate) uploads: [Option<(Content, Blob, u8)>; PATHS],
    pub(crate) closing: bool,
    pub(crate) uploaded: u8,
    pub(crate) process: u8,
    // A process holds the rest in memory.
    pub(crate) stage: Stage,
    pub(crate) epoch: u8,
    pub(crate) out: Vec<Request>,
    /// Entry that was sent but not yet acknowledged.
    pub(crate) pending: Option<(u8, Rc<Entry>)>,
    /// The projection was listed since something suggested a difference.
    pub(crate) listed: bool,
    /// The last listing of a path agreed with the log.
    pub(crate) agrees: [bool; PATHS],
    /// Paths whose `removed` line was acknowledged in this epoch.
    pub(crate) deletable: [bool; PATHS],
    /// Contents that the agent removed or replaced, until an entry covers them.
    pub(crate) dropped: [Contents; PATHS],
    /// The part of `dropped` that the unacknowledged entry covers.
    pub(crate) sent_drops: [Contents; PATHS],
    /// More than ten minutes passed since the log was read.
    pub(crate) stale: bool,
    /// Blobs that a garbage collection listed before its snapshot.
    pub(crate) garbage: Option<Vec<Blob>>,
}

impl Machine {
    /// Returns a machine that does not know the session.
    pub(crate) fn new(process: u8, uploaded: u8) -> Self {
        Self {
            restored: false,
            disk: [0; PATHS],
            base: [None; PATHS],
            position: 0,
            seen: [None; PATHS],
            uploads: [None; PATHS],
            closing: false,
            uploaded,
            process,
            stage: Stage::Off,
            epoch: 0,
            out: Vec::new(),
            pending: None,
            listed: false,
            agrees: [false; PATHS],
            deletable: [false; PATHS],
            dropped: [0; PATHS],
            sent_drops: [0; PATHS],
            stale: false,
            garbage: None,
        }
    }

    /// Ends the process. The disk stays.
    pub(crate) fn stop(&mut self, stage: Stage) {
        self.stage = stage;
        self.pending = None;
        self.listed = false;
        self.agrees = [false; PATHS];
        self.deletable = [false; PATHS];
        for (dropped, sent) in self.dropped.iter_mut().zip(&mut self.sent_drops) {
            *dropped |= std::mem::take(sent);
        }
        self.stale = false;
        self.garbage = None;
    }

    pub(crate) fn send(&mut self, request: Request) {
        let place = self.out.binary_search(&request).unwrap_or_else(|place| place);
        self.out.insert(place, request);
    }

    /// Returns whether the path differs from its state in the log.
    pub(crate) fn changed(&self, path: usize) -> bool {
        self.disk[path] != self.base[path].map_or(0, |file| file.content)
    }

    /// Returns whether the agent's commands may run.
    pub(crate) fn runs_calls(&self, setting: &Setting) -> bool {
        let closes = |(_, entry): &(u8, Rc<Entry>)| entry.lines.contains(&Line::Release);
        let closing = self.pending.as_ref().is_some_and(closes);
        !closing || setting.breaks(Mutation::CallDuringClose)
    }

    pub(crate) fn any_changed(&self) -> bool {
        (0..PATHS).any(|path| self.changed(path))
    }
}

/// Number of times that each kind of event may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) writes: u8,
    pub(crate) removals: u8,
    pub(crate) external_puts: u8,
    pub(crate) external_deletes: u8,
    pub(crate) crashes: u8,
    pub(crate) faults: u8,
    pub(crate) opens: u8,
    pub(crate) days: u8,
    pub(crate) collections: u8,
    pub(crate) closes: u8,
    pub(crate) refreshes: u8,
}

/// Record of the promises, which no machine reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) written: Contents,
    pub(crate) acknowledged: Contents,
    /// Contents that were replaced or removed by a writer that saw them.
    pub(crate) replaced: Contents,
    /// Contents kept beside the path.
    pub(crate) beside: Contents,
    /// Contents whose removal was acknowledged.
    pub(crate) removed: Contents,
    /// An entry was acknowledged although another owner's `own` precedes it.
    pub(crate) acknowledged_late: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) log: Vec<Numbered>,
    pub(crate) blobs: Vec<StoredBlob>,
    pub(crate) objects: [Option<Object>; PATHS],
    /// Requests whose sender no longer waits for them.
    pub(crate) late: Vec<Request>,
    pub(crate) machines: [Machine; MACHINES],
    pub(crate) budget: Budget,
    pub(crate) etags: u8,
    pub(crate) day: u8,
    /// Entries below this number are older than the retention time.
    pub(crate) old_entries: u8,
    pub(crate) ledger: Ledger,
}

impl State {
    pub(crate) fn new(setting: &Setting) -> Self {
        Self {
            log: Vec::new(),
            blobs: Vec::new(),
            objects: [None; PATHS],
            late: Vec::new(),
            machines: [Machine::new(0, 0), Machine::new(0, 0)],
            budget: setting.budget,
            etags: 0,
            day: 0,
            old_entries: 0,
            ledger: Ledger::default(),
        }
    }

    /// Returns the next number of the log.
    pub(crate) fn end(&self) -> u8 {
        self.log.len() as u8
    }

    pub(crate) fn has_blob(&self, name: Blob, content: Content) -> bool {
        self.blobs.iter().any(|blob| blob.name == name && blob.content == content)
    }

    pub(crate) fn delay(&mut self, request: Request) {
        let place = self.late.binary_search(&request).unwrap_or_else(|place| place);
        self.late.insert(place, request);
    }
}

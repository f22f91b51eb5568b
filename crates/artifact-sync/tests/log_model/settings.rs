//! Settings of the model: possible events, abilities of the store, and the broken rule.

use crate::state::Budget;

/// Rule that the model breaks on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutation {
    ReuseBlobNames,
    CollectIgnoringAge,
    CollectWithoutSnapshot,
    AdvancePositionFirst,
    CountRecreatedNumbers,
    TrustLateAnswers,
    PutUnconditionally,
    DeleteBeforeAcknowledgement,
    ResendByNewProcess,
    TakeUnmarkedForOwn,
    TakeMissingForRemoved,
    ForgetRemovals,
    CloseBeforeAcknowledgement,
    CloseWithoutMark,
    CompareWithNetState,
    KeepOldPositionsLive,
    IgnoreUnansweredEntries,
    ReferenceUploadsOfEarlierEpochs,
    TakeTakenNumberForOwn,
    RepairNewerObjects,
    ApplyBeforeAppend,
    OverwriteUnseen,
    DeleteByOldRemoval,
    ForgetCurrentAdoption,
    CallDuringClose,
    OutliveTakeover,
    PutUnmarkedEarly,
    CompareTimesOnly,
    ContinueAfterForeignEntry,
}

/// Machines that do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Machines {
    Both,
    Only(usize),
}

impl Machines {
    pub(crate) fn contains(self, machine: usize) -> bool {
        match self {
            Self::Both => true,
            Self::Only(only) => only == machine,
        }
    }
}

/// Events and abilities of one exploration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) budget: Budget,
    pub(crate) writers: Machines,
    pub(crate) removers: Machines,
    pub(crate) collectors: Machines,
    /// The session has a projection.
    pub(crate) projection: bool,
    pub(crate) paths: u8,
    /// Path 1 lies in a directory with the name of path 0.
    pub(crate) nested: bool,
    /// Files are stored in the entry instead of in a blob.
    pub(crate) inline: bool,
    /// Blobs carry the time at which their upload began.
    pub(crate) multipart: bool,
    /// The store keeps attributes, so objects carry markers.
    pub(crate) attributes: bool,
    pub(crate) conditional_delete: bool,
    /// Objects with equal bytes have equal versions.
    pub(crate) equal_etags: bool,
    pub(crate) mutation: Option<Mutation>,
}

/// Small files of one path in a store with every ability, used by two machines.
pub(crate) const BASIC: Setting = Setting {
    budget: Budget {
        opens: 3,
        writes: 2,
        removals: 1,
        external_puts: 0,
        external_deletes: 0,
        crashes: 0,
        faults: 0,
        days: 0,
        collections: 0,
        closes: 0,
        refreshes: 0,
    },
    writers: Machines::Both,
    removers: Machines::Both,
    collectors: Machines::Both,
    projection: true,
    paths: 1,
    nested: false,
    inline: true,
    multipart: false,
    attributes: true,
    conditional_delete: true,
    equal_etags: false,
    mutation: None,
};

impl Setting {
    pub(crate) fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Returns whether requests to the projection end with the process that sent them.
    pub(crate) fn dies_with_process(&self) -> bool {
        !self.attributes && !self.breaks(Mutation::OutliveTakeover)
    }
}

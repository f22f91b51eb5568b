//! Records of a machine that has started again.

use crate::state::boot::Boot;
use crate::state::entry::JournalEntry;
use crate::state::ledger::Ledger;

/// Time after which the kernel has written a change of a file to the disk, in seconds. It begins
/// to do so after half a minute (`dirty_expire_centisecs`, sysctl/vm.rst of the kernel).
const WRITTEN_AFTER_SECONDS: i64 = 60 * 60;

/// Objects of the projection when a start of the machine is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objects {
    /// This machine wrote them before it started.
    Older,
    /// The session is new here.
    Unknown,
}

impl Ledger {
    /// Returns whether the journal is from before this start of the machine.
    pub(crate) fn is_before(&self, boot: &Boot) -> bool {
        self.boot.as_ref() != Some(&boot.id)
    }

    /// Makes the next scan compare the contents of files that may not have reached the disk.
    pub(crate) fn distrust_recent(&mut self) {
        let oldest = self.last_written.saturating_sub(WRITTEN_AFTER_SECONDS);
        let recent = self.local.values_mut().filter(|known| known.signature.changed.0 >= oldest);
        recent.for_each(|known| known.is_racy = true);
    }

    /// Records that the working copy was compared since this start of the machine.
    pub(crate) fn record_boot(&mut self, boot: &Boot, objects: Objects) {
        if self.is_before(boot) {
            let suspects_objects = self.suspects_objects || objects == Objects::Older;
            self.append(JournalEntry::Boot { id: boot.id.clone(), suspects_objects });
        }
    }

    /// Returns whether the machine may have lost objects since the projection was listed last.
    pub(crate) fn suspects_objects(&self) -> bool {
        self.suspects_objects
    }

    /// Returns whether the projection was listed since the machine started.
    pub(crate) fn has_listed(&self) -> bool {
        self.listed > 0
    }
}

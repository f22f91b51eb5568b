//! Progress of the application of the log: where the directory stands, and where it is going.

use crate::log::Position;
use crate::state::entry::JournalEntry;
use crate::state::ledger::Ledger;

impl Ledger {
    /// Returns the latest position that the directory follows, or that it began to follow.
    pub(crate) fn aim(&self) -> Position {
        if self.applying.number > self.position.number { self.applying } else { self.position }
    }

    /// Records the position to which the log is being applied to the directory.
    pub(crate) fn set_applying(&mut self, position: Position) {
        self.append(JournalEntry::Applying { position });
    }

    /// Returns whether the last application of the log did not end.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.applying.number > 0
    }

    /// Ends an application that has come this far.
    pub(super) fn set_position(&mut self, position: Position) {
        self.position = position;
        if self.applying.number <= position.number {
            self.applying = Position::default();
        }
    }
}

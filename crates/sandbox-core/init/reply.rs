//! The report of a worker on a command.

use crate::sys::{self, Fd};
use crate::wire;

/// Result of one command, by the layout of `wire`.
pub struct Reply {
    /// `RESULT_…`.
    pub kind: u32,
    pub value: u32,
    /// `LIMIT_…`.
    pub limit: u32,
    /// Number of created names in this session that the host watches for.
    pub creations: u32,
}

impl Reply {
    pub fn send(self, channel: Fd) {
        let mut message = [0; wire::REPORT_BYTES];
        let words = [self.kind, self.value, self.limit, self.creations];
        for (part, word) in message.chunks_exact_mut(4).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let _ = sys::send(channel, &message);
    }
}

//! Start of the operating system. Files that were written before may be older or shorter than their
//! writer left them.

use rustix::time::{ClockId, clock_gettime};

use crate::log::unix_seconds;

/// Start of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Random text that the kernel chose (`random(4)`).
    pub(crate) id: String,
    /// Time in seconds since 1970, by the present clock.
    pub(crate) began: i64,
}

impl Boot {
    /// Returns the current one. Returns `None` if `/proc` is not mounted.
    pub(crate) fn current() -> Option<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let began = unix_seconds() - clock_gettime(ClockId::Boottime).tv_sec;
        Some(Self { id: id.trim().to_owned(), began })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_the_same_while_the_system_runs() {
        let boot = Boot::current().unwrap();
        assert_eq!(boot.id.len(), 36, "{boot:?}");
        assert_eq!(Boot::current().unwrap().id, boot.id);
        assert!(boot.began < unix_seconds());
    }
}

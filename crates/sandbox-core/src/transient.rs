//! Classification of system errors that may disappear without any change.

use std::io;

use rustix::io::Errno;

/// Returns whether an error reports a shortage or an interruption that may pass.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::ResourceBusy
            | ErrorKind::OutOfMemory
    ) || matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::USERS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_pass_and_denials_do_not() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::BUSY] {
            assert!(is_transient(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::PERM, Errno::NOENT, Errno::ROFS, Errno::NOSYS] {
            assert!(!is_transient(&errno.into()), "{errno:?}");
        }
    }
}

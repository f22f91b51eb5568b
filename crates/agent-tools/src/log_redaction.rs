//! Redaction of a process's log.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Weak};

use sandbox_core::internal::lock;
use secrets::Redactor;

/// The redactors of the open sessions of this process.
static REDACTORS: Mutex<Vec<Weak<Redactor>>> = Mutex::new(Vec::new());

/// Includes the values of a redactor in [`RedactedWriter`] until it is dropped.
pub(crate) fn register(redactor: &Arc<Redactor>) {
    let mut redactors = lock(&REDACTORS);
    redactors.retain(|known| known.strong_count() > 0);
    redactors.push(Arc::downgrade(redactor));
}

/// A writer of log lines in which `[redacted:NAME]` replaces the values of variables of this
/// process's open sessions, unless they were opened without redaction.
///
/// A value is found if one call of `write` has all of it. The formatter of `tracing-subscriber`
/// writes an event by one call, so there it suffices to use
/// `with_writer(|| RedactedWriter::new(std::io::stderr()))`.
///
/// ```
/// use std::io::Write as _;
///
/// let mut log = agent_tools::RedactedWriter::new(Vec::new());
/// log.write_all(b"a line\n")?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The spans and events of this crate contain names and no values. The writer is for causes from
/// elsewhere, such as the names of files.
#[derive(Debug)]
pub struct RedactedWriter<W> {
    inner: W,
}

impl<W: Write> RedactedWriter<W> {
    /// Creates a writer that passes redacted lines on to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }
}

impl<W: Write> Write for RedactedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let redactors: Vec<_> = lock(&REDACTORS).iter().filter_map(Weak::upgrade).collect();
        let mut redacted = Cow::Borrowed(line);
        for redactor in redactors {
            if let Cow::Owned(replaced) = redactor.redact_bytes(&redacted) {
                redacted = Cow::Owned(replaced);
            }
        }
        self.inner.write_all(&redacted)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use secrets::Variables;

    use super::*;

    #[test]
    fn values_of_open_sessions_are_replaced() {
        let mut variables = Variables::new();
        variables.insert("LOGGED", "a value in a log".to_owned().into()).unwrap();
        let redactor = Arc::new(Redactor::new(&variables));
        register(&redactor);
        let written = || {
            let mut writer = RedactedWriter::new(Vec::new());
            writer.write_all(b"cannot open a value in a log: ...\n").unwrap();
            String::from_utf8(writer.inner).unwrap()
        };
        assert_eq!(written(), "cannot open [redacted:LOGGED]: ...\n");
        drop(redactor);
        assert_eq!(written(), "cannot open a value in a log: ...\n");
    }
}

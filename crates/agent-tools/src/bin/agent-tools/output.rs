//! Output of the command: the only place that writes to its standard streams.

use std::fmt::Arguments;
use std::io::{ErrorKind, Result, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agent_tools::printable_lines;

use crate::advice;

/// Prints a line to standard output, like `println!`.
macro_rules! outln {
    ($($text:tt)*) => { $crate::output::print_line(format_args!($($text)*)) };
}

/// Prints a line to standard error, like `eprintln!`.
macro_rules! errln {
    ($($text:tt)*) => {
        $crate::output::print_error(format_args!("{}\n", format_args!($($text)*)))
    };
}

pub(crate) use {errln, outln};

/// The writes that have begun, and those that have ended.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static ENDED: AtomicUsize = AtomicUsize::new(0);

/// Time without progress after which a write counts as stuck.
const STUCK_AFTER: Duration = Duration::from_millis(100);

/// Waits until a write makes no progress, because the reader of a pipe does not read. Such a write
/// blocks its thread.
pub(crate) async fn stuck() {
    loop {
        let before = (BEGUN.load(Ordering::Relaxed), ENDED.load(Ordering::Relaxed));
        tokio::time::sleep(STUCK_AFTER).await;
        let after = (BEGUN.load(Ordering::Relaxed), ENDED.load(Ordering::Relaxed));
        if before == after && after.0 != after.1 {
            return;
        }
    }
}

fn write(write: impl FnOnce() -> Result<()>) -> Result<()> {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    let written = write();
    ENDED.fetch_add(1, Ordering::Relaxed);
    written
}

/// Prints a line to standard output. Escapes characters that would act on a terminal, except line
/// feeds and tabs.
pub(crate) fn print_line(text: Arguments<'_>) {
    let text = text.to_string();
    check(write(|| writeln!(std::io::stdout(), "{}", printable_lines(&text))));
}

/// Set once JSON was printed.
static HAS_JSON: AtomicBool = AtomicBool::new(false);

/// Returns whether standard output has JSON.
pub(crate) fn has_json() -> bool {
    HAS_JSON.load(Ordering::Relaxed)
}

/// Prints JSON to standard output as it is.
pub(crate) fn print_json(text: &str) {
    HAS_JSON.store(true, Ordering::Relaxed);
    check(write(|| writeln!(std::io::stdout(), "{text}")));
}

/// Prints bytes to standard output as they are.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    check(write(|| stdout.write_all(bytes).and_then(|()| stdout.flush())));
}

/// Prints a text of this program to standard output as it is.
pub(crate) fn print_help(text: &str) {
    check(write(|| write!(std::io::stdout(), "{text}")));
}

/// Prints the standard error of a session's command as it is.
pub(crate) fn print_command_error(text: &str) {
    let _ = write(|| std::io::stderr().write_all(text.as_bytes()));
}

/// Prints a text to standard error, escaped like standard output, and with the places of this
/// process in its commands. A failure cannot be reported
/// anywhere.
pub(crate) fn print_error(text: Arguments<'_>) {
    let text = text.to_string();
    let text = printable_lines(&advice::complete(&text)).into_owned();
    let _ = write(|| std::io::stderr().write_all(text.as_bytes()));
}

/// Writes buffered output. Called before the process exits.
pub(crate) fn flush() {
    check(write(|| std::io::stdout().flush()));
}

/// Set once the terminal has hung up.
static FAILURES_ARE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Goes on if standard output fails, because its terminal has hung up.
pub(crate) fn ignore_failures() {
    FAILURES_ARE_IGNORED.store(true, Ordering::Relaxed);
}

/// Ends the process if standard output failed. A reader that closed its pipe wants no more output,
/// which is no failure.
fn check(written: Result<()>) {
    match written {
        Err(_) if FAILURES_ARE_IGNORED.load(Ordering::Relaxed) => {}
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            errln!("agent-tools: cannot write to standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

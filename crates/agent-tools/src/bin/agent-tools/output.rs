//! Output of the command: the only place that writes to its standard streams.

use std::fmt::Arguments;
use std::io::{ErrorKind, Result, Write};

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

pub(crate) fn print_line(text: Arguments<'_>) {
    check(writeln!(std::io::stdout(), "{text}"));
}

/// Prints bytes to standard output as they are.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    check(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Prints a text to standard error. A failure cannot be reported anywhere.
pub(crate) fn print_error(text: Arguments<'_>) {
    let _ = std::io::stderr().write_fmt(text);
}

/// Writes buffered output. Called before the process exits.
pub(crate) fn flush() {
    check(std::io::stdout().flush());
}

/// Ends the process if standard output failed. A reader that closed its pipe wants no more output,
/// which is no failure.
fn check(written: Result<()>) {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            errln!("agent-tools: cannot write to standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

//! Standard input as the value of an argument.

use std::io::{IsTerminal, Read};

use crate::failure::Failure;
use crate::output::errln;

/// Reads standard input to its end. At a terminal, asks for `subject` first.
pub(crate) fn read(subject: &str) -> Result<Vec<u8>, Failure> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        errln!("agent-tools: type {subject}, and end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(Failure::failed)?;
    Ok(bytes)
}

//! Standard input as the value of an argument.

use std::io::{IsTerminal, Read, stdin};

use sandbox_core::RawTerminal;

use crate::failure::Failure;
use crate::output::errln;
use crate::signals;

/// Reads standard input to its end. At a terminal, asks for `subject` first.
pub(crate) fn read(subject: &str) -> Result<Vec<u8>, Failure> {
    if stdin().is_terminal() {
        errln!("agent-tools: type {subject}, and end it with Ctrl-D");
    }
    read_to_end()
}

/// Reads a secret from standard input to its end. A terminal does not show it.
pub(crate) async fn read_secret(subject: &str) -> Result<Vec<u8>, Failure> {
    if !stdin().is_terminal() {
        return read_to_end();
    }
    // A signal restores the terminal before it ends this process.
    signals::until_signal(async {
        let _hidden = RawTerminal::hide_input(stdin()).map_err(Failure::failed)?;
        errln!("agent-tools: type {subject}, which is not shown; end it with Enter and Ctrl-D");
        tokio::task::spawn_blocking(read_to_end).await.map_err(Failure::failed)?
    })
    .await
}

fn read_to_end() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    stdin().read_to_end(&mut bytes).map_err(Failure::failed)?;
    Ok(bytes)
}

//! Encoding of a command as a request to init.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::connection::Connection;
use super::encoder::Encoder;
use super::wire;
use crate::sandbox::{CommandSpec, ExecError};

/// The kernel's limit for one argument or variable (`MAX_ARG_STRLEN`, `linux/binfmts.h`), without
/// its NUL.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;
/// Part of a longer command that one variable passes to the shell.
const PART_BYTES: usize = 120 * 1024;
/// Start of the names of these variables.
const PART: &str = "_AGENT_TOOLS_PART_";
/// The kernel's limit for a path, without its NUL (`PATH_MAX`, `linux/limits.h`).
const MAX_PATH_BYTES: usize = 4095;

/// Encodes the body of a request, with `COMMAND_…` flags.
///
/// # Errors
/// Returns [`ExecError`] if the kernel could never execute the command.
pub(super) fn encode(
    connection: &Connection,
    spec: &CommandSpec,
    flags: u32,
) -> Result<Vec<u8>, ExecError> {
    let cwd = connection.working_dir(spec).as_os_str();
    if spec.command.contains('\0') {
        return Err(ExecError::Nul { what: "command" });
    }
    check("working directory", cwd, MAX_PATH_BYTES)?;
    let parts = parts(&spec.command);
    let mut body = Encoder::default();
    body.u32(flags);
    body.text(connection.shell().as_os_str().as_bytes());
    body.text(cwd.as_bytes());
    let is_deferred = flags & wire::COMMAND_DEFERRED != 0;
    match parts.len() {
        _ if is_deferred => body.text(b""),
        0 | 1 => body.text(spec.command.as_bytes()),
        count => body.text(joining(count).as_bytes()),
    }
    let parts = if parts.len() > 1 { parts } else { Vec::new() };
    encode_environment(&mut body, spec, &parts)?;
    Ok(body.0)
}

/// Returns the parts of a command that each fit into one argument. The shell gets all arguments of
/// a command up to the kernel's limit for their sum (`execve(2)`).
fn parts(command: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = command;
    let part_bytes = if command.len() > MAX_ARGUMENT_BYTES { PART_BYTES } else { command.len() };
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.floor_char_boundary(part_bytes));
        parts.push(part);
        rest = after;
    }
    parts
}

/// Returns a command that runs the command in the variables of its parts. They are unset before it
/// begins.
fn joining(count: usize) -> String {
    let names: Vec<String> = (0..count).map(|number| format!("{PART}{number}")).collect();
    let values: String = names.iter().map(|name| format!("${{{name}}}")).collect();
    format!("eval \"unset {}\n{values}\"", names.join(" "))
}

fn encode_environment(
    body: &mut Encoder,
    spec: &CommandSpec,
    parts: &[&str],
) -> Result<(), ExecError> {
    body.count(spec.env.len() + parts.len());
    for (number, part) in parts.iter().enumerate() {
        body.text(format!("{PART}{number}={part}").as_bytes());
    }
    for (name, value) in &spec.env {
        let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
        if variable.contains(&0) {
            return Err(ExecError::Nul { what: "environment" });
        }
        if variable.len() > MAX_ARGUMENT_BYTES {
            let what = format!("variable {}", name.to_string_lossy());
            return Err(too_large(what, variable.len(), MAX_ARGUMENT_BYTES));
        }
        body.text(&variable);
    }
    Ok(())
}

fn check(what: &'static str, text: &OsStr, limit: usize) -> Result<(), ExecError> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        return Err(ExecError::Nul { what });
    }
    if bytes.len() > limit {
        return Err(too_large(what.to_owned(), bytes.len(), limit));
    }
    Ok(())
}

fn too_large(what: String, size: usize, limit: usize) -> ExecError {
    ExecError::TooLarge { what, size, limit }
}

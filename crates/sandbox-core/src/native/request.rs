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
/// The limit for all variables. The kernel allows a quarter of the stack limit for arguments and
/// variables together: 2 MiB by default.
const MAX_ENVIRONMENT_BYTES: usize = 1024 * 1024;
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
    check("command", OsStr::new(&spec.command), MAX_ARGUMENT_BYTES)?;
    check("working directory", cwd, MAX_PATH_BYTES)?;
    let mut body = Encoder::default();
    body.u32(flags);
    body.text(connection.shell().as_os_str().as_bytes());
    body.text(cwd.as_bytes());
    let is_deferred = flags & wire::COMMAND_DEFERRED != 0;
    body.text(if is_deferred { b"" } else { spec.command.as_bytes() });
    encode_environment(&mut body, spec)?;
    Ok(body.0)
}

fn encode_environment(body: &mut Encoder, spec: &CommandSpec) -> Result<(), ExecError> {
    let environment = || "environment".to_owned();
    let count = spec.env.len();
    if count > wire::MAX_VARIABLES {
        return Err(too_large(environment(), count, "variables", wire::MAX_VARIABLES));
    }
    body.count(count);
    let before = body.0.len();
    for (name, value) in &spec.env {
        let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
        if variable.contains(&0) {
            return Err(ExecError::Nul { what: "environment" });
        }
        if variable.len() > MAX_ARGUMENT_BYTES {
            let what = format!("variable {}", name.to_string_lossy());
            return Err(too_large(what, variable.len(), "bytes", MAX_ARGUMENT_BYTES));
        }
        body.text(&variable);
    }
    let size = body.0.len() - before;
    if size > MAX_ENVIRONMENT_BYTES {
        return Err(too_large(environment(), size, "bytes", MAX_ENVIRONMENT_BYTES));
    }
    Ok(())
}

fn check(what: &'static str, text: &OsStr, limit: usize) -> Result<(), ExecError> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        return Err(ExecError::Nul { what });
    }
    if bytes.len() > limit {
        return Err(too_large(what.to_owned(), bytes.len(), "bytes", limit));
    }
    Ok(())
}

fn too_large(what: String, size: usize, unit: &'static str, limit: usize) -> ExecError {
    ExecError::TooLarge { what, size, unit, limit }
}

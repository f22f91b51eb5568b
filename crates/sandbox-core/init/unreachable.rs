//! Paths in directories that init cannot search.
//!
//! A directory of another user can deny that, also if the host is root: init has the privileges of
//! its namespaces only. A command has fewer than init, so it cannot reach the path either. The
//! directory is covered by an empty one all the same. Its owner may open it to others later.

use crate::plan::read_operation;
use crate::reader::Reader;
use crate::sys::{CStr, Errno, Fd, Result};
use crate::wire;

/// Opens the deepest directory on the way to `path` that init can reach with `open`.
pub fn open_above(path: CStr<'_>, open: impl Fn(CStr<'_>) -> Result<Fd>) -> Result<Fd> {
    let mut buffer = [0; 4096];
    let mut rest = path.bytes();
    loop {
        let end = rest.iter().rposition(|byte| *byte == b'/').ok_or(Errno::ACCES)?;
        rest = &rest[..end];
        // The root is always reachable, and must not be covered.
        if rest.is_empty() {
            return Err(Errno::ACCES);
        }
        buffer.get_mut(..end).ok_or(Errno::INVAL)?.copy_from_slice(rest);
        buffer[end] = 0;
        match open(CStr::new(&buffer[..=end]).ok_or(Errno::INVAL)?) {
            Err(Errno::ACCES) => {}
            other => return other,
        }
    }
}

/// Returns whether an operation only hides or protects. One that binds a path does so below an
/// earlier writable path; `operations` begins with the first of `count`.
pub fn is_restriction(
    operation: u32,
    path: CStr<'_>,
    mut operations: Reader<'_>,
    count: u32,
) -> Result<bool> {
    match operation {
        wire::OP_HIDE_DIRECTORY | wire::OP_HIDE_FILE | wire::OP_PIN_LINK => return Ok(true),
        wire::OP_BIND => {}
        _ => return Ok(false),
    }
    for _ in 0..count {
        let (earlier, argument, above) = read_operation(&mut operations)?;
        let is_writable =
            matches!(earlier, wire::OP_BIND | wire::OP_ROOT) && argument == wire::READ_WRITE;
        let above = above.bytes().strip_suffix(b"/").unwrap_or(above.bytes());
        let below = path.bytes().strip_prefix(above);
        if is_writable && below.is_some_and(|below| below.first() == Some(&b'/')) {
            return Ok(true);
        }
    }
    Ok(false)
}

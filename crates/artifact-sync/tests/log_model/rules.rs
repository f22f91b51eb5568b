//! Rules of the session log, as a machine follows them.

pub(crate) mod append;
pub(crate) mod apply;
pub(crate) mod changes;
pub(crate) mod close;
pub(crate) mod projection;
pub(crate) mod retention;

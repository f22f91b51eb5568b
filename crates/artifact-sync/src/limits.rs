//! Limits on the files that a mirror stores.

/// Largest file that is mirrored. S3 accepts objects up to 5 TiB; a session's files stay far below.
pub(crate) const MAX_FILE_BYTES: u64 = 5 << 30;

/// Deepest nesting of directories. A walk may hold one descriptor per level.
pub(crate) const MAX_DEPTH: usize = 256;

/// Longest path that the kernel accepts, without its closing NUL (`PATH_MAX`, `limits.h`).
pub(crate) const MAX_PATH_BYTES: usize = 4095;

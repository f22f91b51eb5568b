//! Futures on the heap.

use std::pin::Pin;

/// Creates a future on the heap. The future of the caller stays small then, and so does its stack:
/// without optimization, each `await` of a large future copies it there.
#[inline(never)]
pub(crate) fn boxed<F: Future>(create: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(create())
}

//! Files and the native engine, as the public API shows them.

mod files;
#[cfg(feature = "native")]
mod native;
#[cfg(feature = "native")]
mod reruns;

//! Tests of the crate through its public API.

#[cfg(feature = "native")]
mod agreement;
#[cfg(feature = "native")]
mod arguments;
mod calls;
#[cfg(all(feature = "native", feature = "srt"))]
mod conformance;
mod copies;
#[cfg(feature = "native")]
mod creation;
#[cfg(feature = "native")]
mod escapes;
mod files;
#[cfg(feature = "native")]
mod fixture;
#[cfg(feature = "native")]
mod git;
#[cfg(feature = "native")]
mod groups;
mod host_changes;
#[cfg(feature = "native")]
mod kills;
mod landlock;
#[cfg(feature = "native")]
mod limits;
#[cfg(feature = "native")]
mod linger;
#[cfg(feature = "native")]
mod modes;
#[cfg(feature = "native")]
mod namespace_limits;
#[cfg(feature = "native")]
mod native;
#[cfg(feature = "native")]
mod network;
#[cfg(feature = "native")]
mod obstacles;
#[cfg(feature = "native")]
mod overlays;
#[cfg(feature = "native")]
mod own_tmp;
#[cfg(feature = "native")]
mod prestart;
mod processes;
#[cfg(feature = "native")]
mod reopening;
#[cfg(feature = "native")]
mod reruns;
#[cfg(feature = "native")]
mod size;
#[cfg(feature = "native")]
mod sockets;
#[cfg(feature = "srt")]
mod srt;
#[cfg(feature = "native")]
mod streams;
mod trees;
#[cfg(feature = "native")]
mod wrapped;

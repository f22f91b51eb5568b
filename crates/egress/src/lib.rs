//! Network by domain for many sandboxes in one process: many policies, over listeners that a caller
//! passes in.

#![forbid(unsafe_code)]

mod connect;
mod dns;
mod error;
mod event;
mod first_bytes;
mod flow;
mod gate;
mod hello;
mod http;
mod judge;
mod limits;
mod listeners;
mod names;
mod network;
mod proxy;
mod refusal;
mod relay;
mod resolve;
mod session;
mod socks;
mod transparent;
mod tunnel;

pub use error::{ErrorKind, GateError};
pub use event::{EventMark, EventSink, NetworkEvent, Outcome, Via};
pub use gate::{Gate, GateBuilder};
pub use limits::Limits;
pub use listeners::Listeners;
pub use network::Network;
pub use refusal::{Failure, Refusal};
pub use resolve::{Resolver, SystemResolver};

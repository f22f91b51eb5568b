//! Network by domain for many sandboxes in one process: many policies, over listeners that a caller
//! passes in.
//!
//! ```
//! use std::net::TcpListener;
//! use std::sync::Arc;
//!
//! use egress::{Gate, Listeners};
//! use policy::{NetworkConfig, NetworkPolicy};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = NetworkConfig::default();
//! settings.allowed_domains = vec!["example.com:443".to_owned()];
//! let policy = NetworkPolicy::compile(&settings)?;
//!
//! let gate = Gate::builder().build()?;
//! let listeners = Listeners::new().proxy(TcpListener::bind("127.0.0.1:0")?);
//! let network = gate.open(listeners, policy, Arc::new(()))?;
//! assert!(network.events_since(network.mark()).is_empty());
//! network.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A process has one [`Gate`]. Each session has its own [`Listeners`], policy and [`Network`], and
//! is known by its listeners alone. A connection is judged by its canonical host, the name is
//! resolved on the host, each address is judged, and a judged address is dialled.
//!
//! TLS is terminated for the hosts of masked secrets ([`Network::set_masks`]), and for all hosts
//! with `network.tlsTerminate`. A session has placeholders, and their values are inserted on the
//! way to a server whose certificate was verified. [`Gate::trust`] makes the programs of a session
//! trust the certificates that they see.
//!
//! # What it does not do
//! It creates no namespaces and routes, so it confines only a session without another network. It
//! forwards no UDP. A host in neither list is denied, unless the embedder asks its user ([`Ask`]).
//! An allowed host is a way out, and in an unread tunnel only the name in the hello is compared.
//! Redaction of answers is a net: a server can return a value in an encoding that the gate does not
//! know.
//!
//! # Limits
//! [`Limits`] has the bounds on connections, names, heads and times.
//!
//! # Errors
//! - [`GateError`]: a gate or network cannot be opened. It has `kind()` with an [`ErrorKind`], and
//!   `is_retryable()`.
//! - [`MasksError`]: a host of a mask is invalid or shared.
//! - [`Denial`] and [`Failure`]: the outcome of a connection, in its [`NetworkEvent`].

#![forbid(unsafe_code)]

mod ask;
mod authority;
mod connect;
mod connections;
mod datagrams;
mod denial;
mod destinations;
mod dns;
mod error;
mod event;
mod first_bytes;
mod flow;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod hello;
mod http;
mod judge;
mod limits;
mod listeners;
mod masks;
mod names;
mod network;
mod parent;
mod proxy;
mod records;
mod relay;
mod resolve;
mod retry;
mod secure;
mod server_name;
mod session;
mod sigv4;
mod socks;
mod ssh;
mod terminate;
mod transparent;
mod trust;
mod tunnel;

pub use ask::{Answer, Ask};
pub use denial::{Denial, Failure};
pub use destinations::Destinations;
pub use error::{ErrorKind, GateError, MasksError};
pub use event::{EventMark, EventSink, IntactReason, NetworkEvent, Outcome, Via};
pub use gate::{Gate, GateBuilder};
pub use limits::Limits;
pub use listeners::Listeners;
pub use masks::check_hosts;
pub use network::Network;
pub use parent::ParentProxy;
pub use resolve::{Resolver, SystemResolver};
pub use trust::{Trust, TrustFiles};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

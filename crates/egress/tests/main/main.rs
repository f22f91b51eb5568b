//! Tests of the gate on loopback.

mod bypass;
mod destinations;
mod dns;
mod fixture;
mod http;
mod lifetime;
mod limits;
mod socks;
mod transparent;
mod tunnel;

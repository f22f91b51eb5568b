//! Tests of the gate on loopback.

mod bypass;
mod captured_http;
mod conformance;
mod crowd;
mod destinations;
mod dns;
mod fixture;
mod frames;
mod http;
mod inserted;
mod ipv6;
mod lifetime;
mod limits;
mod odd_queries;
mod odd_requests;
mod parent;
mod pipelined;
mod plain_http2;
mod redacted;
mod retry;
mod secure;
mod socks;
mod terminated;
mod transparent;
mod tunnel;
mod whole_bodies;

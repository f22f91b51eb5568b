//! Runs an HTTP and SOCKS5 proxy that reaches only the given hosts, and prints its events:
//!
//! ```sh
//! cargo run -p egress --example allow -- example.com '*.github.com:443'
//! https_proxy=http://127.0.0.1:3128 curl https://example.com
//! ```

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;

use egress::{EventSink, Gate, Listeners, NetworkEvent, Outcome};
use policy::{NetworkConfig, NetworkPolicy};

/// Prints one line for each connection.
#[derive(Debug)]
struct Lines;

impl EventSink for Lines {
    fn record(&self, event: &NetworkEvent) {
        let host = event.host.with_port(event.port.unwrap_or_default());
        match &event.outcome {
            Outcome::Allowed(rule) => {
                println!("{host} allowed: {rule}; {} B out, {} B in", event.sent, event.received);
            }
            Outcome::Denied(refusal) => println!("{host} denied: {refusal}"),
            Outcome::Failed(failure) => println!("{host} failed: {failure}"),
            _ => println!("{event:?}"),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut network = NetworkConfig::default();
    network.allowed_domains = std::env::args().skip(1).collect();
    if network.allowed_domains.is_empty() {
        println!("usage: allow HOST[:PORT]…");
        return Ok(());
    }
    let policy = NetworkPolicy::compile(&network)?;
    let listeners = Listeners::new().proxy(TcpListener::bind("127.0.0.1:3128")?);
    let _network = Gate::builder().build()?.open(listeners, policy, Arc::new(Lines))?;
    println!("listening at 127.0.0.1:3128");
    std::future::pending().await
}

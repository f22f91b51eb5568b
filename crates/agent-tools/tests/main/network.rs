//! Sessions with a network, against servers on loopback. No name resolves outside.

mod absent;
mod asking;
mod authority;
mod canaries;
mod capture;
mod changes;
mod command;
mod control;
mod dialing;
mod isolation;
mod languages;
mod masked;
mod origin;
mod packages;
mod programs;
mod protocols;
mod results;
mod secure_origin;
mod settings;
mod terminated;
mod tools;

use std::sync::Arc;

use agent_tools::{BashOutput, NetworkSpec, Session};

use crate::session::{Fixture, spec};
use origin::Origin;

/// Returns a network in which `origin.test:80` is this server. `denied.test:80` would be it too.
fn to(origin: &Origin) -> NetworkSpec {
    let at = |name: &str| format!("{name}:80:127.0.0.1:{}", origin.port).parse().unwrap();
    NetworkSpec::allow(["origin.test:80"]).resolve(at("origin.test")).resolve(at("denied.test"))
}

async fn open(fixture: &Fixture, id: &str, network: NetworkSpec) -> Arc<Session> {
    fixture.sessions.open(spec(id).network(network)).await.unwrap()
}

/// Returns the refused destinations of a result.
fn refused(output: &BashOutput) -> Vec<&str> {
    let connects = output.denied.iter().filter(|denial| denial.access == "connect");
    connects.map(|denial| denial.target.as_str()).collect()
}

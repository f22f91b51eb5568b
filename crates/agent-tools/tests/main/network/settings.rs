//! Keys of settings that decide in a session, and the gate of an embedder.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_tools::egress::{Gate, Resolver};
use agent_tools::policy::{Host, SandboxRuntimeConfig};
use agent_tools::{Answer, Ask, BashOutput, NetworkSpec};
use async_trait::async_trait;

use super::origin::Origin;
use super::refused;
use crate::session::{Fixture, spec};

/// Names of a test.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let address = match name {
            "far.test" => "192.0.2.7",
            "mapped.test" => "::ffff:192.0.2.7",
            "here.test" => "127.0.0.1",
            _ => return Ok(Vec::new()),
        };
        Ok(vec![address.parse().unwrap()])
    }
}

/// A user who allows everything.
#[derive(Debug, Default)]
struct User(AtomicUsize);

#[async_trait]
impl Ask for User {
    async fn ask(&self, _: &Host, _: u16) -> Answer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answer::Allow
    }
}

/// Runs a command in a session with these settings.
async fn run(network: &str, request: NetworkSpec, command: &str) -> BashOutput {
    let text = format!(
        r#"{{"network":{{{network},"deniedDomains":[]}},
        "filesystem":{{"denyRead":[],"allowWrite":[],"denyWrite":[]}}}}"#
    );
    let gate = Gate::builder().resolver(Arc::new(Names));
    let fixture = Fixture::with(|builder| builder.gate(gate));
    let mut spec = spec("s1").network(request);
    spec.policy = Some(SandboxRuntimeConfig::from_json(&text).unwrap());
    let session = fixture.sessions.open(spec).await.unwrap();
    session.bash(command).await.unwrap()
}

#[tokio::test]
async fn a_strict_list_asks_no_user() {
    let origin = Origin::start();
    let get = "curl -sS http://a.test/; curl -sS http://b.test/";
    let at = |name: &str| format!("{name}:80:127.0.0.1:{}", origin.port).parse().unwrap();
    for (strict, expected) in [(true, vec!["b.test:80"]), (false, Vec::new())] {
        let user = Arc::new(User::default());
        let request = NetworkSpec::new().ask(user.clone());
        let request = request.resolve(at("a.test")).resolve(at("b.test"));
        let settings = format!(r#""allowedDomains":["a.test"],"strictAllowlist":{strict}"#);
        let ran = run(&settings, request, get).await;
        assert!(ran.stdout.starts_with("hello\n"), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(refused(&ran), expected, "{}", ran.stderr);
        assert_eq!(user.0.load(Ordering::Relaxed), usize::from(!strict));
    }
}

#[tokio::test]
async fn names_that_lead_to_denied_addresses_are_refused_with_the_address() {
    let settings = r#""allowedDomains":["far.test","mapped.test","here.test","missing.test"],
        "deniedResolvedAddresses":["192.0.2.0/24"]"#;
    let get = "for name in far mapped here missing; do curl -sS -m 10 http://$name.test/; done";
    let ran = run(settings, NetworkSpec::new(), get).await;
    assert_eq!(refused(&ran), ["far.test:80", "mapped.test:80", "here.test:80"], "{}", ran.stderr);
    for (denial, part) in ran.denied.iter().zip([
        "192.0.2.7, an address that the entry 192.0.2.0/24 denies",
        "192.0.2.7, an address that the entry 192.0.2.0/24 denies",
        "127.0.0.1, a loopback address",
    ]) {
        assert_eq!(denial.rule, format!("it leads to {part}"));
    }
    assert!(ran.stderr.contains("Could not resolve host: missing.test"), "{}", ran.stderr);
}

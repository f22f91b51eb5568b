//! Kernels that cannot capture every connection, and users without privileges.

use std::path::Path;

use agent_tools::policy::{NetworkConfig, Policy};
use agent_tools::{NetworkSpec, SandboxGate};
use sandbox_core::internal::BestCapture;
use sandbox_core::{CommandSpec, NativeSandbox, Sandbox as _};
use testkit::rerun_as_ordinary_user;

use super::origin::Origin;
use super::to;

/// Runs a command in a sandbox that captures at most this, and returns its output and the refused
/// destinations.
async fn run(best: BestCapture, network: NetworkSpec, command: &str) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let policy = Policy::session(&dir).home(Path::new("/root")).build().unwrap();
    let mut settings = NetworkConfig::default();
    network.add_to_settings(&mut settings);
    let trust = tempfile::tempdir().unwrap();
    let gate = SandboxGate::new(&settings, &network, trust.path()).unwrap().unwrap();
    let builder = NativeSandbox::builder(&policy, &dir).overlays(gate.overlays());
    let sandbox = builder.best_capture(best).open().unwrap();
    let open = gate.open(&sandbox).await.unwrap();
    let mut spec = CommandSpec::new(command);
    spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    spec.env.extend(open.variables());
    let ran = sandbox.exec(spec).await.unwrap();
    let refused = open.refusals().0.into_iter().map(|denial| denial.target).collect();
    sandbox.close().await;
    open.close().await;
    let text = format!("{:?}{:?}", ran.stdout, ran.stderr);
    let stdout = String::from_utf8_lossy(&ran.stdout.bytes).into_owned();
    assert!(!stdout.is_empty(), "{text}");
    (stdout, refused)
}

const GET: &str = "env | grep -ci proxy; curl -sSf http://origin.test/; \
                   curl -s http://denied.test/ >/dev/null; true";

#[tokio::test]
async fn programs_get_proxy_variables_only_if_nothing_is_captured() {
    let origin = Origin::start();
    let denied = ["denied.test:80".to_owned()];
    for (best, variables) in
        [(BestCapture::EveryPort, 0), (BestCapture::Ports, 0), (BestCapture::Variables, 9)]
    {
        let (stdout, refused) = run(best, to(&origin), GET).await;
        assert_eq!((stdout, &refused[..]), (format!("{variables}\nhello\n"), &denied[..]));
    }
}

#[tokio::test]
async fn single_ports_are_captured_if_the_rules_name_them() {
    let origin = Origin::start();
    let at = format!("origin.test:8443:127.0.0.1:{}", origin.port).parse().unwrap();
    let network = NetworkSpec::allow(["origin.test:8443"]).resolve(at);
    let command = "curl -sSf http://origin.test:8443/; curl -s http://origin.test:8444/; true";
    let (stdout, refused) = run(BestCapture::Ports, network, command).await;
    // Nothing listens on the other port, so that connection is no event.
    assert_eq!((stdout.as_str(), refused.len()), ("hello\n", 0));
}

#[test]
fn an_ordinary_user_has_the_same_network() {
    // An ordinary user runs these tests anyway.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for test in [
        "network::isolation::the_loopback_of_the_host_is_out_of_reach",
        "network::isolation::addresses_and_metadata_services_are_denied",
        "network::changes::rules_change_under_a_running_command",
    ] {
        rerun_as_ordinary_user(test, "the network of an ordinary user");
    }
}

//! The network on kernels that cannot capture every port.

use sandbox_core::internal::BestCapture;
use sandbox_core::{Capture, Sandbox, Tier};

use super::{WithNetwork, answer_with_destination, reach, text, without_network};
use crate::fixture::without_namespaces;

#[tokio::test]
async fn without_the_packet_filter_the_named_ports_are_captured() {
    if without_namespaces() {
        return;
    }
    let session = WithNetwork::open(BestCapture::Ports, &[5432, 443, 0, 5432]).await;
    let captured = vec![22, 53, 80, 443, 5432];
    assert_eq!(session.listeners.capture, Capture::Ports(captured.clone()));
    assert!(session.listeners.transparent.is_none());
    for listener in &session.listeners.ports {
        answer_with_destination(listener);
    }
    for (port, listener) in captured.iter().zip(&session.listeners.ports) {
        assert_eq!(listener.local_addr().unwrap().port(), *port);
        let expected = format!("93.184.216.34:{port}");
        assert_eq!(session.text(&reach("93.184.216.34", *port)).await, expected);
    }
    if session.listeners.has_ipv6 {
        assert_eq!(session.text(&reach("2001:db8::1", 443)).await, "[2001:db8::1]:443");
    }
    assert_eq!(session.text(&reach("93.184.216.34", 8080)).await, "Connection refused");
    let report = session.sandbox.report().capture.to_string();
    assert!(report.starts_with("ports 22, 53, 80, 443, 5432: "), "{report}");
}

#[tokio::test]
async fn a_port_of_a_command_is_not_captured_and_the_report_says_so() {
    if without_namespaces() {
        return;
    }
    let (fixture, sandbox) = without_network(BestCapture::Ports);
    let server = "perl -e 'use Socket; socket($l, AF_INET, SOCK_STREAM, 0); \
                  bind($l, pack_sockaddr_in($ARGV[0], INADDR_ANY)); listen($l, 5); \
                  syswrite(STDOUT, \"listens\\n\"); sleep 60'";
    let run = format!(
        "mkfifo fifo; {server} 5432 > fifo & {server} 3128 > fifo & \
         exec 3< fifo; read -u 3; read -u 3; touch ready; sleep 60"
    );
    let ready = sandbox.exec_until(crate::fixture::spec(&run), async {
        while !fixture.dir.join("ready").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let listeners = sandbox.open_network(&[5432]).await.unwrap();
        assert_eq!(listeners.capture, Capture::Ports(vec![22, 53, 80, 443]));
        // The proxy has another port then.
        assert_ne!(listeners.proxy.local_addr().unwrap().port(), 3128);
    });
    ready.await.unwrap();
}

#[tokio::test]
async fn without_routes_only_the_proxy_is_reached() {
    if without_namespaces() {
        return;
    }
    let session = WithNetwork::open(BestCapture::Variables, &[5432]).await;
    let listeners = &session.listeners;
    assert_eq!(listeners.capture, Capture::Variables);
    assert!(listeners.dns.is_none() && listeners.ports.is_empty() && !listeners.has_ipv6);
    answer_with_destination(&listeners.proxy);
    assert_eq!(session.text(&reach("127.0.0.1", 3128)).await, "127.0.0.1:3128");
    assert_eq!(session.text(&reach("93.184.216.34", 80)).await, "Network is unreachable");
    let report = session.sandbox.report().capture.to_string();
    assert!(report.starts_with("proxy variables only: "), "{report}");
}

#[tokio::test]
async fn the_report_says_what_is_captured() {
    if without_namespaces() {
        return;
    }
    let probed = sandbox_core::probe(&Tier::Namespaces).capture;
    let (_fixture, sandbox) = without_network(BestCapture::EveryPort);
    assert_eq!(
        sandbox.report().capture.to_string(),
        "none: the network of the session is not open"
    );
    let listeners = sandbox.open_network(&[]).await.unwrap();
    assert_eq!(sandbox.report().capture, listeners.report());
    assert_eq!(probed, listeners.report());
    assert_eq!(text(&sandbox, "echo works").await, "works");
}

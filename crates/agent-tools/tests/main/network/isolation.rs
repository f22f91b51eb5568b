//! Destinations that no session reaches, whatever its network.

use super::origin::Origin;
use super::{open, refused, to};
use crate::session::Fixture;

#[tokio::test]
async fn the_loopback_of_the_host_is_out_of_reach() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let port = origin.port;
    let ran = session.bash("curl -sSf http://origin.test/").await.unwrap();
    assert_eq!(ran.stdout, "hello\n", "{}", ran.stderr);
    for (command, target) in [
        (format!("curl -sS -m 5 http://127.0.0.1:{port}/"), None),
        (format!("curl -sS -m 5 http://localhost:{port}/"), None),
        (format!("curl -sS -m 5 http://[::1]:{port}/"), None),
        (format!("curl -sSf -x http://127.0.0.1:3128 http://127.0.0.1:{port}/"), Some("127.0.0.1")),
        (format!("curl -sSf -x socks5://127.0.0.1:3128 http://[::1]:{port}/"), Some("[::1]")),
        (
            format!("curl -sSf -p -x http://127.0.0.1:3128 http://localhost:{port}/"),
            Some("localhost"),
        ),
        // The name has the address for port 80 only.
        (format!("curl -sSf -m 5 http://origin.test:{port}/"), Some("origin.test")),
    ] {
        let ran = session.bash(&command).await.unwrap();
        assert_ne!(ran.exit_code, 0, "{command}: {}", ran.stdout);
        let expected: Vec<_> = target.iter().map(|host| format!("{host}:{port}")).collect();
        assert_eq!(refused(&ran), expected, "{command}: {}", ran.stderr);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn addresses_and_metadata_services_are_denied() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    for (url, target, has_remedy) in [
        ("http://192.0.2.1/", "192.0.2.1:80", true),
        ("http://[2001:db8::1]:8080/", "[2001:db8::1]:8080", true),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254:80", false),
        ("http://[fd00:ec2::254]/", "[fd00:ec2::254]:80", false),
        ("http://metadata.google.internal/", "metadata.google.internal:80", true),
        ("http://198.18.77.77/", "198.18.77.77:80", false),
        // DNS over TLS, and over HTTPS.
        ("https://9.9.9.9:853/", "9.9.9.9:853", true),
        ("https://9.9.9.9/dns-query?name=origin.test", "9.9.9.9:443", true),
    ] {
        let ran = session.bash(&format!("curl -sSfk -m 10 '{url}'")).await.unwrap();
        assert_ne!(ran.exit_code, 0, "{url}: {}", ran.stdout);
        assert_eq!(refused(&ran), [target], "{}", ran.stderr);
        let remedy = ran.denied[0].remedy.as_deref().unwrap_or_default();
        assert_eq!(remedy.contains("--allow-host"), has_remedy, "{url}: {remedy}");
    }
}

/// Connects to each port that listens in the network namespace of the session, on its loopback.
const LISTENING: &str = "cat /proc/net/tcp /proc/net/tcp6 | while read -r _ local _ state _; do \
                         [ $state = 0A ] && echo $((16#${local##*:})); done | sort -u";

#[tokio::test]
async fn no_option_of_a_program_leads_around_the_gate() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    for command in [
        "curl --noproxy '*' -sSf http://denied.test/",
        "env -i PATH=$PATH curl -sSf http://denied.test/",
        // SO_BINDTODEVICE, TCP_FASTOPEN_CONNECT, and another address of its own.
        "curl --interface if!lo -sSf http://denied.test/",
        "curl --tcp-fastopen -sSf http://denied.test/",
        "curl --interface host!198.18.0.1 -sSf http://denied.test/",
        // The address of an allowed name does not make another name allowed.
        "address=$(getent ahostsv4 origin.test | head -n 1 | cut -d ' ' -f 1); \
         curl -sS --connect-to denied.test:80:$address:80 http://denied.test/ | grep 403; \
         curl -sSf http://denied.test/",
    ] {
        let ran = session.bash(command).await.unwrap();
        assert_ne!(ran.exit_code, 0, "{command}: {}", ran.stdout);
        assert!(refused(&ran).contains(&"denied.test:80"), "{command}: {ran:?}");
    }
    // The listeners themselves: the one of captured connections, and the proxy.
    let ports = session.bash(LISTENING).await.unwrap().stdout;
    assert!(ports.lines().count() >= 2 && ports.contains("3128\n"), "{ports}");
    for port in ports.lines() {
        let get = format!("curl -sSf -m 5 http://127.0.0.1:{port}/");
        assert_ne!(session.bash(&get).await.unwrap().exit_code, 0, "{port}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn sessions_have_their_own_networks_under_one_gate() {
    let (fixture, one, two) = (Fixture::new(), Origin::start(), Origin::start());
    two.write("index.html", "other\n");
    let first = open(&fixture, "s1", to(&one)).await;
    let second = open(&fixture, "s2", to(&two)).await;
    let none = fixture.open("s3").await;
    let get = "curl -sSf http://origin.test/";
    assert_eq!(first.bash(get).await.unwrap().stdout, "hello\n");
    assert_eq!(second.bash(get).await.unwrap().stdout, "other\n");
    let ran = none.bash(get).await.unwrap();
    assert_ne!(ran.exit_code, 0);
    assert!(ran.hint.unwrap().contains("the session has no network"));
    // A server of one session is out of the reach of the other, also through its proxy.
    let serve = "mkdir -p d && cd d && echo mine > index.html && \
                 exec python3 -m http.server 7777 --bind 127.0.0.1";
    let own = "for i in $(seq 50); do curl -sf http://127.0.0.1:7777/ && exit; sleep 0.1; done";
    let server = {
        let first = std::sync::Arc::clone(&first);
        tokio::spawn(async move { first.bash(&format!("({serve}) & {own}; sleep 2")).await })
    };
    let reach = "sleep 1; curl -sS -m 2 http://127.0.0.1:7777/; \
                 curl -sSf -m 2 -x http://127.0.0.1:3128 http://127.0.0.1:7777/";
    let ran = second.bash(reach).await.unwrap();
    assert!(!ran.stdout.contains("mine"), "{}", ran.stdout);
    server.await.unwrap().unwrap();
    assert_eq!(one.requests(), ["GET / HTTP/1.1"]);
}

#[tokio::test]
async fn commands_cannot_change_the_capture() {
    let (fixture, origin) = (Fixture::new(), Origin::start());
    let session = open(&fixture, "s1", to(&origin)).await;
    let attempts = "ip route add default dev lo; ip addr add 10.9.9.9/8 dev lo; \
                    ip link set lo down; nft flush ruleset; \
                    python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'; \
                    python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'; \
                    curl -sSf http://denied.test/";
    let ran = session.bash(attempts).await.unwrap();
    assert_ne!(ran.exit_code, 0);
    assert_eq!(refused(&ran), ["denied.test:80"]);
    assert_eq!(session.bash("curl -sSf http://origin.test/").await.unwrap().stdout, "hello\n");
}

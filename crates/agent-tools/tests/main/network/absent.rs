//! Sessions without a network: a result says so, also if the program hides its failure.

use std::time::Duration;

use testkit::skipped;

use crate::session::Fixture;

/// Commands that fail for want of a network, with the program that each needs. None of them may
/// wait for long.
const COMMANDS: [(&str, &str); 12] = [
    ("bash", "(: < /dev/tcp/192.0.2.1/80) 2> /dev/null || true"),
    ("bash", "(: < /dev/tcp/a.test/80) 2> /dev/null || true"),
    ("curl", "curl -s http://192.0.2.1/ | tail -1"),
    ("curl", "curl -s https://a.test/ 2> /dev/null || true"),
    ("curl", "curl -gs 'http://[2001:db8::1]/' || true"),
    ("python3", "python3 -c 'import socket; socket.socket().connect((\"192.0.2.1\", 80))' 2>&1"),
    (
        "python3",
        "python3 -c 'import urllib.request as u; u.urlopen(\"http://a.test/\")' > out 2>&1; true",
    ),
    (
        "/usr/bin/python3",
        "/usr/bin/python3 -c 'from pip._vendor import requests as r; r.get(\"http://a\")' 2>&1",
    ),
    ("npm", "npm view no-such-package > /dev/null 2>&1; true"),
    ("node", "node -e 'fetch(\"http://a.test/\").catch(() => 0)'"),
    ("go", "GOFLAGS=-mod=mod GOPATH=$TMPDIR/go go run a.test/x@latest > /dev/null 2>&1; true"),
    ("git", "git ls-remote https://a.test/x > /dev/null 2>&1; true"),
];

/// Commands that need no network, also if they look up the name of their own host.
const OWN: [&str; 6] = [
    "(: < /dev/tcp/127.0.0.1/81) 2> /dev/null",
    "getent ahosts localhost",
    "getent ahostsv4 \"$(uname -n)\"",
    "python3 -c 'import socket; assert socket.getfqdn() == \"localhost\"'",
    "git init -q r; git -C r commit --allow-empty -m x 2> /dev/null",
    "true",
];

#[tokio::test]
async fn a_result_says_that_there_is_no_network_also_if_the_program_is_silent() {
    let fixture = Fixture::with(|builder| builder.timeout(Duration::from_secs(40)));
    let session = fixture.open("s1").await;
    let mut missing = Vec::new();
    for (program, command) in COMMANDS {
        let found = session.bash(&format!("command -v {program}")).await.unwrap();
        if found.exit_code != 0 {
            missing.push(program);
            continue;
        }
        let ran = session.bash(command).await.unwrap();
        // Installers do not try again for a minute.
        assert!(!ran.timed_out, "{command}");
        let hint = ran.hint.unwrap_or_default();
        assert!(hint.contains("the session has no network"), "{command}: {hint}{}", ran.stdout);
        assert!(hint.contains("use --allow-host "), "{command}: {hint}");
        let remedy = "(network.allowedDomains in settings)";
        assert!(hint.contains("--allow-host") && hint.ends_with(remedy), "{command}: {hint}");
        assert_eq!(ran.denied, [], "{command}");
    }
    for own in OWN {
        assert_eq!(session.bash(own).await.unwrap().hint, None, "{own}");
    }
    if !missing.is_empty() {
        skipped("programs without a network", &missing.join(", "));
    }
}

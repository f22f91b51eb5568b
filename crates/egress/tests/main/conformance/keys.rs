//! Every key of `network`: enforced with the verdicts of srt, without effect in both, or refused by
//! its name. And the differences from srt, each with its reason in docs/network.md.

use std::collections::{BTreeMap, BTreeSet};

use policy::{NetworkConfig, NetworkPolicy, SandboxRuntimeConfig};

use super::{
    OfSrt, Verdict, Work, absolute, answers_of_gate, answers_of_srt, connect, origin, parent,
    socks, with_host,
};
use Verdict::{AddressDenied, Denied, Failed, Misdirected, Reached};

/// Treatment of a key.
enum Key {
    /// The same verdicts as in srt, for requests under some settings. `P` and `Q` are the ports of
    /// two origins, and `PROXY` is that of a parent proxy.
    Enforced(&'static [Row]),
    /// Settings with the key are refused: a gate that allows any host does not open.
    Unsupported(&'static str),
    /// No file can hold the key.
    Unknown,
    /// Tested elsewhere, as the text says.
    Elsewhere(&'static str),
}

/// Settings, and requests with their verdicts.
type Row = (&'static str, &'static [(Request, &'static str, Verdict)]);

/// A form of a request.
#[derive(Clone, Copy)]
enum Request {
    Connect,
    Absolute,
    /// A whole URL, with another header `Host`.
    Host(&'static str),
    /// A whole URL of https.
    Https,
    /// SOCKS5, whose answer does not tell a denied address from a denied name.
    Socks,
}
use Request::{Absolute, Connect, Host, Https, Socks};

/// Requests whose verdicts settings without an effect must not change.
const UNCHANGED: &[(Request, &str, Verdict)] = &[
    (Connect, "a.test:P", Reached),
    (Absolute, "a.test:P", Reached),
    (Socks, "a.test:P", Reached),
    (Connect, "b.test:P", Denied),
    (Socks, "b.test:P", Denied),
];

const KEYS: &[(&str, Key)] = &[
    (
        "allowedDomains",
        Key::Enforced(&[(
            r#""allowedDomains": ["a.test:P", "127.0.0.1"]"#,
            &[
                (Connect, "A.test.:P", Reached),
                (Absolute, "A.test.:P", Reached),
                (Socks, "A.test.:P", Reached),
                (Connect, "a.test:Q", Denied),
                (Absolute, "b.test:P", Denied),
                (Socks, "a.test:Q", Denied),
                (Socks, "b.test:P", Denied),
                (Socks, "a..test:P", Denied),
            ],
        )]),
    ),
    (
        "deniedDomains",
        Key::Enforced(&[
            (
                r#""deniedDomains": ["a.test:Q"]"#,
                &[
                    (Connect, "a.test:Q", Denied),
                    (Socks, "a.test:Q", Denied),
                    (Connect, "a.test:P", Reached),
                    (Socks, "a.test:P", Reached),
                ],
            ),
            // An address that is denied is refused for every name, also if it is allowed.
            (
                r#""deniedDomains": ["127.0.0.1"]"#,
                &[(Absolute, "a.test:P", AddressDenied), (Socks, "a.test:P", Denied)],
            ),
        ]),
    ),
    (
        "deniedDomainReasons",
        Key::Enforced(&[(
            r#""deniedDomains": ["*:Q"], "deniedDomainReasons": {"*:Q": "closed for the winter"}"#,
            &[(Connect, "a.test:Q", Denied)],
        )]),
    ),
    (
        "strictAllowlist",
        Key::Enforced(&[
            (
                r#""strictAllowlist": true"#,
                &[(Connect, "b.test:P", Denied), (Socks, "b.test:P", Denied)],
            ),
            (
                r#""strictAllowlist": false"#,
                &[(Connect, "b.test:P", Reached), (Socks, "b.test:P", Reached)],
            ),
        ]),
    ),
    (
        "deniedResolvedAddresses",
        Key::Enforced(&[(
            r#""allowedDomains": ["*.far.test", "192.0.2.8"],
               "deniedResolvedAddresses": ["192.0.2.0/29", "64:ff9b::/96"]"#,
            &[
                (Connect, "v4.far.test:P", AddressDenied),
                (Absolute, "v4.far.test:P", AddressDenied),
                (Connect, "nat64.far.test:P", AddressDenied),
                (Connect, "link.far.test:P", AddressDenied),
                (Socks, "v4.far.test:P", Denied),
                (Socks, "nat64.far.test:P", Denied),
                (Socks, "link.far.test:P", Denied),
            ],
        )]),
    ),
    (
        "requireHostMatch",
        Key::Enforced(&[
            (
                r#""requireHostMatch": true"#,
                &[
                    (Host("b.test:P"), "a.test:P", Misdirected),
                    (Host("a.test"), "a.test:P", Misdirected),
                    (Host("A.TEST:P"), "a.test:P", Reached),
                    (Host("a.test:P"), "b.test:P", Denied),
                ],
            ),
            (r#""requireHostMatch": false"#, &[(Host("b.test:P"), "a.test:P", Reached)]),
        ]),
    ),
    (
        "refuseOpaqueTunnels",
        Key::Enforced(&[(
            r#""refuseOpaqueTunnels": true"#,
            &[
                (Connect, "a.test:P", Denied),
                (Socks, "a.test:P", Denied),
                (Absolute, "a.test:P", Reached),
            ],
        )]),
    ),
    (
        "stripResponseHeaders",
        Key::Enforced(&[(
            r#""stripResponseHeaders": ["set_cookie"]"#,
            &[(Absolute, "a.test:P", Reached)],
        )]),
    ),
    (
        "parentProxy",
        Key::Enforced(&[
            // The proxy is asked for these names, and the others are reached without it.
            (
                r#""parentProxy": {"http": "http://127.0.0.1:PROXY", "noProxy": "x.test, *.a.test"},
                   "allowedDomains": ["*.a.test", "a.test", "only.proxy.test", "127.0.0.1"]"#,
                &[
                    (Connect, "only.proxy.test:P", Reached),
                    (Absolute, "only.proxy.test:P", Reached),
                    (Absolute, "b.a.test:P", Reached),
                    (Socks, "only.proxy.test:P", Reached),
                    (Connect, "b.test:P", Denied),
                    (Socks, "b.test:P", Denied),
                ],
            ),
            // Without TLS, a proxy for TLS has no effect.
            (
                r#""parentProxy": {"https": "http://127.0.0.1:PROXY"},
                   "allowedDomains": ["only.proxy.test", "127.0.0.1"]"#,
                &[(Connect, "only.proxy.test:P", Reached), (Absolute, "only.proxy.test:P", Failed)],
            ),
        ]),
    ),
    (
        "ambiguousRequestTarget",
        Key::Enforced(&[(r#""ambiguousRequestTarget": "refuse""#, UNCHANGED)]),
    ),
    (
        "allowPlaintextHeaderSet",
        Key::Enforced(&[(r#""allowPlaintextHeaderSet": true"#, UNCHANGED)]),
    ),
    ("allowUnixSockets", Key::Enforced(&[(r#""allowUnixSockets": ["/run/a"]"#, UNCHANGED)])),
    ("allowMachLookup", Key::Enforced(&[(r#""allowMachLookup": ["a"]"#, UNCHANGED)])),
    ("allowLocalBinding", Key::Enforced(&[(r#""allowLocalBinding": true"#, UNCHANGED)])),
    ("httpProxyPort", Key::Unsupported(r#""httpProxyPort": 8080"#)),
    ("socksProxyPort", Key::Unsupported(r#""socksProxyPort": 1080"#)),
    (
        "mitmProxy",
        Key::Unsupported(r#""mitmProxy": {"socketPath": "/run/a", "domains": ["a.test"]}"#),
    ),
    ("mitmProxy.socketPath", Key::Elsewhere("mitmProxy")),
    ("mitmProxy.domains", Key::Elsewhere("mitmProxy")),
    ("parentProxy.http", Key::Elsewhere("parentProxy")),
    ("parentProxy.https", Key::Elsewhere("parentProxy")),
    ("parentProxy.noProxy", Key::Elsewhere("parentProxy")),
    ("filterRequest", Key::Unknown),
    ("tlsTerminate", Key::Elsewhere("terminated.rs")),
    ("tlsTerminate.excludeDomains", Key::Elsewhere("terminated.rs")),
    ("tlsTerminate.maxTunnels", Key::Elsewhere("terminated.rs")),
    ("tlsTerminate.handshakeTimeoutMs", Key::Elsewhere("terminated.rs")),
    (
        "tlsTerminate.caCertPath",
        Key::Unsupported(
            r#""tlsTerminate": {"caCertPath": "/a/ca.pem", "caKeyPath": "/a/ca.key"}"#,
        ),
    ),
    ("tlsTerminate.caKeyPath", Key::Elsewhere("tlsTerminate.caCertPath, which it needs")),
    (
        "tlsTerminate.extraCaCertPaths",
        Key::Unsupported(r#""tlsTerminate": {"extraCaCertPaths": ["/a/ca.pem"]}"#),
    ),
    ("allowAllUnixSockets", Key::Elsewhere("the conformance table of sandbox-core")),
];

/// Differences: a name, settings, a request, the verdict of the gate, and that of srt.
type Difference = (&'static str, &'static str, Request, &'static str, Verdict, Verdict);

const DIFFERENCES: &[Difference] = &[
    ("loopback", LOOPBACK, Connect, "127.0.0.1:P", Denied, Reached),
    ("loopback", LOOPBACK, Absolute, "localhost:P", Denied, Reached),
    ("loopback", LOOPBACK, Socks, "127.0.0.1:P", Denied, Reached),
    ("spelling", r#""allowedDomains": ["224.1"]"#, Connect, "224.0.0.1:P", Failed, Denied),
    ("spelling", r#""deniedDomains": ["127.1"]"#, Absolute, "a.test:P", AddressDenied, Reached),
    ("https in a request", "", Https, "a.test:1", Denied, Failed),
];

/// Entries that lead to the host's own loopback in srt.
const LOOPBACK: &str = r#""allowedDomains": ["localhost", "127.0.0.1"]"#;

/// Returns settings with the usual lists, except for those that a text has.
fn settings(text: &str, ports: Ports) -> NetworkConfig {
    let text = ports.write(text);
    let mut lists = BTreeMap::from([
        ("allowedDomains".to_owned(), serde_json::json!(["a.test", "127.0.0.1"])),
        ("deniedDomains".to_owned(), serde_json::json!([])),
    ]);
    let own: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&format!("{{{text}}}")).unwrap();
    lists.extend(own);
    serde_json::from_value(serde_json::to_value(lists).unwrap()).unwrap()
}

/// Ports of two origins and of a parent proxy.
#[derive(Clone, Copy)]
struct Ports {
    origins: [u16; 2],
    proxy: u16,
}

impl Ports {
    fn write(self, text: &str) -> String {
        text.replace("PROXY", &self.proxy.to_string())
            .replace(":P", &format!(":{}", self.origins[0]))
            .replace(":Q", &format!(":{}", self.origins[1]))
    }

    fn request(self, form: Request, to: &str) -> String {
        let to = self.write(to);
        match form {
            Connect => connect(&to),
            Absolute => absolute(&to),
            Host(host) => with_host(&to, &self.write(host)),
            Https => absolute(&to).replace("http:", "https:"),
            Socks => socks(&to),
        }
    }
}

fn names() -> BTreeMap<String, Vec<String>> {
    [
        ("a.test", "127.0.0.1"),
        ("b.a.test", "127.0.0.1"),
        ("b.test", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("v4.far.test", "192.0.2.1"),
        ("nat64.far.test", "64:ff9b::808:808"),
        ("link.far.test", "fe80::1"),
    ]
    .into_iter()
    .map(|(name, address)| (name.to_owned(), vec![address.to_owned()]))
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_enforced_like_in_srt_or_refused_by_its_name() {
    let origins = [origin().await, origin().await];
    let proxy = parent(origins[0].port).await;
    let ports = Ports { origins: origins.each_ref().map(|origin| origin.port), proxy: proxy.port };
    let mut all = Vec::new();
    for (key, treatment) in KEYS {
        match treatment {
            Key::Enforced(rows) => {
                for (text, requests) in *rows {
                    let of = |(form, to, verdict): &(Request, &str, Verdict)| {
                        (ports.request(*form, to), *verdict)
                    };
                    let expected: Vec<_> = requests.iter().map(of).collect();
                    let work = Work {
                        anew: true,
                        asks: *key == "strictAllowlist",
                        names: names(),
                        network: settings(text, ports),
                        requests: expected.iter().map(|(request, _)| request.clone()).collect(),
                    };
                    let verdicts = expected.iter().map(|(_, verdict)| (*verdict, *verdict));
                    all.push((*key, work, verdicts.collect::<Vec<_>>()));
                }
            }
            Key::Unsupported(text) => {
                assert_eq!(NetworkPolicy::beyond(&settings(text, ports)), [*key]);
            }
            Key::Unknown => {
                let text = format!(
                    r#"{{"network": {{"allowedDomains": [], "deniedDomains": [], "{key}": 1}},
                    "filesystem": {{"denyRead": [], "allowWrite": [], "denyWrite": []}}}}"#
                );
                let error = SandboxRuntimeConfig::from_json(&text).unwrap_err();
                assert!(error.to_string().contains(key), "{error}");
            }
            Key::Elsewhere(place) => assert!(!place.is_empty()),
        }
    }
    for (name, text, form, to, gate, srt) in DIFFERENCES {
        let work = Work {
            anew: true,
            names: names(),
            network: settings(text, ports),
            requests: vec![ports.request(*form, to)],
            ..Work::default()
        };
        all.push((*name, work, vec![(*gate, *srt)]));
    }
    let work: Vec<Work> = all.iter().map(|(_, work, _)| work.clone()).collect();
    let of_srt = answers_of_srt(&work).await;
    let asked_by_srt = proxy.received();
    let mut wrong = Vec::new();
    for (at, (key, work, expected)) in all.iter().enumerate() {
        let gate = answers_of_gate(work).await;
        let srt = of_srt.as_ref().map(|OfSrt { answers, .. }| &answers[at]);
        for (at, ((request, gate), (of_gate, expected_of_srt))) in
            work.requests.iter().zip(&gate).zip(expected).enumerate()
        {
            let line = request.lines().next().unwrap();
            if Verdict::of(gate) != *of_gate {
                wrong.push(format!("{key}: gate: {line}: {of_gate:?}, not {gate}"));
            }
            let Some(srt) = srt.map(|answers| &answers[at]) else { continue };
            if Verdict::of(srt) != *expected_of_srt {
                wrong.push(format!("{key}: srt: {line}: {expected_of_srt:?}, not {srt}"));
            }
            if of_gate != expected_of_srt {
                continue;
            }
            for text in ["set-cookie", "x-kept", "closed for the winter"] {
                let has = |answer: &str| answer.to_lowercase().contains(text);
                if has(gate) != has(srt) {
                    wrong.push(format!("{key}: {line}: {text}: {gate} {srt}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let Some(of_srt) = of_srt else { return };
    let own: BTreeSet<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    let of_srt: BTreeSet<&str> = of_srt.keys.iter().map(String::as_str).collect();
    assert_eq!(own, of_srt);
    // The gate asked the parent proxy for the same hosts.
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.ends_with("HTTP/1.1")).map(ToOwned::to_owned).collect()
    };
    let asked_by_gate = proxy.received().split_off(asked_by_srt.len());
    assert_eq!(lines(&asked_by_gate), lines(&asked_by_srt));
    assert_eq!(lines(&asked_by_gate).len(), 2, "{asked_by_gate}");
}

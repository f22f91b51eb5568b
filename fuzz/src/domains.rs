//! Canonical hosts, and the patterns that cover them. The input is a host, a line feed, and a
//! pattern.

#![no_main]

use policy::{Decision, Host, NetworkConfig, NetworkPolicy};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (host, pattern) = text.split_once('\n').unwrap_or((text, text));
    let Ok(host) = Host::parse(host) else { return };
    let canonical = host.to_string();
    assert_eq!(Host::parse(&canonical).as_ref(), Ok(&host), "{canonical}");
    assert_eq!(Host::parse(&canonical.to_uppercase()).as_ref(), Ok(&host), "{canonical}");
    assert_eq!(Host::parse_with_port(&host.with_port(443)), Ok((host.clone(), Some(443))));
    let rules = |allowed: &[&str], denied: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let mut network = NetworkConfig::default();
        (network.allowed_domains, network.denied_domains) = (owned(allowed), owned(denied));
        NetworkPolicy::compile(&network)
    };
    let Ok(allowing) = rules(&[pattern], &[]) else { return };
    let is_allowed = allowing.decide(&host, 443).is_allowed();
    if pattern.starts_with("*.") && host.as_address().is_some() {
        assert!(!is_allowed, "{pattern} covers the address {host}");
    }
    if let Ok(both) = rules(&[pattern], &[pattern]) {
        let is_denied = matches!(both.decide(&host, 443), Decision::Denied { .. });
        assert_eq!(is_denied, is_allowed, "{pattern} covers {host} in one list only");
    }
});

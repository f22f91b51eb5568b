//! Patterns of hosts on the command line. The error for a wrong one tells the right spelling.

use std::num::NonZeroU16;

use agent_tools::Exposed;
use agent_tools::policy::{Host, NetworkConfig, NetworkPolicy};

/// Schemes of URLs and names of services that a pattern may have in the place of a port.
const SERVICES: [(&str, u16); 5] =
    [("https", 443), ("http", 80), ("ssh", 22), ("wss", 443), ("ws", 80)];

type List = fn(&mut NetworkConfig) -> &mut Vec<String>;

/// Reads a host of `--allow-host`. Returns the pattern as settings have it.
pub(crate) fn allowed(text: &str) -> Result<String, String> {
    let text = text.trim();
    if host_of(text).is_some_and(|host| host.is_loopback()) {
        return Err("each session has a loopback of its own; use --expose NAME=HOST:PORT to give \
                    it a server of this machine"
            .to_owned());
    }
    if is_any(text) {
        return Err(
            "it is not a domain pattern: only --deny-host takes `*`; name the hosts, or use \
                    --ask to decide about each"
                .to_owned(),
        );
    }
    read(text, |network| &mut network.allowed_domains, |server| format!("--expose {server}"))
}

/// Reads a host of `--deny-host`, also `*`.
pub(crate) fn denied(text: &str) -> Result<String, String> {
    let list: List = |network| &mut network.denied_domains;
    read(text.trim(), list, |server| format!("--expose {server}"))
}

/// Reads a host of a masked variable.
pub(crate) fn masked(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_any(text) {
        return Err("it is not a domain pattern: a value goes only to named hosts".to_owned());
    }
    let list: List = |network| &mut network.allowed_domains;
    read(text, list, |server| {
        let name = server.split('=').next().unwrap_or_default();
        format!("--expose {server} and use --host {name}.host.internal")
    })
}

/// Reads a pattern for a list. `expose` renders the option for a server without a full name.
fn read(text: &str, list: List, expose: fn(&str) -> String) -> Result<String, String> {
    let pattern = bracketed(text);
    let problem = match compile(&pattern, list) {
        Ok(()) if is_any(text) || host_of(&pattern).is_some() => return Ok(pattern),
        Ok(()) => "it covers no host".to_owned(),
        Err(problem) => problem,
    };
    let name = problem.split(';').next().unwrap_or_default();
    let is_valid = |text: &str| compile(text, list).is_ok() && host_of(text).is_some();
    if let Some(remedy) = spelling(text, is_valid) {
        return Err(format!("{name}; {remedy}"));
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(it, rest)| (Some(it), rest));
    let (label, port) = match rest.split_once(':') {
        Some((label, port)) => (label, port_of(port).or_else(|| port.parse().ok())),
        None => (rest, scheme.and_then(port_of)),
    };
    // Without a port, the user writes one.
    let server = format!("{label}={label}:");
    let can_expose = format!("{server}{}", port.unwrap_or(1)).parse::<Exposed>().is_ok();
    let has_invalid_port = port.is_none() && rest.contains(':');
    if !is_label(label) || !can_expose || has_invalid_port {
        return Err(problem);
    }
    let port = port.map_or_else(|| "PORT".to_owned(), |port| port.to_string());
    Err(format!(
        "{name}: the name has no dot; write its full name, or give the session the server with {}",
        expose(&format!("{server}{port}"))
    ))
}

/// Returns whether a pattern is for all hosts, perhaps on one port.
fn is_any(pattern: &str) -> bool {
    pattern == "*" || pattern.starts_with("*:")
}

fn compile(pattern: &str, list: List) -> Result<(), String> {
    let mut network = NetworkConfig::default();
    list(&mut network).push(pattern.to_owned());
    NetworkPolicy::compile(&network).map(|_| ()).map_err(|error| error.problem)
}

/// Returns the host of a pattern, or the one above those that it covers.
fn host_of(pattern: &str) -> Option<Host> {
    let parse = |text: &str| {
        let host = Host::parse_with_port(text).map(|(host, _)| host);
        host.or_else(|_| Host::parse(text)).ok()
    };
    match pattern.strip_prefix("*.") {
        // A wildcard covers no address.
        Some(base) => parse(base).filter(|host| host.as_address().is_none()),
        None => parse(pattern),
    }
}

/// Returns a pattern with the brackets that an IPv6 address needs in settings.
fn bracketed(pattern: &str) -> String {
    match pattern.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => pattern.to_owned(),
    }
}

/// Returns the right spelling of what a text probably means.
fn spelling(text: &str, is_valid: impl Fn(&str) -> bool) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() > 1 && words.iter().all(|word| is_valid(word)) {
        return Some(format!("separate hosts with commas: {}", words.join(",")));
    }
    if let Some((address, bits)) = text.split_once('/')
        && address.parse::<std::net::IpAddr>().is_ok()
        && bits.parse::<u8>().is_ok()
    {
        return Some("a block of addresses is no host; name each address".to_owned());
    }
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(it, rest)| (Some(it), rest));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, service)) if !host.contains(':') || host.ends_with(']') => {
            let number = || service.parse().map(NonZeroU16::get).ok();
            let port = port_of(service).or_else(number);
            // The host alone would have all ports.
            if port.is_none() && !service.is_empty() && is_valid(host) {
                let example = format!("{host}:443");
                return Some(format!("write each port as a number from 1 to 65535: {example}"));
            }
            (host, port)
        }
        _ => (host, scheme.and_then(port_of)),
    };
    if let Some(base) = host.strip_prefix("*.") {
        if base.contains('*') {
            return Some("write `*` only at the beginning, as in *.example.com".to_owned());
        }
        if !base.is_empty() && !base.contains('.') {
            return Some(
                "a wildcard needs a domain with a dot, as in *.example.com; name the hosts"
                    .to_owned(),
            );
        }
    }
    let host = host.trim_end_matches('.');
    let below = host.strip_prefix('*').unwrap_or(host).strip_prefix('.');
    let host = match below.or_else(|| host.strip_prefix('*')) {
        Some(address) if address.parse::<std::net::Ipv4Addr>().is_ok() => address.to_owned(),
        Some(base) => format!("*.{base}"),
        None => host.to_owned(),
    };
    let pattern = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    (pattern != text && is_valid(&pattern)).then(|| format!("write {pattern}"))
}

fn port_of(service: &str) -> Option<u16> {
    SERVICES.iter().find(|(name, _)| *name == service).map(|(_, port)| *port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_pattern_and_loopback_needs_another_option() {
        for (pattern, stored) in [
            ("a.test", "a.test"),
            (" a.test ", "a.test"),
            ("*.a.test:443", "*.a.test:443"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:22", "[fd00::1]:22"),
        ] {
            assert_eq!(allowed(pattern).as_deref(), Ok(stored));
            assert_eq!(denied(pattern).as_deref(), Ok(stored));
        }
        for pattern in ["localhost", "127.0.0.1:80", "::1", "[::1]:80", "*.a.localhost"] {
            assert!(allowed(pattern).unwrap_err().contains("--expose"), "{pattern}");
        }
        for pattern in ["*", " *"] {
            assert_eq!(denied(pattern).as_deref(), Ok("*"));
        }
        assert_eq!(denied("*:22").as_deref(), Ok("*:22"));
    }

    #[test]
    fn the_error_of_a_wrong_pattern_tells_the_right_spelling() {
        for (pattern, remedy) in [
            ("https://a.test", "is not a domain pattern; write a.test:443"),
            ("ssh://git@a.test/x.git", "is not a domain pattern; write a.test:22"),
            ("http://a.test:8080/x", "is not a domain pattern; write a.test:8080"),
            ("a.test/x", "is not a domain pattern; write a.test"),
            ("a.test:https", "is not a domain pattern; write a.test:443"),
            (".a.test", "is not a domain pattern; write *.a.test"),
            ("*a.test", "is not a domain pattern; write *.a.test"),
            ("a.test.", "is not a domain pattern; write a.test"),
            ("a.test b.test", "covers no host; separate hosts with commas: a.test,b.test"),
            ("*.192.0.2.1", "covers no host; write 192.0.2.1"),
            ("10.0.0.0/8", "is not a domain pattern; a block of addresses is no host"),
            ("registry", "with --expose registry=registry:PORT"),
            ("registry:5000", "with --expose registry=registry:5000"),
            ("http://registry", "with --expose registry=registry:80"),
            ("http://registry:5000", "with --expose registry=registry:5000"),
            ("registry:https", "with --expose registry=registry:443"),
            ("registry:0", "is not a domain pattern; write host[:port]"),
            ("registry:99999", "is not a domain pattern; write host[:port]"),
            ("of_no_host", "is not a domain pattern; write host[:port]"),
            ("*", "it is not a domain pattern: only --deny-host takes `*`"),
            ("*", "--ask"),
            ("a..test", "covers no host"),
            ("exa mple.test", "covers no host"),
            ("a.test:0", "is not a domain pattern; write each port as a number from 1 to 65535"),
            ("a.test:99999", "write each port as a number from 1 to 65535: a.test:443"),
            ("http://a.test:80-90/x", "write each port as a number from 1 to 65535"),
            ("*.a.test:*", "write each port as a number from 1 to 65535: *.a.test:443"),
            ("[fd00::1]:99999", "write each port as a number from 1 to 65535: [fd00::1]:443"),
            ("*.test", "is not a domain pattern; a wildcard needs a domain with a dot"),
            ("*.com:443", "is not a domain pattern; a wildcard needs a domain with a dot"),
            ("*.*.a.test", "covers no host; write `*` only at the beginning"),
            ("", "is not a domain pattern; write host[:port]"),
        ] {
            let error = allowed(pattern).unwrap_err();
            assert!(error.contains(remedy), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_host_of_a_variable_is_read_like_one_of_a_list() {
        for (pattern, stored) in
            [(" a.test:443", "a.test:443"), ("fd00::1", "[fd00::1]"), ("localhost", "localhost")]
        {
            assert_eq!(masked(pattern).as_deref(), Ok(stored));
        }
        for (pattern, remedy) in [
            ("https://a.test", "is not a domain pattern; write a.test:443"),
            ("u@a.test/x", "is not a domain pattern; write a.test"),
            ("a.test.", "is not a domain pattern; write a.test"),
            ("10.0.0.0/8", "a block of addresses is no host"),
            ("*", "a value goes only to named hosts"),
            ("*.test", "a wildcard needs a domain with a dot"),
            ("*.203.0.113.7", "covers no host; write 203.0.113.7"),
            ("db:5432", "with --expose db=db:5432 and use --host db.host.internal"),
        ] {
            let error = masked(pattern).unwrap_err();
            assert!(error.contains(remedy), "{pattern}: {error}");
        }
    }
}

//! The options for the network.

use std::sync::Arc;

use agent_tools::policy::{Host, NetworkConfig, NetworkPolicy};
use agent_tools::{Exposed, NetworkPreset, NetworkSpec, Resolved};
use clap::Args;
use clap::builder::BoolishValueParser;

use crate::failure::Failure;
use crate::questions::Terminal;

/// The hosts that commands may connect to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network options")]
pub(crate) struct NetworkArgs {
    /// Host that commands may connect to: a name, *.DOMAIN or an address, with or without a port.
    /// Repeatable.
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "AGENT_TOOLS_ALLOW_HOST",
        value_delimiter = ',',
        value_parser = allowed_host
    )]
    allow_host: Vec<String>,
    /// Host that commands may not connect to, whatever allows it. Repeatable.
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "AGENT_TOOLS_DENY_HOST",
        value_delimiter = ',',
        value_parser = denied_host
    )]
    deny_host: Vec<String>,
    /// Allow the hosts that the tools of this machine are configured with: debian (APT), github,
    /// node (npm), python (pip) or rust (cargo). Repeatable.
    #[arg(long, value_name = "PRESET", env = "AGENT_TOOLS_ALLOW_PRESET", value_delimiter = ',')]
    allow_preset: Vec<NetworkPreset>,
    /// Server that commands reach as NAME.host.internal:PORT. Only this opens servers on the
    /// loopback of this machine. Repeatable.
    #[arg(long, value_name = "NAME=HOST:PORT", env = "AGENT_TOOLS_EXPOSE", value_delimiter = ',')]
    expose: Vec<Exposed>,
    /// Ask on the terminal about each host that neither list has. Answers count until the session
    /// ends.
    #[arg(long, env = "AGENT_TOOLS_ASK", value_parser = BoolishValueParser::new())]
    ask: bool,
    /// Address that a name has on one port, like with curl. It allows no name. Repeatable.
    // Only the caller and the home fix addresses: no variable, no settings and no project do.
    #[arg(long, value_name = "NAME:PORT:ADDRESS[:PORT]")]
    resolve: Vec<Resolved>,
}

impl NetworkArgs {
    /// Returns whether the user is asked on the terminal.
    pub(crate) fn asks(&self) -> bool {
        self.ask
    }

    /// Returns the request of these options; `None` without any.
    pub(crate) fn spec(&self) -> Result<Option<NetworkSpec>, Failure> {
        let Self { allow_host, deny_host, allow_preset, expose, ask, resolve } = self;
        let mut spec = NetworkSpec::allow(allow_host).deny(deny_host);
        for preset in allow_preset {
            spec = spec.preset(*preset).map_err(Failure::not_run)?;
        }
        spec.exposed.clone_from(expose);
        spec.resolved.clone_from(resolve);
        let lacks_server = |pattern: &&String| {
            let host = Host::parse_with_port(pattern.strip_prefix("*.").unwrap_or(pattern));
            host.is_ok_and(|(host, _)| spec.lacks_server(&host))
        };
        // A pattern for all of them covers those that are exposed.
        let is_useless = |pattern: &&String| {
            lacks_server(pattern) && (!pattern.starts_with("*.") || expose.is_empty())
        };
        if let Some(pattern) = allow_host.iter().find(is_useless) {
            return Err(Failure::usage(format!(
                "--allow-host {pattern}: a name below host.internal leads only to a server of \
                 --expose NAME=HOST:PORT"
            )));
        }
        if *ask {
            spec.ask = Some(Arc::new(Terminal::open()?));
        }
        let is_empty = spec.allowed.is_empty()
            && spec.denied.is_empty()
            && spec.exposed.is_empty()
            && spec.resolved.is_empty()
            && !ask;
        Ok((!is_empty).then_some(spec))
    }
}

fn allowed_host(pattern: &str) -> Result<String, String> {
    let host = Host::parse_with_port(pattern).map(|(host, _)| host);
    if host.or_else(|_| Host::parse(pattern)).is_ok_and(|host| host.is_loopback()) {
        return Err("each session has a loopback of its own; use --expose NAME=HOST:PORT to give \
                    it a server of this machine"
            .to_owned());
    }
    check(pattern, |network| &mut network.allowed_domains)
}

fn denied_host(pattern: &str) -> Result<String, String> {
    check(pattern, |network| &mut network.denied_domains)
}

fn check(
    pattern: &str,
    list: fn(&mut NetworkConfig) -> &mut Vec<String>,
) -> Result<String, String> {
    let pattern = bracketed(pattern);
    let mut network = NetworkConfig::default();
    list(&mut network).push(pattern.clone());
    NetworkPolicy::compile(&network).map(|_| pattern).map_err(|error| error.problem)
}

/// Returns a pattern with the brackets that an IPv6 address needs in settings.
fn bracketed(pattern: &str) -> String {
    match pattern.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_pattern_and_loopback_needs_another_option() {
        for (pattern, stored) in [
            ("a.test", "a.test"),
            ("*.a.test:443", "*.a.test:443"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:22", "[fd00::1]:22"),
        ] {
            assert_eq!(allowed_host(pattern).as_deref(), Ok(stored));
        }
        for pattern in ["localhost", "127.0.0.1:80", "::1", "[::1]:80"] {
            assert!(allowed_host(pattern).unwrap_err().contains("--expose"), "{pattern}");
        }
        for pattern in ["*", "intranet", "a.test/x", "https://a.test", ""] {
            assert!(allowed_host(pattern).is_err(), "{pattern}");
        }
        assert_eq!(denied_host("*").as_deref(), Ok("*"));
    }
}

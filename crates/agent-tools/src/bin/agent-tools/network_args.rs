//! The options for the network.

use std::sync::Arc;

use agent_tools::policy::Host;
use agent_tools::{Exposed, NetworkPreset, NetworkSpec, Resolved};
use clap::Args;
use clap::builder::BoolishValueParser;

use crate::failure::Failure;
use crate::host_pattern;
use crate::origins;
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
        value_parser = host_pattern::allowed
    )]
    allow_host: Vec<String>,
    /// Host that commands may not connect to, whatever allows it. Repeatable.
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "AGENT_TOOLS_DENY_HOST",
        value_delimiter = ',',
        value_parser = host_pattern::denied
    )]
    deny_host: Vec<String>,
    /// Allow the hosts that the tools of this machine are configured with: debian (APT), github,
    /// node (npm), python (pip) or rust (cargo). Repeatable.
    #[arg(
        long,
        value_name = "PRESET",
        env = "AGENT_TOOLS_ALLOW_PRESET",
        value_delimiter = ',',
        value_parser = |text: &str| text.trim().parse::<NetworkPreset>()
    )]
    allow_preset: Vec<NetworkPreset>,
    /// Server that commands reach as NAME.host.internal:PORT. Only this opens servers on the
    /// loopback of this machine. Repeatable.
    #[arg(
        long,
        value_name = "NAME=HOST:PORT",
        env = "AGENT_TOOLS_EXPOSE",
        value_delimiter = ',',
        value_parser = |text: &str| text.trim().parse::<Exposed>()
    )]
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
                "{} {pattern}: a name below host.internal leads only to a server of \
                 --expose NAME=HOST:PORT",
                origins::name("--allow-host")
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

//! Lists of hosts, as `allowedDomains` and `deniedDomains` are, with an index.

use std::collections::HashMap;

use crate::domain;
use crate::host::{Host, parse_port};
use crate::setting_path::SettingPath;
use crate::validate::ValidationError;

/// Hosts that an entry of a list covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// All hosts.
    Any,
    /// One name or address.
    Host(Host),
    /// The names below a name.
    Below(String),
}

impl HostPattern {
    /// Reads an entry, with its port. The result is `None` if the entry can cover no host.
    pub(crate) fn parse(entry: &str) -> Option<(Self, Option<u16>)> {
        let (host, port) = match entry.strip_prefix('[') {
            Some(_) => {
                let (host, port) = domain::split_port(entry);
                (host.into_owned(), port)
            }
            None => match entry.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') => {
                    (host.to_owned(), Some(parse_port(port)?))
                }
                _ => (entry.to_owned(), None),
            },
        };
        let pattern = match host.strip_prefix("*.") {
            Some(base) => Self::Below(Host::parse(base).ok()?.as_name()?.to_owned()),
            None if host == "*" => Self::Any,
            None => Self::Host(Host::parse(&host).ok()?),
        };
        Some((pattern, port))
    }
}

/// A list of patterns with an index. The first entry that covers a host counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostList {
    entries: Vec<(String, Option<u16>)>,
    hosts: HashMap<Host, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
    any: Vec<usize>,
}

impl HostList {
    pub(crate) fn new(path: &str, entries: &[String]) -> Result<Self, ValidationError> {
        let mut list = Self::default();
        for (at, entry) in entries.iter().enumerate() {
            if !cfg!(feature = "idna") && !entry.is_ascii() {
                let path = SettingPath::from(path).index(at);
                let problem = "has a character beyond ASCII, which needs the feature `idna`";
                return Err(ValidationError { path, problem: problem.to_owned() });
            }
            let pattern = HostPattern::parse(entry);
            let port = pattern.as_ref().and_then(|(_, port)| *port);
            list.entries.push((entry.clone(), port));
            match pattern {
                Some((HostPattern::Any, _)) => list.any.push(at),
                Some((HostPattern::Host(host), _)) => list.hosts.entry(host).or_default().push(at),
                Some((HostPattern::Below(name), _)) => {
                    list.below.entry(name).or_default().push(at);
                }
                None => {}
            }
        }
        Ok(list)
    }

    /// Returns the first entry that covers a host. An entry without a port covers all ports.
    pub(crate) fn covering(&self, host: &Host, port: Option<u16>) -> Option<&str> {
        self.first(self.candidates(host), port)
    }

    /// Returns the ports of the entries that cover a host on some port.
    pub(crate) fn all_covering(&self, host: &Host) -> impl Iterator<Item = Option<u16>> {
        self.candidates(host).map(|at| self.entries[*at].1)
    }

    fn candidates(&self, host: &Host) -> impl Iterator<Item = &usize> {
        let name = host.as_name().unwrap_or_default();
        let above = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let found = above.filter_map(|name| self.below.get(name)).chain(self.hosts.get(host));
        found.chain([&self.any]).flatten()
    }

    /// Returns the first entry that is this very host.
    pub(crate) fn literal(&self, host: &Host, port: u16) -> Option<&str> {
        self.first(self.hosts.get(host)?.iter(), Some(port))
    }

    fn first<'l>(
        &'l self,
        candidates: impl Iterator<Item = &'l usize>,
        port: Option<u16>,
    ) -> Option<&'l str> {
        let covering =
            candidates.filter(|at| self.entries[**at].1.is_none_or(|own| port == Some(own)));
        covering.min().map(|at| &*self.entries[*at].0)
    }
}

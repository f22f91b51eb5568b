//! Destinations that the operator fixes: servers under names of their own, and addresses of names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use egress::Destinations;
use policy::Host;

/// The domain of exposed servers.
pub(super) const DOMAIN: &str = "host.internal";

/// A server that a session reaches as `NAME.host.internal`: `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    name: String,
    host: Host,
    port: u16,
}

/// An address that stands for a name on one port: `NAME:PORT:ADDRESS[:PORT]`, as in the option
/// `--resolve` of curl, with an optional port of the address. An IPv6 address has brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    name: Host,
    port: u16,
    to: SocketAddr,
}

/// Error of a text that names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDestination(&'static str);

impl Exposed {
    /// Returns the name inside the session, such as `db.host.internal`.
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }

    /// Returns the pattern that allows it.
    pub(crate) fn pattern(&self) -> String {
        format!("{}:{}", self.host(), self.port)
    }

    fn add_to(&self, destinations: Destinations) -> Destinations {
        match Host::parse(&self.host()) {
            Ok(name) => destinations.expose(name, self.port, self.host.clone()),
            Err(_) => destinations,
        }
    }
}

impl FromStr for Exposed {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, server) = text
            .split_once('=')
            .ok_or(InvalidDestination("expected NAME=HOST:PORT, such as db=127.0.0.1:5432"))?;
        let is_label = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_label {
            return Err(InvalidDestination("a name has letters a to z, digits and inner hyphens"));
        }
        match Host::parse_with_port(server) {
            Ok((host, Some(port))) => Ok(Self { name: name.to_owned(), host, port }),
            Ok((_, None)) => Err(InvalidDestination("the port is missing after HOST")),
            Err(_) => Err(InvalidDestination(
                "HOST is neither a name nor an address, or the port is not 1 to 65535",
            )),
        }
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.host.with_port(self.port))
    }
}

/// Returns whether a name is in the domain of exposed servers.
pub(super) fn is_below_domain(host: &Host) -> bool {
    let name = host.as_name().and_then(|name| name.strip_suffix(DOMAIN));
    name.is_some_and(|name| name.is_empty() || name.ends_with('.'))
}

impl Resolved {
    pub(super) fn name(&self) -> &Host {
        &self.name
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the name and the port.
    pub(super) fn target(&self) -> String {
        self.name.with_port(self.port)
    }

    /// Returns whether the address stands for this name.
    pub(super) fn is_for(&self, host: &Host) -> bool {
        self.name == *host
    }

    fn add_to(&self, destinations: Destinations) -> Destinations {
        destinations.resolve(self.name.clone(), self.port, self.to)
    }
}

impl FromStr for Resolved {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "expected NAME:PORT:ADDRESS[:PORT], such as api.example:443:127.0.0.1:8443";
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(port), Some(address)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidDestination(form));
        };
        let port = parse_port(port)?;
        let name = Host::parse(name).ok().filter(|name| name.as_name().is_some());
        let name = name.ok_or(InvalidDestination("NAME is not the name of a host"))?;
        if name.is_loopback() {
            return Err(InvalidDestination("each session has a localhost of its own"));
        }
        let (address, own_port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(InvalidDestination(form))?;
                match rest.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if rest.is_empty() => (address, None),
                    None => return Err(InvalidDestination(form)),
                }
            }
            None => match address.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err(InvalidDestination("an IPv6 address needs brackets"));
                }
                Some((address, port)) => (address, Some(port)),
                None => (address, None),
            },
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| InvalidDestination("ADDRESS is not an IPv4 or IPv6 address"))?;
        let own_port = own_port.map(parse_port).transpose()?.unwrap_or(port);
        Ok(Self { name, port, to: SocketAddr::new(address, own_port) })
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.port, self.to)
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidDestination> {
    let port = text.parse().ok().filter(|port| *port != 0);
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    port.filter(|_| is_plain).ok_or(InvalidDestination("a port is a number from 1 to 65535"))
}

/// Returns the destinations of both kinds as the gate takes them.
pub(crate) fn destinations(exposed: &[Exposed], resolved: &[Resolved]) -> Destinations {
    let all = exposed.iter().fold(Destinations::new(), |all, server| server.add_to(all));
    resolved.iter().fold(all, |all, address| address.add_to(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_server_has_a_name_a_host_and_a_port() {
        let exposed: Exposed = "db=127.0.0.1:5432".parse().unwrap();
        assert_eq!(
            (exposed.pattern().as_str(), exposed.to_string().as_str()),
            ("db.host.internal:5432", "db=127.0.0.1:5432")
        );
        assert_eq!("a-1=[::1]:80".parse::<Exposed>().unwrap().to_string(), "a-1=[::1]:80");
        for text in ["db", "db=", "db=host", "=h:1", "a.b=h:1", "-a=h:1", "A=h:1", "db=h:0"] {
            assert!(text.parse::<Exposed>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_a_name_has_the_form_of_curl_and_an_optional_port() {
        for (text, shown) in [
            ("A.test:443:127.0.0.1", "a.test:443:127.0.0.1:443"),
            ("a.test:443:127.0.0.1:8443", "a.test:443:127.0.0.1:8443"),
            ("a.test:443:[::1]", "a.test:443:[::1]:443"),
            ("a.test:443:[::1]:8443", "a.test:443:[::1]:8443"),
        ] {
            let resolved: Resolved = text.parse().unwrap();
            assert_eq!(resolved.to_string(), shown);
            assert_eq!(shown.parse::<Resolved>().unwrap(), resolved);
        }
        for text in [
            "a.test",
            "a.test:443",
            "a.test:0:127.0.0.1",
            "a.test:443:b.test",
            "a.test:443:::1",
            "a.test:443:[::1",
            "a.test:443:[::1]x",
            "127.0.0.1:443:127.0.0.1",
            "localhost:80:127.0.0.1",
            "a.test:443:127.0.0.1:+1",
        ] {
            assert!(text.parse::<Resolved>().is_err(), "{text}");
        }
    }
}

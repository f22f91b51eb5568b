//! The parent proxy: another proxy between the gate and the hosts.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use policy::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::denial::Failure;
use crate::error::GateError;
use crate::judge::{Content, Target};

/// Bytes of the head of an answer to CONNECT.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A proxy that the gate connects through, such as the one of a company.
///
/// The proxy resolves names. So the addresses that a name leads to are not judged.
///
/// ```
/// let proxy = egress::ParentProxy::new()
///     .https("http://user:password@proxy.example:3128")?
///     .no_proxy("localhost, .internal.example, 10.0.0.0/8");
/// # Ok::<(), egress::GateError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ParentProxy {
    http: Option<Server>,
    https: Option<Server>,
    direct: Vec<Direct>,
}

/// A proxy server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) port: u16,
    authorization: Option<HeaderValue>,
}

/// The form of requests without TLS to a proxy: with the whole URL.
#[derive(Clone, Debug)]
pub(crate) struct Absolute {
    pub(crate) authorization: Option<HeaderValue>,
}

/// Hosts that need no proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    /// A name, and the names below it.
    Name(String),
    /// The addresses with a common beginning, in bits.
    Block(IpAddr, u32),
}

impl ParentProxy {
    /// Creates a setting without proxies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the proxy for requests without TLS: `[http://][user:password@]host[:port]`, and port
    /// 80 by default. It is also the proxy for all other connections, unless they have their own.
    ///
    /// # Errors
    /// Returns [`GateError::ParentProxy`] for another text.
    pub fn http(mut self, url: &str) -> Result<Self, GateError> {
        self.http = Some(Server::parse(url).ok_or(GateError::ParentProxy)?);
        Ok(self)
    }

    /// Sets the proxy for TLS and all other connections, by CONNECT.
    ///
    /// # Errors
    /// Returns [`GateError::ParentProxy`] for another text than in [`ParentProxy::http`].
    pub fn https(mut self, url: &str) -> Result<Self, GateError> {
        self.https = Some(Server::parse(url).ok_or(GateError::ParentProxy)?);
        Ok(self)
    }

    /// Sets the hosts that are connected directly, as curl and srt read `NO_PROXY`: names with all
    /// names below them, also as `.name` or `*.name`, addresses, blocks such as `10.0.0.0/8`, and
    /// `*` for all, with commas or blanks between them. A port after a host has no effect.
    #[must_use]
    pub fn no_proxy(mut self, hosts: &str) -> Self {
        let entries = hosts.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        self.direct = entries.filter_map(Direct::parse).collect();
        self
    }

    /// Returns whether connections to a host go through a proxy.
    pub(crate) fn covers(&self, host: &Host) -> bool {
        let has_proxy = self.http.is_some() || self.https.is_some();
        has_proxy && !self.direct.iter().any(|direct| direct.covers(host))
    }

    /// Returns the proxy for a connection.
    pub(crate) fn server(&self, target: &Target, content: Content) -> Option<&Server> {
        let server = match content {
            Content::Http => self.http.as_ref(),
            Content::Terminated | Content::Tunnel => self.https.as_ref().or(self.http.as_ref()),
        };
        server.filter(|_| self.covers(&target.host))
    }
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return None,
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let (host, port) = Host::parse_with_port(host).ok()?;
        let authorization = user.map(|user| {
            let user = decode(user)?;
            let mut value =
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let authorization = match authorization {
            Some(authorization) => Some(authorization?),
            None => None,
        };
        Some(Self { host, port: port.unwrap_or(80), authorization })
    }

    pub(crate) fn absolute(&self) -> Absolute {
        Absolute { authorization: self.authorization.clone() }
    }

    /// Opens a tunnel. No byte behind the answer is read.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        target: &Target,
    ) -> Result<(), Failure> {
        let to = target.host.with_port(target.port);
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let unreachable = |error: std::io::Error| Failure::Unreachable { kind: error.kind() };
        stream.write_all(&request).await.map_err(unreachable)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() == MAX_HEAD_BYTES {
                return Err(Failure::ParentProxy { status: None });
            }
            head.push(stream.read_u8().await.map_err(unreachable)?);
        }
        match status(&head) {
            Some(200..=299) => Ok(()),
            status => Err(Failure::ParentProxy { status }),
        }
    }
}

/// Returns the status of an answer.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

/// Decodes the user and password of a URL.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    Some(decoded)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host.with_port(self.port))
    }
}

impl Direct {
    fn parse(entry: &str) -> Option<Self> {
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u32 = bits.parse().ok()?;
            return (bits <= width(address)).then_some(Self::Block(address, bits));
        }
        if entry == "*" {
            return Some(Self::All);
        }
        let name = entry.strip_prefix('*').unwrap_or(entry).trim_start_matches('.');
        let host = Host::parse(name).or_else(|_| Host::parse_with_port(name).map(|(host, _)| host));
        let host = host.ok()?;
        Some(match host.as_address() {
            Some(address) => Self::Block(address, width(address)),
            None => Self::Name(host.to_string()),
        })
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host.as_name(), host.as_address()) {
            (Self::All, ..) => true,
            (Self::Name(name), Some(own), _) => {
                let below = own.strip_suffix(name.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Self::Block(first, bits), _, Some(own)) => {
                let (first, own, width) = match (first, own) {
                    (IpAddr::V4(first), IpAddr::V4(own)) => {
                        (first.to_bits().into(), own.to_bits().into(), 32)
                    }
                    (IpAddr::V6(first), IpAddr::V6(own)) => (first.to_bits(), own.to_bits(), 128),
                    _ => return false,
                };
                *bits == 0 || first >> (width - bits) == own >> (width - bits)
            }
            _ => false,
        }
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, host: &str, direct: bool) {
        let proxy = ParentProxy::new().http("http://proxy.test:3128").unwrap().no_proxy(list);
        assert_eq!(!proxy.covers(&Host::parse(host).unwrap()), direct, "{list} {host}");
    }

    #[test]
    fn some_hosts_need_no_proxy() {
        check("", "a.test", false);
        check("*", "a.test", true);
        check("a.test,b.test", "b.test", true);
        check("a.test b.test", "x.B.test.", true);
        check(".a.test", "a.test", true);
        check("a.test.", "x.a.test", true);
        check("a.test", "xa.test", false);
        check("10.0.0.0/8, ::1", "10.1.2.3", true);
        check("10.0.0.0/8, ::1", "11.1.2.3", false);
        check("10.0.0.0/8, ::1", "::1", true);
        check("192.0.2.1", "192.0.2.1", true);
        check("0.0.0.0/0", "192.0.2.1", true);
        check("0.0.0.0/0", "a.test", false);
        check("10.0.0.0/33,a.*", "a.test", false);
        check("b.test, *", "a.test", true);
        check("*.a.test", "x.a.test", true);
        check("a.test:8080, [::1]:80", "a.test", true);
        check("a.test:8080, [::1]:80", "::1", true);
    }

    #[test]
    fn a_url_names_the_proxy_and_its_user() {
        let server = Server::parse("http://us%40er:p%3Ass@proxy.test:3128/").unwrap();
        assert_eq!(format!("{server:?}"), "proxy.test:3128");
        let expected = format!("Basic {}", STANDARD.encode("us@er:p:ss"));
        assert_eq!(server.authorization.unwrap().as_bytes(), expected.as_bytes());
        assert_eq!(Server::parse("http://[::1]").unwrap().port, 80);
        assert_eq!(format!("{:?}", Server::parse("proxy.test:3128").unwrap()), "proxy.test:3128");
        for url in
            ["https://us:er@proxy.test", "socks5://a:1", "http://", "http://a/b", "http://%@a"]
        {
            assert!(Server::parse(url).is_none(), "{url}");
        }
    }
}

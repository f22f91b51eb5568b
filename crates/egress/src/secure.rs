//! TLS with servers, whose certificates are verified, and with clients, by the authority.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use policy::Host;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::authority::{Authority, Leaf};
use crate::denial::Failure;
use crate::error::GateError;
use crate::hello::{HTTP_1, HTTP_2, Protocols};
use crate::http::Wire;
use crate::limits::Limits;
use crate::trust::Trust;

/// Characters of the description of a failed handshake. A part of it comes from the server.
const MAX_PROBLEM: usize = 300;

/// The version of HTTP inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, by ALPN or without it.
    Http1 { by_alpn: bool },
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Returns the offer that only this version fits.
    pub(crate) fn alone(self) -> Protocols {
        match self {
            Self::Http1 { by_alpn } => Protocols { http1: by_alpn, ..Protocols::default() },
            Self::Http2 => Protocols { http2: true, ..Protocols::default() },
        }
    }

    /// Returns the name in ALPN.
    fn name(self) -> Option<&'static [u8]> {
        match self {
            Self::Http1 { by_alpn } => by_alpn.then_some(HTTP_1),
            Self::Http2 => Some(HTTP_2),
        }
    }
}

/// The parts of TLS that all sessions share.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) authority: Authority,
    pub(crate) trust: Trust,
    provider: Arc<CryptoProvider>,
    /// Settings of clients. The system's certificates are read when they are needed.
    client: OnceLock<ClientConfig>,
}

impl Secure {
    pub(crate) fn new(
        limits: &Limits,
        roots: Option<&[u8]>,
        extra_roots: &[u8],
    ) -> Result<Self, GateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::new(&provider, limits.max_leaves)?;
        let roots = roots.map(certificates).transpose()?;
        let extra = match extra_roots {
            [] => Vec::new(),
            pem => certificates(pem)?,
        };
        let trust = Trust::new(authority.certificate().clone(), roots, extra);
        Ok(Self { authority, trust, provider, client: OnceLock::new() })
    }

    /// Begins TLS with a server, and verifies its certificate for the host. It takes
    /// as long as the limit.
    pub(crate) async fn connect(
        &self,
        host: &Host,
        stream: Wire,
        protocols: Protocols,
        limit: Duration,
    ) -> Result<(client::TlsStream<Wire>, Protocol), Failure> {
        let mut config = match self.client.get() {
            Some(config) => config.clone(),
            None => {
                let config = self.client_config()?;
                self.client.get_or_init(|| config).clone()
            }
        };
        if protocols.http2 {
            config.alpn_protocols.push(HTTP_2.to_vec());
        }
        if protocols.http1 {
            config.alpn_protocols.push(HTTP_1.to_vec());
        }
        let name = match host.as_address() {
            Some(address) => ServerName::IpAddress(address.into()),
            None => ServerName::try_from(host.to_string()).map_err(|_| unfit())?,
        };
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = match timeout(limit, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failure(&error)),
            Err(_) => return Err(Failure::TimedOut),
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Protocol::Http2,
            _ if protocols.http2 && !protocols.http1 => {
                let problem = "the host does not speak HTTP/2".to_owned();
                return Err(Failure::Tls { problem });
            }
            _ => Protocol::Http1 { by_alpn: protocols.http1 },
        };
        Ok((stream, protocol))
    }

    /// Answers the hello of a client with a leaf.
    pub(crate) async fn accept(
        &self,
        stream: Wire,
        leaf: Leaf,
        protocol: Protocol,
        limit: Duration,
    ) -> io::Result<server::TlsStream<Wire>> {
        let config = self.authority.config(leaf, protocol.name());
        let handshake = TlsAcceptor::from(config).accept(stream);
        timeout(limit, handshake).await.map_err(io::Error::from)?
    }

    fn client_config(&self) -> Result<ClientConfig, Failure> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.trust.roots().cloned());
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| unfit())?;
        Ok(config.with_root_certificates(store).with_no_client_auth())
    }
}

/// Reads all certificates of a text, which must have some.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, GateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(GateError::Roots)
}

fn unfit() -> Failure {
    Failure::Tls { problem: "the host has no name that TLS knows".to_owned() }
}

fn failure(error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(problem) => {
            let text = problem.to_string();
            let clean = |c: char| if c.is_control() { '?' } else { c };
            Failure::Tls { problem: text.chars().take(MAX_PROBLEM).map(clean).collect() }
        }
        None => Failure::Unreachable { kind: error.kind() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_must_be_certificates() {
        let open = |roots, extra| Secure::new(&Limits::default(), roots, extra);
        assert!(matches!(open(Some(b"no PEM"), b""), Err(GateError::Roots)));
        assert!(matches!(open(None, b"no PEM"), Err(GateError::Roots)));
        let own = open(None, b"").unwrap().trust.authority();
        let trust = open(Some(own.as_bytes()), own.as_bytes()).unwrap().trust;
        assert_eq!(trust.roots().count(), 2);
    }
}

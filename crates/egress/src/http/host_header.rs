//! The header `Host` of a request.

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HOST;
use policy::Host;

use crate::denial::Denial;
use crate::judge::Target;

/// Compares the header `Host` of a request with its destination. HTTP/1.0 does not need it. A
/// header without a port is for the default port, or for any port without a default.
pub(super) fn same_host(
    target: &Target,
    request: &Request<Incoming>,
    default: Option<u16>,
) -> Result<(), Denial> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let Some(first) = first else {
        let is_old = request.version() == hyper::Version::HTTP_10;
        let problem = "no header Host";
        return if is_old { Ok(()) } else { Err(Denial::HostHeader { problem }) };
    };
    if second.is_some() {
        return Err(Denial::HostHeader { problem: "two headers Host" });
    }
    let text = first.to_str().unwrap_or("?");
    if text.trim().is_empty() {
        return Err(Denial::HostHeader { problem: "an empty header Host" });
    }
    let is_same = match Host::parse_with_port(text) {
        Ok((host, port)) => {
            host == target.host && port.or(default).is_none_or(|port| port == target.port)
        }
        Err(_) => false,
    };
    if is_same { Ok(()) } else { Err(Denial::other_host(text)) }
}

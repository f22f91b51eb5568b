//! The requests of one connection: each is judged, forwarded, and answered.

use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use policy::Host;

use super::forward::{Forward, Unsent};
use super::refuse::{self, Answer};
use super::{Next, Scope, hop};
use crate::connect::{self, Blocked, Upstream};
use crate::denial::Denial;
use crate::event::{Outcome, Via};
use crate::flow::Cut;
use crate::judge::{Content, Target};
use crate::session::Session;

/// Port of a URL without one.
const HTTP_PORT: u16 = 80;

#[derive(Debug)]
pub(crate) struct Exchange {
    session: Arc<Session>,
    cut: Arc<Cut>,
    scope: Scope,
    /// The connection of the last request. Requests come one after the other.
    kept: tokio::sync::Mutex<Option<Forward>>,
    next: Mutex<Option<Next>>,
}

impl Exchange {
    pub(crate) async fn new(
        session: &Arc<Session>,
        cut: &Arc<Cut>,
        scope: Scope,
        upstream: Option<Upstream>,
    ) -> Self {
        let max_head_bytes = session.shared.limits.max_head_bytes;
        let kept = match upstream {
            Some(upstream) => Forward::new(upstream, max_head_bytes).await.ok(),
            None => None,
        };
        Self {
            session: Arc::clone(session),
            cut: Arc::clone(cut),
            scope,
            kept: tokio::sync::Mutex::new(kept),
            next: Mutex::default(),
        }
    }

    /// Returns the use of the connection after its requests.
    pub(crate) fn take_next(&self) -> Option<Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_next(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() == Method::CONNECT {
            return match &self.scope {
                Scope::Proxy => self.connect(request).await,
                Scope::Fixed(_) => refuse::bad_request("this server is no proxy"),
            };
        }
        let target = match self.target(&request) {
            Ok(target) => target,
            Err(problem) => return refuse::bad_request(problem),
        };
        // In an absolute form, the authority counts, and the header is written anew (RFC 9112,
        // section 3.2.2).
        if request.uri().authority().is_none()
            && let Err(denial) = same_host(&target, &request)
        {
            self.session.record(&target, Outcome::Denied(denial.clone()));
            return refuse::refused(&target, &denial);
        }
        self.forward(target, request).await
    }

    /// Answers CONNECT. The tunnel begins after the answer.
    async fn connect(&self, mut request: Request<Incoming>) -> Answer {
        let target = match self.authority(request.uri(), None) {
            Ok(target) => target,
            Err(problem) => return refuse::bad_request(problem),
        };
        match connect::connect(&self.session, &target, Content::Tunnel, &self.cut).await {
            Ok(upstream) => {
                let client = hyper::upgrade::on(&mut request);
                self.set_next(Next::Connect { client, upstream: Box::new(upstream) });
                Response::new(Either::Left(http_body_util::Full::default()))
            }
            Err(blocked) => refuse::blocked(&target, &blocked),
        }
    }

    /// Returns the destination of a request.
    fn target(&self, request: &Request<Incoming>) -> Result<Target, &'static str> {
        let uri = request.uri();
        let named = match uri.scheme_str() {
            Some("http") => Some(self.authority(uri, Some(HTTP_PORT))?),
            Some(_) => return Err("the URL is not an http one"),
            None => None,
        };
        match (&self.scope, named) {
            (Scope::Proxy, Some(target)) => Ok(target),
            (Scope::Proxy, None) => Err("a request to a proxy needs a whole URL"),
            (Scope::Fixed(target), None) => Ok(target.clone()),
            (Scope::Fixed(target), Some(named))
                if named.host == target.host && named.port == target.port =>
            {
                Ok(target.clone())
            }
            (Scope::Fixed(_), Some(_)) => Err("the URL names another host than the connection"),
        }
    }

    fn authority(&self, uri: &Uri, default: Option<u16>) -> Result<Target, &'static str> {
        let authority = uri.authority().ok_or("the destination is missing")?;
        let (host, port) = Host::parse_with_port(without_user(authority.as_str()))
            .map_err(|_| "the destination is no host")?;
        let port = port.or(default).ok_or("the destination lacks a port")?;
        Ok(Target::new(&self.session, host, port, Via::Proxy))
    }

    async fn forward(&self, target: Target, mut request: Request<Incoming>) -> Answer {
        let judged = self.session.ask_and_judge(&target, Content::Http).await;
        if let Err(denial) = judged {
            self.session.record(&target, Outcome::Denied(denial.clone()));
            return refuse::refused(&target, &denial);
        }
        let client = hyper::upgrade::on(&mut request);
        let mut request = match prepare(&target, request) {
            Ok(request) => request,
            Err(problem) => return refuse::bad_request(problem),
        };
        let mut kept = self.kept.lock().await;
        loop {
            let reusable = match kept.take() {
                Some(mut forward) if *forward.flow.target() == target => {
                    forward.is_ready().await.then_some(forward)
                }
                _ => None,
            };
            let is_new = reusable.is_none();
            let mut forward = match reusable {
                Some(forward) => forward,
                None => match self.open(&target).await {
                    Ok(forward) => forward,
                    Err(blocked) => return refuse::blocked(&target, &blocked),
                },
            };
            match forward.send(request).await {
                Ok(response) => {
                    return self.pass(response, client, forward, &mut kept);
                }
                // A server may close a kept connection at any time.
                Err(Unsent::Request(unsent)) if !is_new => request = *unsent,
                Err(Unsent::Request(_)) => {
                    let kind = std::io::ErrorKind::ConnectionReset;
                    let failure = crate::denial::Failure::Unreachable { kind };
                    forward.flow.fail(failure.clone());
                    return refuse::blocked(&target, &Blocked::Failed(failure));
                }
                Err(Unsent::Failed(failure)) => {
                    forward.flow.fail(failure.clone());
                    return refuse::blocked(&target, &Blocked::Failed(failure));
                }
            }
        }
    }

    async fn open(&self, target: &Target) -> Result<Forward, Blocked> {
        let upstream = connect::connect(&self.session, target, Content::Http, &self.cut).await?;
        let max_head_bytes = self.session.shared.limits.max_head_bytes;
        Forward::new(upstream, max_head_bytes).await.map_err(Blocked::Failed)
    }

    /// Passes an answer to the client, and keeps the connection for what comes next.
    fn pass(
        &self,
        mut response: Response<Incoming>,
        client: hyper::upgrade::OnUpgrade,
        forward: Forward,
        kept: &mut Option<Forward>,
    ) -> Answer {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = hyper::upgrade::on(&mut response);
            let Forward { driver, flow, .. } = forward;
            self.set_next(Next::Upgrade { client, upstream, flow, _driver: driver });
        } else {
            *kept = Some(forward);
        }
        hop::strip(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        response.map(Either::Right)
    }
}

/// Returns the request as it goes to the server: without the headers of this connection, and with
/// the one host that was judged.
fn prepare(
    target: &Target,
    mut request: Request<Incoming>,
) -> Result<Request<Incoming>, &'static str> {
    hop::strip(request.headers_mut());
    let host = match target.port {
        HTTP_PORT => match target.host.as_address() {
            Some(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            _ => target.host.to_string(),
        },
        port => target.host.with_port(port),
    };
    let host = HeaderValue::try_from(host).map_err(|_| "the destination is no host")?;
    request.headers_mut().insert(HOST, host);
    let path = match request.uri().path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    };
    *request.uri_mut() = path;
    *request.version_mut() = Version::HTTP_11;
    Ok(request)
}

/// Returns an authority without user and password.
fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Judges the header `Host` of a captured request. HTTP/1.0 does not need it.
fn same_host(target: &Target, request: &Request<Incoming>) -> Result<(), Denial> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let Some(first) = first else {
        let is_old = request.version() == Version::HTTP_10;
        return if is_old { Ok(()) } else { Err(Denial::other_host("")) };
    };
    let text = first.to_str().unwrap_or("?");
    let is_same = match Host::parse_with_port(text) {
        Ok((host, port)) => host == target.host && port.is_none_or(|port| port == target.port),
        Err(_) => false,
    };
    if is_same && second.is_none() { Ok(()) } else { Err(Denial::other_host(text)) }
}

//! The requests of one connection: each is judged, forwarded, and answered.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{HOST, HeaderName, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use policy::Host;

use super::body::{Body, Filter, redact_headers};
use super::delay::Parts;
use super::forward::{Forward, Unsent};
use super::host_header::same_host;
use super::insertions::Insertions;
use super::prepare::{self, Outgoing, Unsendable};
use super::refuse::{self, Answer};
use super::{Next, Scope, coding, hop};
use crate::connect::{self, Blocked, Upstream};
use crate::denial::{Denial, Failure};
use crate::event::{Outcome, Via};
use crate::first_bytes::Version;
use crate::flow::Cut;
use crate::judge::{Content, Target};
use crate::masks::{HostMasks, Security};
use crate::session::Session;
use crate::terminate;

/// Ports of URLs without one.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(super) session: Arc<Session>,
    cut: Arc<Cut>,
    pub(super) scope: Scope,
    /// The connection of the last request. Requests of HTTP/1 come one after the other, and those
    /// of HTTP/2 share a connection.
    pub(super) kept: tokio::sync::Mutex<Option<Forward>>,
    next: Mutex<Option<Next>>,
    insertions: Insertions,
}

/// Reason to refuse a request before its destination is judged.
enum Unjudged {
    Bad(&'static str),
    OtherHost(Box<(Target, Denial)>),
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
            Some(upstream) => Forward::plain(upstream, scope.version(), max_head_bytes).await.ok(),
            None => None,
        };
        Self::over(session, cut, scope, kept)
    }

    /// Creates the exchange over a connection to the server.
    pub(crate) fn over(
        session: &Arc<Session>,
        cut: &Arc<Cut>,
        scope: Scope,
        kept: Option<Forward>,
    ) -> Self {
        Self {
            session: Arc::clone(session),
            cut: Arc::clone(cut),
            scope,
            kept: tokio::sync::Mutex::new(kept),
            next: Mutex::default(),
            insertions: Insertions::new(session),
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
        if let Some(refused) = self.refuse_large(&request) {
            return refused;
        }
        if request.method() == Method::CONNECT {
            return match &self.scope {
                Scope::Proxy => self.connect(request).await,
                _ => refuse::bad_request("this server is no proxy"),
            };
        }
        let target = match self.target(&request) {
            Ok(target) => target,
            Err(Unjudged::Bad(problem)) => return refuse::bad_request(problem),
            Err(Unjudged::OtherHost(refused)) => return self.refuse(&refused.0, refused.1),
        };
        if let Err(denial) = self.judge_host(&target, &request).await {
            return self.refuse(&target, denial);
        }
        self.forward(target, request).await
    }

    /// Judges the header `Host` of a request. In an absolute form, the authority counts, and the
    /// header is written anew (RFC 9112, section 3.2.2), unless the settings require that both
    /// agree. In HTTP/2, both must agree.
    async fn judge_host(&self, target: &Target, request: &Request<Incoming>) -> Result<(), Denial> {
        let is_strict = self.session.policy().requests().requires_host_match();
        let is_absolute = request.uri().authority().is_some();
        let is_terminated = matches!(self.scope, Scope::Terminated(..));
        let is_doubled = is_absolute && is_terminated;
        if is_absolute && !(is_doubled && request.headers().contains_key(HOST)) && !is_strict {
            return Ok(());
        }
        if is_absolute && !is_terminated {
            // A denied host is refused as such, and not for its header.
            self.session.ask_and_judge(target, Content::Http).await?;
        }
        let default = match (is_strict, is_terminated) {
            (false, _) => None,
            (true, false) => Some(HTTP_PORT),
            (true, true) => Some(HTTPS_PORT),
        };
        same_host(target, request, default)
    }

    pub(super) fn refuse(&self, target: &Target, denial: Denial) -> Answer {
        self.session.record(target, Outcome::Denied(denial.clone()));
        refuse::refused(target, &denial)
    }

    /// Answers CONNECT. The tunnel begins after the answer.
    async fn connect(&self, request: Request<Incoming>) -> Answer {
        let target = match self.authority(request.uri(), None) {
            Ok(target) => target,
            Err(problem) => return refuse::bad_request(problem),
        };
        let (head, body) = request.into_parts();
        for text in prepare::visible(&head) {
            if let Err(denial) = self.session.masks().check_opaque(&target, text) {
                return self.refuse(&target, denial);
            }
        }
        let mut request = Request::from_parts(head, body);
        let content = terminate::content(&self.session, &target);
        match connect::connect(&self.session, &target, content, &self.cut).await {
            Ok(upstream) => {
                let client = hyper::upgrade::on(&mut request);
                self.set_next(Next::Connect { client, upstream: Box::new(upstream) });
                Response::new(Body::whole(""))
            }
            Err(blocked) => refuse::blocked(&target, &blocked),
        }
    }

    /// Returns the destination of a request.
    fn target(&self, request: &Request<Incoming>) -> Result<Target, Unjudged> {
        let uri = request.uri();
        let (scheme, port) = match self.scope {
            Scope::Terminated(..) => ("https", HTTPS_PORT),
            // Each request of HTTP/2 has a URL, and clients omit the port at any one.
            Scope::Fixed(ref target, Version::Two) => ("http", target.port),
            _ => ("http", HTTP_PORT),
        };
        let named = match uri.scheme_str() {
            Some(own) if own == scheme => {
                Some(self.authority(uri, Some(port)).map_err(Unjudged::Bad)?)
            }
            Some(_) if scheme == "https" => {
                return Err(Unjudged::Bad("the URL is not an https one"));
            }
            Some(_) => return Err(Unjudged::Bad("the URL is not an http one")),
            None if uri.authority().is_some() => {
                return Err(Unjudged::Bad("the target is neither a path nor a URL"));
            }
            None => None,
        };
        match (&self.scope, named) {
            (Scope::Proxy, Some(target)) => Ok(target),
            (Scope::Proxy, None) => Err(Unjudged::Bad("a request to a proxy needs a whole URL")),
            (Scope::Fixed(target, _) | Scope::Terminated(target, _), None) => Ok(target.clone()),
            (Scope::Fixed(target, _) | Scope::Terminated(target, _), Some(named))
                if named.host == target.host && named.port == target.port =>
            {
                Ok(target.clone())
            }
            (Scope::Terminated(target, _) | Scope::Fixed(target, _), Some(_)) => {
                let authority = uri.authority().map_or("", |own| without_user(own.as_str()));
                let denial = Denial::other_host(authority);
                Err(Unjudged::OtherHost(Box::new((target.clone(), denial))))
            }
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
        let (content, security) = match self.scope {
            Scope::Terminated(..) => (Content::Terminated, Security::Verified),
            _ => (Content::Http, Security::Plaintext),
        };
        let judged = self.session.ask_and_judge(&target, content).await;
        if let Err(denial) = judged {
            return self.refuse(&target, denial);
        }
        let client = hyper::upgrade::on(&mut request);
        let masks = self.session.masks().view(&target, security);
        let prepared =
            prepare::prepare(&self.session, &target, security, &masks, &self.insertions, request)
                .await;
        let Outgoing { mut request, ended } = match prepared {
            Ok(prepared) => prepared,
            Err(Unsendable::Denied(denial)) => return self.refuse(&target, denial),
            Err(Unsendable::Bad(problem)) => return refuse::bad_request(problem),
            Err(Unsendable::TooLarge) => {
                return refuse::too_large("A body whose digest is signed has at most 64 MiB");
            }
            Err(Unsendable::Busy) => {
                return refuse::unavailable(
                    "The bodies of this session that are read as a whole fill its 128 MiB; try \
                     again when one of them is sent",
                );
            }
            Err(Unsendable::Stalled) => {
                return refuse::request_timeout("The client sends no more of the body");
            }
            Err(Unsendable::Method) => {
                return refuse::not_allowed("TRACE would return the values of secrets");
            }
        };
        let may_leave_http = request.headers().contains_key(UPGRADE);
        let mark = request.body_mut().mark();
        let is_ended = || ended.get().is_some() || mark.load(Ordering::Relaxed);
        let sent = self.send(&target, request, is_ended).await;
        match (sent, ended.get()) {
            // The event is recorded where the body ended. The server may have answered to its part.
            (_, Some(denial)) => refuse::refused(&target, denial),
            (Ok((_, Ended::Upgrade(_))), None) if !may_leave_http => {
                refuse::bad_gateway("The server left HTTP without being asked")
            }
            (Ok((response, forward)), None) => self.pass(response, client, forward, &masks),
            (Err(_), None) if is_ended() => refuse::bad_request("the body cannot be read"),
            (Err(blocked), None) => refuse::blocked(&target, &blocked),
        }
    }

    /// Sends a request on the kept connection, or on a new one. The connection is kept again.
    /// `is_ended` returns whether the request has ended itself, which is no failure of the server.
    async fn send(
        &self,
        target: &Target,
        mut request: Request<Body>,
        is_ended: impl Fn() -> bool,
    ) -> Result<(Response<Incoming>, Ended), Blocked> {
        let mut kept = self.kept.lock().await;
        loop {
            let reusable = match kept.take() {
                Some(mut forward) if *forward.flow.target() == *target => {
                    forward.is_ready().await.then_some(forward)
                }
                _ => None,
            };
            let is_new = reusable.is_none();
            let mut forward = match reusable {
                Some(forward) => forward,
                None => self.open(target).await?,
            };
            let sent = if let Some(shared) = forward.shared() {
                *kept = Some(shared);
                drop(kept);
                let sent = forward.send(request).await;
                kept = self.kept.lock().await;
                sent
            } else {
                forward.send(request).await
            };
            match sent {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok((response, Ended::Upgrade(forward)));
                }
                Ok(response) => {
                    kept.get_or_insert(forward);
                    return Ok((response, Ended::Open));
                }
                // A server may close a kept connection at any time.
                Err(Unsent::Request(unsent)) if !is_new => request = *unsent,
                Err(unsent) => {
                    let kind = std::io::ErrorKind::ConnectionReset;
                    let failure = match unsent {
                        Unsent::Failed(failure) => failure,
                        Unsent::Request(_) => Failure::Unreachable { kind },
                    };
                    if forward.shared().is_none() && !is_ended() {
                        forward.flow.fail(failure.clone());
                    }
                    return Err(Blocked::Failed(failure));
                }
            }
        }
    }

    async fn open(&self, target: &Target) -> Result<Forward, Blocked> {
        let max_head_bytes = self.session.shared.limits.max_head_bytes;
        let (session, cut) = (&self.session, &self.cut);
        match &self.scope {
            Scope::Terminated(_, protocol) => {
                let upstream = connect::connect(session, target, Content::Terminated, cut).await?;
                let protocols = protocol.alone();
                Ok(terminate::secure_upstream(session, upstream, protocols).await?.0)
            }
            _ => {
                let upstream = connect::connect(session, target, Content::Http, cut).await?;
                let version = self.scope.version();
                Forward::plain(upstream, version, max_head_bytes).await.map_err(Blocked::Failed)
            }
        }
    }

    /// Passes an answer to the client.
    fn pass(
        &self,
        mut response: Response<Incoming>,
        client: hyper::upgrade::OnUpgrade,
        ended: Ended,
        masks: &HostMasks,
    ) -> Answer {
        if let Ended::Upgrade(Forward { driver, flow, .. }) = ended {
            let upstream = hyper::upgrade::on(&mut response);
            self.set_next(Next::Upgrade { client, upstream, flow, _driver: driver });
        }
        if masks.answers.is_some() && coding::hides_text(&response) {
            return refuse::bad_gateway(
                "The answer is compressed although the request asks for none, so the values of \
                 secrets in it could not be redacted",
            );
        }
        hop::strip(response.headers_mut(), |_| true);
        let policy = self.session.policy();
        if policy.requests().strips_headers() {
            let stripped = |name: &&HeaderName| policy.requests().strips_header(name.as_str());
            let names: Vec<_> = response.headers().keys().filter(stripped).cloned().collect();
            for name in names {
                response.headers_mut().remove(name);
            }
        }
        let parts = Parts::of(&response);
        *response.version_mut() = hyper::Version::HTTP_11;
        let Some(answers) = &masks.answers else { return response.map(Body::Passed) };
        redact_headers(response.headers_mut(), answers);
        // Its text is the server's, and no program needs it.
        response.extensions_mut().remove::<ReasonPhrase>();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response.map(Body::Passed);
        }
        let filter = Filter::redact(answers.clone(), parts);
        response.map(|body| Body::filtered(body, filter))
    }
}

/// State of a connection after the head of an answer.
#[derive(Debug)]
enum Ended {
    /// It can take the next request.
    Open,
    /// It leaves HTTP.
    Upgrade(Forward),
}

/// Returns an authority without user and password.
fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

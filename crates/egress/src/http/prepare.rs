//! Requests as they go to a server: with the one host that was judged, and with the values of
//! masked secrets.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};
use secrets::{RequestPart, Substitution};

use super::body::{Body, Filter, Insert};
use super::coding::A_IM;
use super::hop;
use super::insertions::Insertions;
use super::watch::Watch;
use super::whole::Whole;
use crate::denial::Denial;
use crate::event::IntactReason;
use crate::judge::Target;
use crate::masks::{HostMasks, Security};
use crate::session::Session;
use crate::sigv4::{self, Reading, Resign};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Bytes of a body that is changed as a whole, so that it keeps a known length.
const MAX_CHANGED_BYTES: u64 = 1 << 20;
/// Bytes of a body that is searched as a whole for placeholders that stay in it.
const MAX_SEARCHED_BYTES: u64 = 64 << 10;
const SCHEME_BASIC: &[u8] = b"basic ";
/// Header of the token of temporary credentials of AWS.
const AWS_TOKEN: &str = "x-amz-security-token";

/// A request that can be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) request: Request<Body>,
    /// The refusal that ended the request on its way.
    pub(crate) ended: Arc<OnceLock<Denial>>,
}

/// Reason not to send a request.
#[derive(Debug)]
pub(crate) enum Unsendable {
    Denied(Denial),
    /// The request cannot be read.
    Bad(&'static str),
    /// The body is too long.
    TooLarge,
    /// The session has no more memory for whole bodies.
    Busy,
    /// The client sends no more of the body.
    Stalled,
    /// The method returns what it receives.
    Method,
}

impl From<Denial> for Unsendable {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// Prepares a request for a judged destination.
pub(crate) async fn prepare(
    session: &Arc<Session>,
    target: &Target,
    security: Security,
    masks: &HostMasks,
    insertions: &Insertions,
    request: Request<Incoming>,
) -> Result<Outgoing, Unsendable> {
    let (mut head, body) = request.into_parts();
    masks.check(visible(&head))?;
    if head.method == Method::TRACE && masks.answers.is_some() {
        return Err(Unsendable::Method);
    }
    let (resign, body) = signature(session, masks, &head, body).await?;
    let has_masks = masks.answers.is_some();
    hop::strip(&mut head.headers, |protocol| may_leave_http(protocol, has_masks));
    let host = match (security, target.port) {
        (Security::Plaintext, HTTP_PORT) | (Security::Verified, HTTPS_PORT) => {
            match target.host.as_address() {
                Some(std::net::IpAddr::V6(address)) => format!("[{address}]"),
                _ => target.host.to_string(),
            }
        }
        (_, port) => target.host.with_port(port),
    };
    let host = HeaderValue::try_from(host).map_err(|_| Unsendable::Bad("the host is invalid"))?;
    head.headers.insert(HOST, host);
    head.uri = match head.uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    };
    if masks.answers.is_some() {
        // A compressed answer could not be redacted.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        head.headers.remove(A_IM);
    }
    let is_shown = insert(&mut head, masks, |names| insertions.record(target, names))?;
    note_kept(&head, masks, security, |name, reason| insertions.record_kept(target, name, reason));
    if masks.answers.is_some() {
        // A part of a value cannot be redacted. A server may ignore these headers (RFC 9110,
        // section 14.2), so a client takes the whole without them. Clients of S3 sign them, and
        // need the part. Its answers do not repeat credentials.
        let is_kept = |name: &HeaderName| {
            let of_s3 = resign.as_ref().filter(|resign| resign.is_for_s3() && !is_shown);
            of_s3.is_some_and(|resign| resign.covers(name.as_str()))
        };
        let parts = head.headers.keys().filter(|name| asks_for_part(name) && !is_kept(name));
        for name in parts.cloned().collect::<Vec<_>>() {
            head.headers.remove(name);
        }
    }
    if let Some(resign) = &resign {
        let problem = "the final request cannot be signed";
        resign.sign(&mut head).ok_or(Denial::Signature { problem })?;
        insertions.record(target, masks.key_names.get(resign.index()).map(String::as_str));
    }
    let ended = Arc::default();
    let is_signed = resign.is_some();
    let body = match body {
        Ok(incoming) => {
            let to = To { session, target, security, masks, insertions };
            filtered(to, &mut head, incoming, is_signed, &ended).await?
        }
        Err(whole) => {
            masks.check([&whole.bytes[..]])?;
            whole.into_body(None)
        }
    };
    Ok(Outgoing { request: Request::from_parts(head, body), ended })
}

/// Returns whether a connection may leave HTTP for a protocol. Inside `h2c`, requests could name
/// other hosts. For hosts of masks, only the protocol passes that programs need.
fn may_leave_http(protocol: &str, has_masks: bool) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    match has_masks {
        true => name.eq_ignore_ascii_case("websocket"),
        false => !name.eq_ignore_ascii_case("h2c") && !name.eq_ignore_ascii_case("HTTP"),
    }
}

/// Returns whether a header asks for a part of an answer: `Range`, and the names that servers take
/// for it, such as `Request-Range` of Apache and `x-ms-range` of Azure. Those of a source, such as
/// `x-amz-copy-source-range`, are about another object.
fn asks_for_part(name: &HeaderName) -> bool {
    let name = name.as_str();
    (name == "range" || name.ends_with("-range"))
        && name != "content-range"
        && !name.contains("source")
}

/// Returns the parts of a request that a placeholder can be in, without its body.
pub(crate) fn visible(head: &Parts) -> impl Iterator<Item = &[u8]> {
    let path = head.uri.path_and_query().map(|path| path.as_str().as_bytes());
    let method = [head.method.as_str().as_bytes()];
    head.headers.values().map(HeaderValue::as_bytes).chain(path).chain(method)
}

/// Replaces placeholders in the headers and the query. Notes the names of the secrets. Returns
/// whether any but those of AWS's credentials was replaced.
fn insert(head: &mut Parts, masks: &HostMasks, note: impl Fn(Vec<&str>)) -> Result<bool, Denial> {
    let mut is_shown = false;
    if !masks.headers.is_empty() {
        for (name, value) in &mut head.headers {
            let replaced = match value.as_bytes().split_at_checked(SCHEME_BASIC.len()) {
                Some((scheme, credentials))
                    if name == AUTHORIZATION && scheme.eq_ignore_ascii_case(SCHEME_BASIC) =>
                {
                    let replaced = masks.headers.replace_in_basic(credentials);
                    if replaced.is_some() {
                        note(masks.headers.names_in_basic(credentials));
                    }
                    replaced.map(|credentials| [scheme, &credentials].concat())
                }
                _ => masks.headers.replace(value.as_bytes()).map(|replaced| {
                    note(masks.headers.names_in(value.as_bytes()));
                    replaced.to_vec()
                }),
            };
            let Some(replaced) = replaced else { continue };
            let unfit = |_| Denial::UnfitValue { part: format!("the header {name}") };
            // HTTP/2 has no header with blanks around its value (RFC 9113, section 8.2.1).
            let trimmed = replaced.trim_ascii();
            *value = HeaderValue::from_bytes(trimmed).map_err(unfit)?;
            value.set_sensitive(true);
            is_shown |= name != AUTHORIZATION && name != AWS_TOKEN;
        }
    }
    let query = head.uri.query().and_then(|query| {
        let replaced = masks.query.replace_in_query(query.as_bytes())?;
        note(masks.query.names_in(query.as_bytes()));
        Some(replaced)
    });
    if let Some(query) = query {
        let path = head.uri.path().as_bytes();
        let unfit = |_| Denial::UnfitValue { part: "the query".to_owned() };
        head.uri = Uri::try_from([path, b"?", &query].concat()).map_err(unfit)?;
        is_shown = true;
    }
    Ok(is_shown)
}

/// Notes the placeholders that stay in the headers and the URL of a request to their own host.
fn note_kept(
    head: &Parts,
    masks: &HostMasks,
    security: Security,
    note: impl Fn(&str, IntactReason),
) {
    if masks.is_unused() {
        return;
    }
    let headers = head.headers.values().map(|value| (value.as_bytes(), RequestPart::Headers));
    let query = head.uri.query().map(|query| (query.as_bytes(), RequestPart::Query));
    let parts = headers.chain(query).map(|(text, part)| (text, IntactReason::Part(part)));
    for (text, reason) in parts.chain([(head.uri.path().as_bytes(), IntactReason::Path)]) {
        kept(masks, security, text, reason).for_each(|(name, reason)| note(name, reason));
    }
}

/// Returns the secrets whose placeholders stay in a text, with the reason.
fn kept<'m>(
    masks: &'m HostMasks,
    security: Security,
    text: &[u8],
    reason: IntactReason,
) -> impl Iterator<Item = (&'m str, IntactReason)> {
    masks.own_in(text).into_iter().map(move |(name, allows_plaintext)| {
        let replaced = match reason {
            IntactReason::Part(RequestPart::Headers) => &masks.headers,
            IntactReason::Part(RequestPart::Query) => &masks.query,
            _ => &Substitution::default(),
        };
        if security == Security::Plaintext && !allows_plaintext {
            (name, IntactReason::Plaintext)
        } else if replaced.contains(name) {
            (name, IntactReason::Encoded)
        } else {
            (name, reason)
        }
    })
}

/// The body of a request, or the whole of it if it had to be read.
type Read = Result<Incoming, Whole>;

/// Finds the placeholder that signed a request.
async fn signature(
    session: &Arc<Session>,
    masks: &HostMasks,
    head: &Parts,
    body: Incoming,
) -> Result<(Option<Resign>, Read), Unsendable> {
    if masks.keys.is_empty() {
        return Ok((None, Ok(body)));
    }
    let has_placeholder = |text: &[u8]| masks.headers.replace(text).is_some();
    let signature = match sigv4::read(head) {
        Reading::Unsigned => return Ok((None, Ok(body))),
        Reading::Unusable(problem) => {
            return if visible(head).any(has_placeholder) {
                Err(Denial::Signature { problem }.into())
            } else {
                Ok((None, Ok(body)))
            };
        }
        Reading::Signed(signature) => signature,
    };
    let is_ours = has_placeholder(signature.key_id().as_bytes());
    let body = match signature.needs_body() && !body.is_end_stream() {
        true => Err(Whole::read(session, body).await?),
        false => Ok(body),
    };
    let bytes = body.as_ref().err().map_or(&[][..], |whole| &whole.bytes[..]);
    match signature.find_key(head, bytes, &masks.keys) {
        Some(resign) => Ok((Some(resign), body)),
        None if is_ours => {
            let problem = "no masked secret is its key";
            Err(Denial::Signature { problem }.into())
        }
        None => Ok((None, body)),
    }
}

/// The destination of a request, and the masks that apply to it.
#[derive(Clone, Copy)]
struct To<'r> {
    session: &'r Arc<Session>,
    target: &'r Target,
    security: Security,
    masks: &'r HostMasks,
    insertions: &'r Insertions,
}

/// Returns the body as it goes to the server. The body of a signed request stays as it is.
async fn filtered(
    to: To<'_>,
    head: &mut Parts,
    body: Incoming,
    is_signed: bool,
    ended: &Arc<OnceLock<Denial>>,
) -> Result<Body, Unsendable> {
    let To { session, target, security, masks, insertions } = to;
    let substitution: Option<&Substitution> = Some(&masks.body)
        .filter(|body| !body.is_empty() && !is_signed)
        .filter(|_| !head.headers.contains_key(CONTENT_ENCODING));
    let length = body.size_hint().exact();
    if let (None, false, Some(1..=MAX_SEARCHED_BYTES)) = (substitution, masks.is_unused(), length) {
        let whole = Whole::read(session, body).await?;
        masks.check([&whole.bytes[..]])?;
        let part = IntactReason::Part(RequestPart::Body);
        for (name, reason) in kept(masks, security, &whole.bytes, part) {
            insertions.record_kept(target, name, reason);
        }
        return Ok(whole.into_body(None));
    }
    if body.is_end_stream() || substitution.is_none() && masks.foreign.is_none() {
        return Ok(Body::Passed(body));
    }
    if let (Some(substitution), Some(..=MAX_CHANGED_BYTES)) = (substitution, length) {
        let whole = Whole::read(session, body).await?;
        masks.check([&whole.bytes[..]])?;
        insertions.record(target, substitution.names_in(&whole.bytes));
        let changed = substitution.replace(&whole.bytes).map(|text| Bytes::from(text.to_vec()));
        let length = changed.as_ref().unwrap_or(&whole.bytes).len();
        head.headers.insert(CONTENT_LENGTH, length.into());
        return Ok(whole.into_body(changed));
    }
    if substitution.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let watch = masks.foreign.as_ref().map(|foreign| Watch::new(foreign, session, target, ended));
    let insert = substitution.map(|substitution| Insert {
        stream: substitution.stream(),
        insertions: insertions.clone(),
        target: target.clone(),
    });
    Ok(Body::filtered(body, Filter::Request { insert, watch }))
}

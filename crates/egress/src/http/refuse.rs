//! Answers of the gate itself, for people and programs that read them.

use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;
use crate::connect::Blocked;
use crate::denial::{Denial, Failure};
use crate::judge::Target;

pub(crate) type Answer = Response<Body>;

/// Reason phrases of refusals. Several tools print only these.
const BLOCKED: &str = "Blocked by allowedDomains";
const TOO_MANY: &str = "Blocked by maxTunnels";
const MISDIRECTED: &str = "Blocked secret for another host";
const OTHER_PORT: &str = "Blocked secret for another port";
const SIGNATURE: &str = "Blocked AWS signature";
const UNFIT: &str = "Blocked value of a secret";
const UNREADABLE: &str = "Bad request";
const NO_REQUEST: &str = "No request";
/// Header by which a program knows that the answer is the gate's.
const PROXY_ERROR: HeaderName = HeaderName::from_static("x-proxy-error");

/// Returns the answer to a request without a connection.
pub(crate) fn blocked(target: &Target, blocked: &Blocked) -> Answer {
    match blocked {
        Blocked::Denied(denial) => refused(target, denial),
        Blocked::Failed(failure) => failed(target, failure),
    }
}

/// Returns the answer to a refused request.
pub(crate) fn refused(target: &Target, denial: &Denial) -> Answer {
    let Wording { status, error, phrase, text } = refusal(target, denial);
    let mut answer = answer(status, error, text);
    if status == StatusCode::FORBIDDEN {
        answer.extensions_mut().insert(ReasonPhrase::from_static(phrase.as_bytes()));
    }
    answer
}

/// Returns the bytes of the answer to a client that has sent no readable request. The connection
/// ends after it.
pub(crate) fn unread(target: &Target, denial: &Denial) -> String {
    let Wording { status, error, text, .. } = refusal(target, denial);
    written(status, error, &text)
}

/// Returns the same for a client whose destination is unknown.
pub(super) fn unread_by_proxy(denial: &Denial) -> String {
    let (status, error, phrase) = kind(denial);
    let text = match denial {
        Denial::UnreadableRequest { problem, .. } => format!("{phrase}: {problem}\n"),
        denial => format!("{phrase}: {denial}\n"),
    };
    written(status, error, &text)
}

fn written(status: StatusCode, error: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{PROXY_ERROR}: {error}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

struct Wording {
    status: StatusCode,
    error: &'static str,
    phrase: &'static str,
    text: String,
}

/// Returns the status of a refusal, its word for programs, and its reason phrase.
fn kind(denial: &Denial) -> (StatusCode, &'static str, &'static str) {
    match denial {
        Denial::OtherHost { .. } | Denial::HostHeader { .. } => {
            (StatusCode::MISDIRECTED_REQUEST, "blocked-by-allowlist", BLOCKED)
        }
        Denial::TooManyTunnels { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "too-many-tunnels", TOO_MANY)
        }
        Denial::Misdirected { .. } => (StatusCode::FORBIDDEN, "blocked-secret", MISDIRECTED),
        Denial::OtherPort { .. } => (StatusCode::FORBIDDEN, "blocked-secret", OTHER_PORT),
        Denial::Signature { .. } => (StatusCode::FORBIDDEN, "blocked-signature", SIGNATURE),
        Denial::UnreadableRequest { .. } => (StatusCode::BAD_REQUEST, "bad-request", UNREADABLE),
        Denial::UnfinishedHead { is_closed: true } => {
            (StatusCode::BAD_REQUEST, "bad-request", UNREADABLE)
        }
        Denial::LargeHead { .. } => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", UNREADABLE)
        }
        Denial::NoRequest | Denial::UnfinishedMessage | Denial::UnfinishedHead { .. } => {
            (StatusCode::REQUEST_TIMEOUT, "no-request", NO_REQUEST)
        }
        Denial::UnfitValue { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unfit-secret", UNFIT),
        _ => (StatusCode::FORBIDDEN, "blocked-by-allowlist", BLOCKED),
    }
}

fn refusal(target: &Target, denial: &Denial) -> Wording {
    let (status, error, phrase) = kind(denial);
    let host = target.host.with_port(target.port);
    let mut text = format!("{phrase}: {host}\nRule: {denial}\n");
    if let Some(remedy) = denial.remedy() {
        text.push_str(&format!("Remedy: {remedy}\n"));
    }
    Wording { status, error, phrase, text }
}

fn failed(target: &Target, failure: &Failure) -> Answer {
    let status = match failure {
        Failure::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let text = format!("Cannot reach {}: {failure}\n", target.host.with_port(target.port));
    answer(status, "upstream-failed", text)
}

/// Returns the answer to a request that the gate cannot read.
pub(crate) fn bad_request(problem: &str) -> Answer {
    answer(StatusCode::BAD_REQUEST, "bad-request", format!("Bad request: {problem}\n"))
}

/// Returns the answer to a request whose answer cannot be passed on.
pub(crate) fn bad_gateway(problem: &str) -> Answer {
    answer(StatusCode::BAD_GATEWAY, "unfit-answer", format!("{problem}\n"))
}

/// Returns the answer to a method that is never forwarded.
pub(crate) fn not_allowed(problem: &str) -> Answer {
    answer(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("{problem}\n"))
}

/// Returns the answer to a body that is too long to be read whole.
pub(crate) fn too_large(problem: &str) -> Answer {
    answer(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", format!("{problem}\n"))
}

/// Returns the answer to a request for which there is no room now.
pub(crate) fn unavailable(problem: &str) -> Answer {
    answer(StatusCode::SERVICE_UNAVAILABLE, "too-many-bodies", format!("{problem}\n"))
}

/// Returns the answer to a request whose client stops in the middle of the body.
pub(crate) fn request_timeout(problem: &str) -> Answer {
    answer(StatusCode::REQUEST_TIMEOUT, "body-timeout", format!("{problem}\n"))
}

fn answer(status: StatusCode, error: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Body::whole(text));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer.headers_mut().insert(PROXY_ERROR, HeaderValue::from_static(error));
    answer
}

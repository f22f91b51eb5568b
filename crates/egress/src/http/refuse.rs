//! Answers of the gate itself, for people and programs that read them.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::connect::Blocked;
use crate::denial::{Denial, Failure};
use crate::judge::Target;

pub(crate) type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// Reason phrase of a refusal. Several tools print only this.
const BLOCKED: &[u8] = b"Blocked by allowedDomains";
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
    let mut text = format!(
        "Blocked by allowedDomains: {}\nRule: {denial}\n",
        target.host.with_port(target.port)
    );
    if let Some(remedy) = denial.remedy() {
        text.push_str(&format!("Remedy: {remedy}\n"));
    }
    let status = match denial {
        Denial::OtherHost { .. } => StatusCode::MISDIRECTED_REQUEST,
        _ => StatusCode::FORBIDDEN,
    };
    let mut answer = answer(status, "blocked-by-allowlist", text);
    if status == StatusCode::FORBIDDEN {
        answer.extensions_mut().insert(ReasonPhrase::from_static(BLOCKED));
    }
    answer
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

fn answer(status: StatusCode, error: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer.headers_mut().insert(PROXY_ERROR, HeaderValue::from_static(error));
    answer
}

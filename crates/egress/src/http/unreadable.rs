//! The refusal of what is no request.

use std::error::Error as _;

use hyper::body::Incoming;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Request, Version};
use tokio::io::AsyncWrite;

use super::Scope;
use super::exchange::Exchange;
use super::http1::{MAX_HEADERS, Unread};
use super::refuse::{self, Answer};
use crate::connect::Blocked;
use crate::denial::Denial;
use crate::event::Outcome;
use crate::judge::{Content, Target};

impl Exchange {
    /// Records that the client has sent what is no request, and answers it.
    pub(super) async fn refuse_unread<S: AsyncWrite + Unpin>(&self, unread: Unread<S>) {
        let (target, content) = match &self.scope {
            Scope::Proxy => {
                let Some(problem) = problem(&unread, None) else { return };
                return unread.answer(&refuse::unread_by_proxy(&problem)).await;
            }
            Scope::Fixed(target, _) => (target, Content::Http),
            Scope::Terminated(target, _) => (target, Content::Terminated),
        };
        let Some(problem) = problem(&unread, Some((target, content))) else { return };
        // No request would reach a host that is denied by now.
        let denial = self.session.judge_target(target, content).err().unwrap_or(problem);
        match &*self.kept.lock().await {
            // The connection to the server is the refused one.
            Some(forward) if unread.is_first => forward.flow.refuse(denial.clone()),
            _ => self.session.record(target, Outcome::Denied(denial.clone())),
        }
        unread.answer(&refuse::unread(target, &denial)).await;
    }

    /// Refuses a head of HTTP/2 beyond the limit.
    pub(super) fn refuse_large(&self, request: &Request<Incoming>) -> Option<Answer> {
        let max = self.session.shared.limits.max_head_bytes;
        if request.version() != Version::HTTP_2 || list_bytes(request) <= max {
            return None;
        }
        match &self.scope {
            Scope::Proxy => None,
            Scope::Fixed(target, _) | Scope::Terminated(target, _) => {
                Some(self.refuse(target, Denial::LargeHead { max, unit: "bytes" }))
            }
        }
    }
}

/// Returns the bytes of a head, as HTTP/2 counts them (RFC 9113, section 6.5.2).
fn list_bytes(request: &Request<Incoming>) -> usize {
    const OVERHEAD: usize = 32;
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", Authority::as_str);
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", authority),
        (":path", path),
    ];
    let pseudo = pseudo.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD);
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD);
    pseudo.chain(headers).sum()
}

/// Answers a client of a blocked host that has sent what is no request. The reason is recorded.
pub(super) async fn explain<S: AsyncWrite + Unpin>(
    unread: Unread<S>,
    target: &Target,
    blocked: &Blocked,
) {
    let Some(problem) = problem(&unread, Some((target, Content::Terminated))) else { return };
    let denial = match blocked {
        Blocked::Denied(denial) => denial,
        Blocked::Failed(_) => &problem,
    };
    let answer = refuse::unread(target, denial);
    unread.answer(&answer).await;
}

/// Returns the refusal of what is no request, or `None` if the client has only left.
fn problem<S>(unread: &Unread<S>, to: Option<(&Target, Content)>) -> Option<Denial> {
    let Unread { error, is_first, .. } = unread;
    if error.is_timeout() && *is_first {
        return Some(Denial::UnfinishedMessage);
    }
    if error.is_parse_too_large() {
        return Some(large_head(unread));
    }
    if error.is_parse() {
        return Some(Denial::UnreadableRequest {
            problem: error.to_string().replace(" parsed", ""),
            port: to.map_or(0, |(target, _)| target.port),
            is_terminated: to.is_some_and(|(_, content)| content == Content::Terminated),
        });
    }
    // Between requests, a client may be silent as long as it wants, and leave.
    let has_begun = unread.is_answerable() && unread.read.iter().any(|byte| !is_line_end(*byte));
    let is_closed = error.is_incomplete_message() || is_broken(error);
    (has_begun && (is_closed || error.is_timeout())).then_some(Denial::UnfinishedHead { is_closed })
}

/// Returns the refusal of a head that exceeds a limit.
fn large_head<S>(unread: &Unread<S>) -> Denial {
    let lines = unread.read.split(|byte| *byte == b'\n');
    let is_blank = |line: &&[u8]| line.iter().all(|byte| is_line_end(*byte));
    let headers = lines.skip_while(is_blank).skip(1).take_while(|line| !is_blank(line)).count();
    if headers > MAX_HEADERS {
        Denial::LargeHead { max: MAX_HEADERS, unit: "headers" }
    } else {
        Denial::LargeHead { max: unread.max_head_bytes, unit: "bytes" }
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Returns whether a read has failed, such as after the reset of a client.
fn is_broken(error: &hyper::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

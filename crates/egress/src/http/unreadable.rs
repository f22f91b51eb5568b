//! The refusal of what is no request.

use tokio::io::AsyncWrite;

use super::exchange::Exchange;
use super::http1::Unread;
use super::{Scope, refuse};
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
    if !error.is_parse() {
        return None;
    }
    Some(Denial::UnreadableRequest {
        problem: error.to_string().replace(" parsed", ""),
        port: to.map_or(0, |(target, _)| target.port),
        is_terminated: to.is_some_and(|(_, content)| content == Content::Terminated),
    })
}

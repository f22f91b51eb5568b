//! The refusal of what is no request.

use super::exchange::Exchange;
use super::{Scope, refuse};
use crate::denial::Denial;
use crate::event::Outcome;
use crate::judge::Content;

impl Exchange {
    /// Records that the client has sent what is no request. Returns the answer, unless an earlier
    /// request was answered.
    pub(crate) async fn refuse_unreadable(&self, error: &hyper::Error) -> Option<String> {
        let is_first = !self.has_begun();
        let is_head = error.is_parse() && (is_first || !error.is_parse_too_large());
        // Between requests, a client may be silent as long as it wants.
        let is_late = error.is_timeout() && is_first;
        if !is_head && !is_late {
            return None;
        }
        let problem = error.to_string().replace(" parsed", "");
        let Scope::Fixed(target, _) = &self.scope else {
            return (is_first && is_head).then(|| refuse::unread_by_proxy(&problem));
        };
        let denial = match self.session.judge_target(target, Content::Http) {
            // No request would reach the host.
            Err(denied) => denied,
            Ok(_) if is_late => Denial::UnfinishedMessage,
            Ok(_) => Denial::UnreadableRequest { problem, port: target.port },
        };
        match &*self.kept.lock().await {
            // The connection that the tunnel has opened is the refused one.
            Some(forward) if is_first => forward.flow.refuse(denial.clone()),
            _ => self.session.record(target, Outcome::Denied(denial.clone())),
        }
        is_first.then(|| refuse::unread(target, &denial))
    }
}

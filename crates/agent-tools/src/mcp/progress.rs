//! Notifications about a call that takes long.

use std::convert::Infallible;
use std::time::Duration;

use rmcp::model::ProgressNotificationParam;
use rmcp::service::{RequestContext, RoleServer};
use tokio::time::{Instant, interval_at};

use crate::output::OutputTail;
use crate::printable::printable;

/// The time between two notifications. Clients give up after 5 s or more without one.
const INTERVAL: Duration = Duration::from_secs(2);

/// Sends the last line of a call's output again and again, if the client gave a token for it. The
/// progress of a notification is the number of seconds since the call began.
pub(super) async fn report(context: &RequestContext<RoleServer>, tail: &OutputTail) -> Infallible {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    let began = Instant::now();
    let mut ticks = interval_at(began + INTERVAL, INTERVAL);
    loop {
        ticks.tick().await;
        let seconds = began.elapsed().as_secs_f64().round();
        let running = || format!("running for {seconds} s");
        let message = tail.last_line().map_or_else(running, |line| printable(&line).into_owned());
        let progress = ProgressNotificationParam::new(token.clone(), seconds);
        // A client that does not read must not delay the end of the call.
        let peer = context.peer.clone();
        let sent = async move { peer.notify_progress(progress.with_message(message)).await };
        tokio::spawn(sent);
    }
}

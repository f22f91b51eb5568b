//! `session show --network`: the connections of a session.

use std::process::ExitCode;
use std::time::Duration;

use agent_tools::{ConnectionOutcome, NetworkEvent, SessionId, printable};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{errln, outln};
use crate::similar;

/// Prints the record of connections, also while another process serves the session.
pub(super) async fn show(context: &Context, id: &SessionId) -> Result<ExitCode, Failure> {
    // Fails if the session is not on this machine.
    let found = context.local_sessions()?.summary(id).await;
    similar::found(&context.home()?, id, found)?;
    let events = context.home()?.network_events(id).map_err(Failure::failed)?;
    context.print(&serde_json::json!({ "id": id.as_str(), "connections": events }), || {
        if events.is_empty() {
            errln!("agent-tools: no connection of the session is recorded");
            return;
        }
        outln!("{}", head());
        events.iter().for_each(|event| outln!("{}", row(event)));
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The head of the table, with the widths of [`row`].
fn head() -> String {
    let (time, target, sent, received, took) = ("TIME", "DESTINATION", "SENT", "RECEIVED", "TOOK");
    format!("{time:<20}  RESULT   {target:<28}  {sent:>10} {received:>10} {took:>9}  RULE")
}

fn row(event: &NetworkEvent) -> String {
    let outcome = match event.outcome {
        ConnectionOutcome::Allowed => "allowed",
        ConnectionOutcome::Denied => "denied",
        ConnectionOutcome::Masked => "masked",
        ConnectionOutcome::Intact => "intact",
        _ => "failed",
    };
    let remedy = event.remedy.as_deref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    let line = format!(
        "{}  {outcome:<7}  {:<28}  {:>10} {:>10} {:>9}  {}{remedy}",
        humantime::format_rfc3339_seconds(event.at),
        event.target(),
        bytes(event.sent),
        bytes(event.received),
        duration(event.took),
        event.rule,
    );
    printable(&line).into_owned()
}

fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| count >= *unit) {
        // Tenths, rounded down.
        Some((unit, name)) => format!("{}.{} {name}", count / unit, count % unit * 10 / unit),
        None => format!("{count} B"),
    }
}

fn duration(took: Duration) -> String {
    match took.as_millis() {
        millis @ 0..10_000 => format!("{millis} ms"),
        _ => format!("{} s", took.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(duration(Duration::from_millis(9999)), "9999 ms");
        assert_eq!(duration(Duration::from_millis(12_345)), "12 s");
    }
}

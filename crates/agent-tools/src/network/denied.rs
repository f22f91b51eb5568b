//! Refused connections of a command, as the denials of its result.

use std::collections::HashSet;

use super::event::{ConnectionOutcome, NetworkEvent};
use crate::denials::Denial;

/// The maximum number of refused destinations that a result names.
const MAX_REFUSALS: usize = 5;

/// The refused destinations of an interval.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) denials: Vec<Denial>,
    /// The number of further destinations.
    pub(crate) omitted: usize,
}

/// Returns the refused destinations among some records, once for each rule. `is_shared` tells that
/// other commands ran at the same time.
pub(crate) fn refusals(events: &[NetworkEvent], is_shared: bool) -> Refusals {
    let mut refusals = Refusals::default();
    let mut seen = HashSet::new();
    let denied = || events.iter().filter(|event| event.outcome == ConnectionOutcome::Denied);
    let connected: HashSet<&str> =
        denied().filter(|event| event.port.is_some()).map(|event| &*event.host).collect();
    for event in denied() {
        // A question about a name says less than the connection that followed.
        let is_followed = event.port.is_none() && connected.contains(&*event.host);
        let target = event.target();
        if is_followed || !seen.insert((target.clone(), event.rule.clone())) {
            continue;
        }
        if refusals.denials.len() == MAX_REFUSALS {
            refusals.omitted += 1;
            continue;
        }
        refusals.denials.push(Denial {
            target,
            access: "connect",
            rule: event.rule.clone(),
            remedy: event.remedy.clone(),
            moved_to: None,
            is_shared,
        });
    }
    refusals
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn each_destination_is_named_once_and_further_ones_are_counted() {
        let event = |host: &str, outcome| NetworkEvent {
            at: SystemTime::UNIX_EPOCH,
            outcome,
            host: host.to_owned(),
            port: Some(443),
            via: "proxy".into(),
            rule: "the rule".into(),
            remedy: Some("the remedy".into()),
            sent: 0,
            received: 0,
            took: Duration::ZERO,
        };
        let denied = |host: &str| event(host, ConnectionOutcome::Denied);
        let found = refusals(
            &[
                denied("a.test"),
                event("b.test", ConnectionOutcome::Allowed),
                denied("a.test"),
                denied("::1"),
            ],
            true,
        );
        let targets: Vec<_> = found.denials.iter().map(|denial| &*denial.target).collect();
        assert_eq!((targets, found.omitted), (vec!["a.test:443", "[::1]:443"], 0));
        assert!(found.denials.iter().all(|denial| denial.is_shared));
        let asked = |host: &str| NetworkEvent { port: None, ..denied(host) };
        let found = refusals(&[asked("a.test"), denied("a.test"), asked("b.test")], false);
        let targets: Vec<_> = found.denials.iter().map(|denial| &*denial.target).collect();
        assert_eq!(targets, ["a.test:443", "b.test"]);
        let mut other = denied("a.test");
        other.rule = "another rule".into();
        assert_eq!(refusals(&[denied("a.test"), other], false).denials.len(), 2);
        let many: Vec<_> = (0..9).map(|n| denied(&format!("{n}.test"))).collect();
        let found = refusals(&many, false);
        assert_eq!((found.denials.len(), found.omitted), (5, 4));
    }
}

//! Refused connections of a command, as the denials of its result.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::event::{ConnectionOutcome, NetworkEvent};
use crate::denials::Denial;

/// The maximum number of refused destinations that a result names.
const MAX_REFUSALS: usize = 5;

/// The number of refusals that are kept, for the choice of those that a result names.
const MAX_KEPT: usize = 1024;
/// The number of refusals, and of their hosts, that are known again. Beyond it, each counts anew.
const MAX_KNOWN: usize = 1 << 16;

/// The refusals of a running command. Their number stays right when the record of connections has
/// lost the first of them.
#[derive(Debug, Default)]
pub(crate) struct RefusalCount {
    /// Hashes of the destinations with their rules.
    known: HashSet<u64>,
    /// Hashes of the hosts.
    hosts: HashSet<u64>,
    hasher: RandomState,
    kept: Vec<NetworkEvent>,
    /// The number of hosts without a refusal that is kept.
    further: usize,
}

impl RefusalCount {
    /// Counts a record, if it is of a refusal.
    pub(crate) fn note(&mut self, event: &NetworkEvent) {
        let hash = self.hasher.hash_one((event.target(), &event.rule));
        if event.outcome != ConnectionOutcome::Denied || self.known.contains(&hash) {
            return;
        }
        if self.known.len() < MAX_KNOWN {
            self.known.insert(hash);
        }
        let host = self.hasher.hash_one(&event.host);
        let is_new = !self.hosts.contains(&host);
        if self.hosts.len() < MAX_KNOWN {
            self.hosts.insert(host);
        }
        if self.kept.len() < MAX_KEPT {
            self.kept.push(event.clone());
        } else if is_new {
            self.further += 1;
        }
    }

    /// Returns the refused destinations so far.
    pub(crate) fn refusals(&self, is_shared: bool) -> Refusals {
        let mut refusals = refusals(&self.kept, is_shared);
        refusals.omitted += self.further;
        refusals
    }
}

/// The refused destinations of an interval.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) denials: Vec<Denial>,
    /// The number of further hosts.
    pub(crate) omitted: usize,
}

/// Returns the refused destinations among some records, once for each rule. `is_shared` tells that
/// other commands ran at the same time.
fn refusals(events: &[NetworkEvent], is_shared: bool) -> Refusals {
    let mut refusals = Refusals::default();
    let (mut seen, mut hosts) = (HashSet::new(), HashSet::new());
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
            refusals.omitted += usize::from(hosts.insert(&*event.host));
            continue;
        }
        hosts.insert(&*event.host);
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
        // Other ports and rules of a host are no further hosts.
        let port = |host: &str, port| NetworkEvent { port: Some(port), ..denied(host) };
        let mut repeated: Vec<_> = (1..9).map(|number| port("a.test", number)).collect();
        repeated.extend((1..9).map(|number| port("b.test", number)));
        assert_eq!(refusals(&repeated, false).omitted, 1);
        let mut counted = RefusalCount::default();
        for number in 0..3_000 {
            counted.note(&port("a.test", number));
            counted.note(&port("b.test", number));
            counted.note(&port(&format!("{}.test", number % 10), number));
        }
        assert_eq!(counted.refusals(false).omitted, 9);
        // Neither many refusals nor many other connections change the count.
        let mut refusals = RefusalCount::default();
        for number in 0..3_000 {
            let refused = denied(&format!("{number}.test"));
            refusals.note(&refused);
            refusals.note(&event("allowed.test", ConnectionOutcome::Allowed));
            refusals.note(&refused);
        }
        let found = refusals.refusals(false);
        assert_eq!(found.denials[0].target, "0.test:443");
        assert_eq!((found.denials.len(), found.omitted), (5, 2_995));
    }
}

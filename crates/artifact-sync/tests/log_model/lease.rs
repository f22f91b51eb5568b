//! Model of the heartbeat: a call that changes nothing must not be more than 30 s stale.
//!
//! Machine A owns the session. Machine B watches the heartbeat and takes over. Time passes in ticks
//! of 5 s, and ages stop where they no longer matter. Only a recent read of the log proves that A
//! still owns the session: after a takeover, the beats of its home may succeed again.

use std::collections::{HashMap, VecDeque};

/// Age in ticks of 5 s.
type Age = u8;

const BEAT_INTERVAL: Age = 2;
/// Time after which the sender gives up on a beat.
const BEAT_TIMEOUT: Age = 6;
const LEASE: Age = 4;
const STALE: Age = 6;
/// Equal reads that allow a takeover.
const EQUAL_READS: u8 = 4;

/// Rules of one exploration.
#[derive(Clone, Copy, Debug)]
struct Rules {
    takeover: Takeover,
    trust: Trust,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takeover {
    /// B takes over after equal reads of the heartbeat.
    Wait,
    /// B may take over while the heartbeat is alive.
    Steal,
}

/// Knowledge that lets A answer a call without reading the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// The last beat was acknowledged within the lease.
    Beat,
    /// In addition, the log was read since the last time without such a beat.
    BeatWithoutLapse,
    /// The log was read within the lease.
    Log,
}

/// State of the heartbeat, and of the knowledge of both machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lease {
    /// Age of the beat on its way, and whether it arrived.
    beat: Option<(Age, bool)>,
    sent: Age,
    acknowledged: Age,
    /// Age of A's last read of the log.
    log_read: Age,
    /// No beat was acknowledged for a lease since the log was read.
    lapsed: bool,
    /// The stored beat changed since B's last read.
    changed: bool,
    watched: Age,
    equal: u8,
    /// Age of B's `own` entry.
    taken: Option<Age>,
    fenced: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Tick,
    Send,
    Arrive,
    Acknowledge,
    GiveUp,
    Watch,
    TakeOver,
    Call,
}

const EVENTS: [Event; 8] = [
    Event::Tick,
    Event::Send,
    Event::Arrive,
    Event::Acknowledge,
    Event::GiveUp,
    Event::Watch,
    Event::TakeOver,
    Event::Call,
];

/// Returns the state after an event, or `None` if the event cannot happen.
fn step(rules: Rules, mut lease: Lease, event: Event) -> Option<Lease> {
    match event {
        Event::Tick => {
            let late = |(age, _)| age >= BEAT_TIMEOUT;
            if lease.beat.is_some_and(late) {
                return None;
            }
            let older = |age: Age, last: Age| (age + 1).min(last);
            lease.beat = lease.beat.map(|(age, arrived)| (older(age, BEAT_TIMEOUT), arrived));
            lease.sent = older(lease.sent, BEAT_INTERVAL);
            lease.acknowledged = older(lease.acknowledged, LEASE + 1);
            lease.lapsed |= lease.acknowledged > LEASE;
            lease.log_read = older(lease.log_read, LEASE + 1);
            lease.watched = older(lease.watched, BEAT_INTERVAL);
            lease.taken = lease.taken.map(|age| older(age, STALE + 1));
        }
        Event::Send if lease.beat.is_none() && lease.sent >= BEAT_INTERVAL => {
            (lease.beat, lease.sent) = (Some((0, false)), 0);
        }
        Event::Arrive => {
            let (age, false) = lease.beat? else { return None };
            (lease.beat, lease.changed) = (Some((age, true)), true);
        }
        Event::Acknowledge => {
            let (_, true) = lease.beat? else { return None };
            (lease.beat, lease.acknowledged) = (None, 0);
        }
        Event::GiveUp => {
            lease.beat?;
            lease.beat = None;
        }
        Event::Watch if lease.watched >= BEAT_INTERVAL && lease.taken.is_none() => {
            lease.equal = if lease.changed { 1 } else { lease.equal + 1 };
            (lease.changed, lease.watched) = (false, 0);
        }
        Event::TakeOver if lease.taken.is_none() => {
            if rules.takeover == Takeover::Wait && lease.equal < EQUAL_READS {
                return None;
            }
            lease.taken = Some(0);
        }
        Event::Call if !lease.fenced && !answers_from_memory(rules, lease) => {
            (lease.log_read, lease.lapsed) = (0, false);
            lease.fenced = lease.taken.is_some();
        }
        Event::Send | Event::Watch | Event::TakeOver | Event::Call => return None,
    }
    lease.equal = lease.equal.min(EQUAL_READS);
    Some(lease)
}

/// Returns whether A answers a call that changes nothing without a request.
fn answers_from_memory(rules: Rules, lease: Lease) -> bool {
    let alive = lease.acknowledged <= LEASE;
    let knows = match rules.trust {
        Trust::Beat => alive,
        Trust::BeatWithoutLapse => alive && !lease.lapsed,
        Trust::Log => lease.log_read <= LEASE,
    };
    knows && !lease.fenced
}

/// Returns the events that lead to a call with a stale answer.
fn find_stale_call(rules: Rules) -> Option<Vec<Event>> {
    let start = Lease {
        beat: None,
        sent: 0,
        acknowledged: 0,
        log_read: 0,
        lapsed: false,
        changed: true,
        watched: BEAT_INTERVAL,
        equal: 0,
        taken: None,
        fenced: false,
    };
    let mut before = HashMap::from([(start, None)]);
    let mut queue = VecDeque::from([start]);
    while let Some(lease) = queue.pop_front() {
        if lease.taken.is_some_and(|age| age > STALE) && answers_from_memory(rules, lease) {
            let mut events = vec![Event::Call];
            let mut state = lease;
            while let Some((earlier, event)) = before[&state] {
                events.push(event);
                state = earlier;
            }
            events.reverse();
            return Some(events);
        }
        for event in EVENTS {
            if let Some(next) = step(rules, lease, event)
                && !before.contains_key(&next)
            {
                before.insert(next, Some((lease, event)));
                queue.push_back(next);
            }
        }
    }
    println!("{} states, complete", before.len());
    None
}

#[track_caller]
fn check_holds(rules: Rules) {
    let trace = find_stale_call(rules);
    assert!(trace.is_none(), "a call is stale: {trace:?}");
}

#[track_caller]
fn check_breaks(rules: Rules) {
    let trace = find_stale_call(rules).expect("a call is stale");
    println!("{} steps: {trace:?}", trace.len());
}

#[test]
fn a_beat_that_succeeds_again_does_not_prove_ownership() {
    check_breaks(Rules { takeover: Takeover::Wait, trust: Trust::Beat });
}

#[test]
fn a_read_after_each_lapse_does_not_prove_ownership() {
    check_breaks(Rules { takeover: Takeover::Wait, trust: Trust::BeatWithoutLapse });
}

#[test]
fn a_live_heartbeat_does_not_reveal_a_steal() {
    check_breaks(Rules { takeover: Takeover::Steal, trust: Trust::Beat });
    check_breaks(Rules { takeover: Takeover::Steal, trust: Trust::BeatWithoutLapse });
}

#[test]
fn a_read_of_the_log_within_the_lease_reveals_every_takeover() {
    check_holds(Rules { takeover: Takeover::Wait, trust: Trust::Log });
    check_holds(Rules { takeover: Takeover::Steal, trust: Trust::Log });
}

//! Commands whose created paths the host has not checked.
//!
//! Commands overlap, so one of them may have created a forbidden path before another one began. A
//! check therefore covers everything since the oldest outstanding command began, under each plan
//! that has been in force since then. If the policy is compiled while a command runs, the new plan
//! could take a path that this command has created for one of the user.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use policy::{DeniedPath, MountPlan};

use crate::internal::lock;

/// Lag of file times behind the clock: one tick of the kernel, 10 ms at most, doubled.
pub(super) const LAG: Duration = Duration::from_millis(20);

/// The outstanding commands of a session.
#[derive(Debug, Default)]
pub(super) struct Outstanding(Mutex<Commands>);

#[derive(Debug, Default)]
struct Commands {
    last_number: u64,
    running: Vec<(u64, Command)>,
    /// Commands whose exit was not reported: they were cancelled, or their client was killed. They
    /// may have created paths at any time since.
    unreported: Vec<Command>,
}

#[derive(Clone, Debug)]
struct Command {
    began: SystemTime,
    /// The plan in force when the command began.
    plan: Arc<MountPlan>,
}

/// The files that a check covers.
#[derive(Debug)]
pub(super) struct Scope {
    /// The time since which files are unchecked.
    pub(super) since: SystemTime,
    /// The plans in force since then, the oldest first.
    pub(super) plans: Vec<Arc<MountPlan>>,
}

impl Scope {
    /// Returns the paths that any of the plans denies, in order.
    pub(super) fn denied_paths(&self) -> Cow<'_, [DeniedPath]> {
        let lists = self.plans.iter().map(|plan| &plan.creation_rules.denied_paths);
        if let [plan] = &self.plans[..] {
            return Cow::Borrowed(&plan.creation_rules.denied_paths);
        }
        let all: BTreeSet<&DeniedPath> = lists.flatten().collect();
        all.into_iter().cloned().collect()
    }
}

impl Outstanding {
    /// Records a command that is about to begin.
    pub(super) fn begin(self: &Arc<Self>, plan: Arc<MountPlan>) -> Began {
        let began = SystemTime::now();
        let mut commands = lock(&self.0);
        commands.last_number += 1;
        let number = commands.last_number;
        commands.running.push((number, Command { began, plan }));
        Began { outstanding: Arc::clone(self), number }
    }

    /// Returns whether no command is outstanding.
    pub(super) fn is_empty(&self) -> bool {
        let commands = lock(&self.0);
        commands.running.is_empty() && commands.unreported.is_empty()
    }

    /// Returns the scope of a check, or `None` if no command is outstanding.
    pub(super) fn scope(&self, current: &Arc<MountPlan>) -> Option<Scope> {
        let mut commands: Vec<Command> = {
            let commands = lock(&self.0);
            let running = commands.running.iter().map(|(_, command)| command);
            running.chain(&commands.unreported).cloned().collect()
        };
        commands.sort_by_key(|command| command.began);
        let began = commands.first()?.began;
        let mut plans: Vec<Arc<MountPlan>> = Vec::new();
        for plan in commands.iter().map(|command| &command.plan).chain([current]) {
            if !plans.iter().any(|known| Arc::ptr_eq(known, plan)) {
                plans.push(Arc::clone(plan));
            }
        }
        Some(Scope { since: began.checked_sub(LAG).unwrap_or(SystemTime::UNIX_EPOCH), plans })
    }
}

/// A command that has begun. If it is dropped before its end, as by a cancelled future, its created
/// paths are left to later checks.
#[derive(Debug)]
pub(super) struct Began {
    outstanding: Arc<Outstanding>,
    number: u64,
}

impl Began {
    /// Ends the command. No process of it is alive, and its created paths have been checked.
    pub(super) fn end(&self) {
        lock(&self.outstanding.0).running.retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Began {
    fn drop(&mut self) {
        let mut commands = lock(&self.outstanding.0);
        let Some(at) = commands.running.iter().position(|(number, _)| *number == self.number)
        else {
            return;
        };
        let (_, command) = commands.running.remove(at);
        let same_plan = |known: &&mut Command| Arc::ptr_eq(&known.plan, &command.plan);
        match commands.unreported.iter_mut().find(same_plan) {
            Some(known) => known.began = known.began.min(command.began),
            None => commands.unreported.push(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_reaches_back_to_the_oldest_outstanding_command_and_its_plan() {
        let outstanding = Arc::new(Outstanding::default());
        let [old, new] = [(); 2].map(|()| Arc::new(MountPlan::default()));
        assert!(outstanding.scope(&new).is_none());
        let before = SystemTime::now();
        let first = outstanding.begin(Arc::clone(&old));
        let after = SystemTime::now();
        let second = outstanding.begin(Arc::clone(&new));
        let is_first = |scope: Option<Scope>| {
            scope.is_some_and(|scope| {
                (before..=after).contains(&(scope.since + LAG))
                    && scope.plans.len() == 2
                    && Arc::ptr_eq(&scope.plans[0], &old)
            })
        };
        assert!(is_first(outstanding.scope(&new)));
        second.end();
        // A dropped command stays, also if a later one was dropped before.
        let later = outstanding.begin(Arc::clone(&old));
        drop(later);
        drop(first);
        assert!(is_first(outstanding.scope(&new)));
        assert_eq!(lock(&outstanding.0).unreported.len(), 1);
        assert!(!outstanding.is_empty());
    }
}

//! Everything that may happen next in a state.

use crate::rules::{append, apply, changes, close, projection, retention};
use crate::settings::{Machines, Mutation, Setting};
use crate::state::{Content, Line, MACHINES, PATHS, Request, Stage, State};
use crate::store;

/// Outcome of a request for its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Answered,
    /// The request arrives, but its answer does not.
    AnswerLost,
    /// The sender gives up, and the request arrives later or never.
    Delayed,
}

/// One step; indexes are those of machines, paths and requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Open(usize),
    Deliver(usize, usize, Fate),
    Resend(usize),
    Apply(usize),
    List(usize),
    Refresh(usize),
    Write(usize, usize),
    Remove(usize, usize),
    Flush(usize),
    Collect(usize),
    Close(usize),
    DeleteWorkingCopy(usize),
    /// The process is killed; one of its requests may still be on its way.
    Crash(usize, Option<usize>),
    LateArrival(usize),
    ExternalPut(usize),
    ExternalDelete(usize),
    Day,
}

/// Returns all steps that may follow a state.
pub(crate) fn enabled(setting: &Setting, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    for m in 0..MACHINES {
        machine_actions(setting, state, m, &mut actions);
    }
    actions.extend((0..state.late.len()).map(Action::LateArrival));
    for path in 0..setting.paths as usize {
        if state.budget.external_puts > 0 && !store::blocked(setting, state, path) {
            actions.push(Action::ExternalPut(path));
        }
        if state.budget.external_deletes > 0 && state.objects[path].is_some() {
            actions.push(Action::ExternalDelete(path));
        }
    }
    if state.budget.days > 0 {
        actions.push(Action::Day);
    }
    actions
}

fn machine_actions(setting: &Setting, state: &State, m: usize, actions: &mut Vec<Action>) {
    let (machine, budget) = (&state.machines[m], &state.budget);
    for (index, request) in machine.out.iter().enumerate() {
        actions.push(Action::Deliver(m, index, Fate::Answered));
        let projects = matches!(request, Request::Put(..) | Request::Delete(..));
        if budget.faults > 0 && !(projects && setting.dies_with_process()) {
            actions.push(Action::Deliver(m, index, Fate::Delayed));
            if projects || matches!(request, Request::Append(..)) {
                actions.push(Action::Deliver(m, index, Fate::AnswerLost));
            }
        }
    }
    if budget.crashes > 0 && machine.stage != Stage::Off && machine.stage != Stage::Fenced {
        actions.push(Action::Crash(m, None));
        actions.extend((0..machine.out.len()).map(|index| Action::Crash(m, Some(index))));
    }
    let appends = machine.out.iter().any(|request| matches!(request, Request::Append(..)));
    if machine.pending.is_some() && !appends {
        actions.push(Action::Resend(m));
    }
    match machine.stage {
        Stage::Off | Stage::Fenced if may_open(setting, state) => actions.push(Action::Open(m)),
        Stage::Applying(..) => actions.push(Action::Apply(m)),
        Stage::Closing(_) => actions.push(Action::DeleteWorkingCopy(m)),
        Stage::Ready => ready_actions(setting, state, m, actions),
        Stage::Off | Stage::Fenced | Stage::Owning => {}
    }
}

/// Returns whether a process may start. On a file system, it waits for the one before it.
fn may_open(setting: &Setting, state: &State) -> bool {
    let ended = |stage| matches!(stage, Stage::Off | Stage::Fenced);
    state.budget.opens > 0
        && (!setting.dies_with_process()
            || state.machines.iter().all(|machine| ended(machine.stage) && machine.out.is_empty()))
}

fn ready_actions(setting: &Setting, state: &State, m: usize, actions: &mut Vec<Action>) {
    let (machine, budget) = (&state.machines[m], &state.budget);
    let may = |machines: Machines| machines.contains(m);
    if budget.closes > 0 && close::can_close(setting, state, m) {
        actions.push(Action::Close(m));
    }
    for path in (0..setting.paths as usize).filter(|_| machine.runs_calls(setting)) {
        if budget.writes > 0 && may(setting.writers) {
            actions.push(Action::Write(m, path));
        }
        if budget.removals > 0 && may(setting.removers) && machine.disk[path] != 0 {
            actions.push(Action::Remove(m, path));
        }
    }
    if !machine.out.is_empty() || machine.pending.is_some() {
        return;
    }
    if !machine.listed {
        actions.push(Action::List(m));
        return;
    }
    if changes::can_flush(state, m) {
        actions.push(Action::Flush(m));
    } else if budget.collections > 0 && may(setting.collectors) {
        actions.push(Action::Collect(m));
    }
    if budget.refreshes > 0 {
        actions.push(Action::Refresh(m));
    }
}

/// Returns the state after a step.
pub(crate) fn step(setting: &Setting, before: &State, action: Action) -> State {
    let mut next = before.clone();
    let state = &mut next;
    match action {
        Action::Open(m) => {
            state.budget.opens -= 1;
            append::open(setting, state, m);
        }
        Action::Deliver(m, index, fate) => deliver(setting, state, m, index, fate),
        Action::Resend(m) => append::resend(state, m),
        Action::Apply(m) => apply::step(setting, state, m),
        Action::List(m) => projection::list(setting, state, m),
        Action::Refresh(m) => {
            state.budget.refreshes -= 1;
            state.machines[m].listed = false;
        }
        Action::Write(m, path) => changes::write(setting, state, m, path),
        Action::Remove(m, path) => changes::remove(setting, state, m, path),
        Action::Flush(m) => changes::flush(setting, state, m),
        Action::Collect(m) => retention::collect(setting, state, m),
        Action::Close(m) => close::close(setting, state, m),
        Action::DeleteWorkingCopy(m) => close::step(state, m),
        Action::Crash(m, late) => crash(setting, state, m, late),
        Action::LateArrival(index) => {
            let request = state.late.remove(index);
            store::arrive(setting, state, &request);
        }
        Action::ExternalPut(path) => store::put_externally(setting, state, path),
        Action::ExternalDelete(path) => {
            state.budget.external_deletes -= 1;
            store::delete_externally(state, path);
        }
        Action::Day => pass_a_day(state),
    }
    if next.budget.crashes == 0 {
        finish_local_steps(setting, &mut next);
    }
    next
}

/// Finishes steps on the local disk, which nothing but a crash can interrupt.
fn finish_local_steps(setting: &Setting, state: &mut State) {
    for m in 0..MACHINES {
        loop {
            match state.machines[m].stage {
                Stage::Applying(..) => apply::step(setting, state, m),
                Stage::Closing(_) => close::step(state, m),
                _ => break,
            }
        }
    }
}

fn deliver(setting: &Setting, state: &mut State, m: usize, index: usize, fate: Fate) {
    let request = state.machines[m].out.remove(index);
    if fate == Fate::Answered {
        let accepted = store::arrive(setting, state, &request);
        append::answer(setting, state, m, &request, accepted);
        return;
    }
    state.budget.faults -= 1;
    if matches!(request, Request::Put(..) | Request::Delete(..)) {
        state.machines[m].listed = false;
    }
    match fate {
        Fate::Delayed => state.delay(request),
        Fate::Answered | Fate::AnswerLost => {
            store::arrive(setting, state, &request);
        }
    }
}

fn crash(setting: &Setting, state: &mut State, m: usize, late: Option<usize>) {
    state.budget.crashes -= 1;
    if let Some(index) = late {
        let request = state.machines[m].out[index].clone();
        let projects = matches!(request, Request::Put(..) | Request::Delete(..));
        if !(projects && setting.dies_with_process()) {
            state.delay(request);
        }
    }
    if let Stage::Applying(_, end) = state.machines[m].stage
        && setting.breaks(Mutation::AdvancePositionFirst)
    {
        apply::advance(setting, state, m, end);
    }
    let machine = &mut state.machines[m];
    let unanswered = machine.pending.take();
    machine.out.clear();
    machine.stop(Stage::Off);
    if setting.breaks(Mutation::ResendByNewProcess) {
        machine.pending = unanswered.filter(|(_, entry)| !entry.lines.contains(&Line::Own));
    }
}

/// Ends all requests to a file system, which do not outlive a process.
fn end_projection_requests(state: &mut State) {
    for machine in &mut state.machines {
        let sent = machine.out.len();
        machine.out.retain(|request| !matches!(request, Request::Put(..) | Request::Delete(..)));
        machine.listed &= machine.out.len() == sent;
    }
}

/// Lets the retention time pass. A request to the projection does not live that long.
fn pass_a_day(state: &mut State) {
    state.budget.days -= 1;
    state.day += 1;
    state.old_entries = state.end();
    state.late.clear();
    for machine in &mut state.machines {
        machine.stale = true;
    }
    end_projection_requests(state);
}

/// Returns a sentence for a step, for traces.
pub(crate) fn describe(state: &State, action: Action) -> String {
    let name = |m: usize| if m == 0 { "A" } else { "B" };
    match action {
        Action::Deliver(m, index, fate) => {
            format!("{}: {} ({fate:?})", name(m), request(&state.machines[m].out[index]))
        }
        Action::Crash(m, Some(index)) => {
            let request = request(&state.machines[m].out[index]);
            format!("{}: crash, on its way: {request}", name(m))
        }
        Action::Crash(m, None) => format!("{}: crash", name(m)),
        Action::Open(m) => format!("{}: open", name(m)),
        Action::Resend(m) => format!("{}: resend", name(m)),
        Action::Apply(m) => format!("{}: apply", name(m)),
        Action::List(m) => format!("{}: list", name(m)),
        Action::Refresh(m) => format!("{}: refresh", name(m)),
        Action::Write(m, path) => format!("{}: write path {path}", name(m)),
        Action::Remove(m, path) => format!("{}: remove path {path}", name(m)),
        Action::Flush(m) => format!("{}: flush", name(m)),
        Action::Collect(m) => format!("{}: collect garbage", name(m)),
        Action::Close(m) => format!("{}: close", name(m)),
        Action::DeleteWorkingCopy(m) => format!("{}: delete the working copy", name(m)),
        Action::LateArrival(index) => format!("late: {}", request(&state.late[index])),
        Action::ExternalPut(path) => format!("external PUT of path {path}"),
        Action::ExternalDelete(path) => format!("external DELETE of path {path}"),
        Action::Day => "a day passes".to_owned(),
    }
}

fn request(request: &Request) -> String {
    match request {
        Request::Append(number, entry) => {
            let lines: Vec<String> = entry.lines.iter().map(line).collect();
            format!("append {number} [{}]", lines.join(", "))
        }
        Request::PutBlob(path, blob) => format!("PUT blob of path {path}: {}", blob.content),
        Request::Put(path, file, expected) => {
            format!("PUT path {path}: {} if {expected:?}", file.content)
        }
        Request::Delete(path, expected) => format!("DELETE path {path} if {expected}"),
        Request::DeleteBlob(name) => format!("DELETE {name:?}"),
        Request::DeleteEntries(below) => format!("DELETE entries below {below}"),
    }
}

fn line(line: &Line) -> String {
    match line {
        Line::Own => "own".to_owned(),
        Line::Release => "release".to_owned(),
        Line::File(path, file) => format!("file {path}: {}", file.content),
        Line::Removed(path) => format!("removed {path}"),
        Line::Adopted(path, _) => format!("adopted {path}"),
        Line::Drops(contents) => format!("drops {contents:#b}"),
        Line::Beside(contents) => format!("copies {contents:#b}"),
        Line::Snapshot(snapshot) => {
            let contents: [Content; PATHS] =
                snapshot.files.map(|file| file.map_or(0, |file| file.content));
            format!("snapshot {contents:?}")
        }
    }
}

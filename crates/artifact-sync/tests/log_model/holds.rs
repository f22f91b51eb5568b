//! Settings in which all rules together keep every promise.

use crate::search::{self, Outcome};
use crate::settings::{BASIC, Setting};
use crate::state::Budget;

/// Number of states of one search, unless `LOG_MODEL_STATES` is set.
const STATES: usize = 30_000;

/// Fails with a trace if a setting violates a guarantee.
#[track_caller]
fn check(setting: Setting) {
    let states = std::env::var("LOG_MODEL_STATES").ok().and_then(|states| states.parse().ok());
    match search::explore(&setting, states.unwrap_or(STATES)) {
        Outcome::Holds { states, complete } => {
            println!("{states} states, {}", if complete { "complete" } else { "bounded" });
        }
        Outcome::Violated { states, violation, trace } => {
            let trace = trace.join("\n  ");
            panic!("{violation} ({states} states)\n  {trace}\n{setting:?}");
        }
    }
}

#[test]
fn takeovers_keep_all_promises() {
    check(BASIC);
}

#[test]
fn late_requests_and_lost_answers_keep_all_promises() {
    check(Setting { budget: Budget { opens: 2, faults: 1, ..BASIC.budget }, ..BASIC });
    check(Setting { budget: Budget { faults: 2, ..BASIC.budget }, ..BASIC });
}

#[test]
fn crashes_keep_all_promises() {
    check(Setting { budget: Budget { opens: 4, crashes: 2, faults: 1, ..BASIC.budget }, ..BASIC });
}

#[test]
fn blobs_keep_all_promises() {
    let budget = Budget { faults: 1, crashes: 1, ..BASIC.budget };
    check(Setting { budget, inline: false, ..BASIC });
}

#[test]
fn two_paths_keep_all_promises() {
    check(Setting { paths: 2, ..BASIC });
    check(Setting { budget: Budget { opens: 2, faults: 1, ..BASIC.budget }, paths: 2, ..BASIC });
}

#[test]
fn external_writers_keep_all_promises() {
    let budget = Budget { external_puts: 2, external_deletes: 1, refreshes: 1, ..BASIC.budget };
    check(Setting { budget: Budget { opens: 2, ..budget }, ..BASIC });
    check(Setting { budget: Budget { writes: 1, faults: 1, crashes: 1, ..budget }, ..BASIC });
}

#[test]
fn closes_keep_all_promises() {
    let budget = Budget { closes: 2, crashes: 1, external_puts: 1, ..BASIC.budget };
    check(Setting { budget: Budget { opens: 4, ..budget }, inline: false, ..BASIC });
    check(Setting { budget: Budget { faults: 1, ..budget }, ..BASIC });
}

#[test]
fn garbage_collection_keeps_all_promises() {
    let budget = Budget { days: 1, collections: 2, ..BASIC.budget };
    check(Setting { budget: Budget { opens: 2, faults: 1, ..budget }, ..BASIC });
    let budget = Budget { writes: 1, crashes: 1, ..budget };
    check(Setting { budget, inline: false, ..BASIC });
    check(Setting { budget, inline: false, multipart: true, projection: false, ..BASIC });
}

#[test]
fn files_that_become_directories_keep_all_promises() {
    let nested = Setting { paths: 2, nested: true, ..BASIC };
    let budget = Budget { external_puts: 2, faults: 1, ..BASIC.budget };
    check(Setting { budget: Budget { opens: 2, ..budget }, ..nested });
    check(Setting { budget: Budget { crashes: 1, ..budget }, attributes: false, ..nested });
}

#[test]
fn stores_without_conditional_deletes_keep_all_promises() {
    let store = Setting { conditional_delete: false, ..BASIC };
    check(Setting { budget: Budget { faults: 1, refreshes: 1, ..BASIC.budget }, ..store });
    let budget = Budget { external_puts: 1, external_deletes: 1, refreshes: 1, ..BASIC.budget };
    check(Setting { budget, ..store });
}

#[test]
fn stores_without_attributes_keep_all_promises() {
    let store = Setting { attributes: false, conditional_delete: false, ..BASIC };
    let budget = Budget { opens: 4, crashes: 2, external_puts: 1, ..BASIC.budget };
    check(Setting { budget, ..store });
    let budget = Budget { days: 1, collections: 1, closes: 1, ..budget };
    check(Setting { budget, ..store });
}

#[test]
fn equal_versions_of_equal_bytes_keep_all_promises() {
    let budget = Budget { external_puts: 1, faults: 1, refreshes: 1, ..BASIC.budget };
    check(Setting { budget, equal_etags: true, ..BASIC });
}

#[test]
fn sessions_without_a_projection_keep_all_promises() {
    let budget = Budget { opens: 4, faults: 2, crashes: 1, ..BASIC.budget };
    check(Setting { budget, projection: false, ..BASIC });
    let budget = Budget { days: 1, collections: 1, closes: 1, ..budget };
    check(Setting { budget, projection: false, inline: false, ..BASIC });
}

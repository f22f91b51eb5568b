//! Rules that are needed: without any one of them, the search finds a loss.

use crate::search::{self, Outcome};
use crate::settings::{BASIC, Machines, Mutation, Setting};
use crate::state::Budget;

/// Number of states within which a loss must be found.
const STATES: usize = 60_000;

/// A process of each machine, and one write.
const SHORT: Budget = Budget { opens: 2, writes: 1, ..NOTHING };
const NOTHING: Budget = Budget {
    opens: 0,
    writes: 0,
    removals: 0,
    external_puts: 0,
    external_deletes: 0,
    crashes: 0,
    faults: 0,
    days: 0,
    collections: 0,
    closes: 0,
    refreshes: 0,
};

/// The first machine writes, and the second removes files and collects garbage.
const ROLES: Setting = Setting {
    projection: false,
    writers: Machines::Only(0),
    removers: Machines::Only(1),
    collectors: Machines::Only(1),
    ..BASIC
};

/// Fails unless the broken rule leads to a violation whose text contains `expected`.
#[track_caller]
fn check(mutation: Mutation, budget: Budget, setting: Setting, expected: &str) {
    let setting = Setting { budget, mutation: Some(mutation), ..setting };
    match search::explore(&setting, STATES) {
        Outcome::Holds { states, .. } => panic!("no violation in {states} states: {setting:?}"),
        Outcome::Violated { states, violation, trace } => {
            let steps = trace.len();
            let trace = trace.join("\n  ");
            println!("{mutation:?}: {steps} steps, {states} states: {violation}\n  {trace}");
            assert!(violation.contains(expected), "{violation}");
        }
    }
}

#[test]
fn a_blob_name_must_not_be_reused() {
    let budget = Budget { writes: 2, faults: 1, ..SHORT };
    let setting = Setting { inline: false, ..BASIC };
    check(Mutation::ReuseBlobNames, budget, setting, "acknowledged contents [2] are lost");
}

#[test]
fn garbage_collection_must_respect_age() {
    let budget = Budget { collections: 1, ..SHORT };
    check(Mutation::CollectIgnoringAge, budget, BASIC, "acknowledged contents [1] are lost");
}

#[test]
fn garbage_collection_must_append_a_snapshot_first() {
    let budget = Budget { collections: 1, days: 1, ..SHORT };
    let setting = Setting { inline: false, ..BASIC };
    check(Mutation::CollectWithoutSnapshot, budget, setting, "acknowledged contents [1] are lost");
}

#[test]
fn the_position_must_not_advance_before_the_files() {
    let budget = Budget { opens: 3, crashes: 1, ..SHORT };
    let setting = Setting { projection: false, ..BASIC };
    check(Mutation::AdvancePositionFirst, budget, setting, "contents [1] are in history only");
}

#[test]
fn an_entry_under_a_deleted_number_must_not_count_for_readers() {
    let budget = Budget { collections: 1, days: 1, ..SHORT };
    check(Mutation::CountRecreatedNumbers, budget, ROLES, "written contents [1] are nowhere");
}

#[test]
fn an_entry_under_a_deleted_number_must_not_count_for_its_writer() {
    let budget = Budget { collections: 1, days: 1, ..SHORT };
    check(Mutation::TrustLateAnswers, budget, ROLES, "acknowledged contents [1] are lost");
}

#[test]
fn a_projection_put_must_be_conditional() {
    let budget = Budget { external_puts: 1, ..SHORT };
    check(Mutation::PutUnconditionally, budget, BASIC, "written contents [8] are nowhere");
}

#[test]
fn a_projection_delete_must_wait_for_the_acknowledged_removal() {
    let budget = Budget { removals: 1, ..SHORT };
    let expected = "contents [1] are in history only";
    check(Mutation::DeleteBeforeAcknowledgement, budget, BASIC, expected);
}

#[test]
fn a_projection_delete_needs_a_removal_of_this_epoch_if_it_is_unconditional() {
    let budget = Budget { opens: 3, removals: 1, writes: 2, ..SHORT };
    let setting = Setting { conditional_delete: false, ..BASIC };
    check(Mutation::DeleteByOldRemoval, budget, setting, "contents [1] are in history only");
}

#[test]
fn a_new_process_must_not_resend_an_entry() {
    let budget = Budget { opens: 3, crashes: 1, collections: 1, days: 1, ..SHORT };
    check(Mutation::ResendByNewProcess, budget, ROLES, "acknowledged contents [1] are lost");
}

#[test]
fn a_taken_number_must_not_be_taken_for_success() {
    let expected = "acknowledged contents [1] are lost";
    check(Mutation::TakeTakenNumberForOwn, SHORT, BASIC, expected);
}

#[test]
fn a_foreign_entry_must_end_the_ownership() {
    let expected = "an entry was acknowledged after another owner's `own`";
    check(Mutation::ContinueAfterForeignEntry, SHORT, BASIC, expected);
}

#[test]
fn an_unmarked_object_must_not_be_taken_for_our_own() {
    let budget = Budget { external_puts: 1, ..SHORT };
    check(Mutation::TakeUnmarkedForOwn, budget, BASIC, "written contents [8] are nowhere");
}

#[test]
fn an_object_that_was_never_seen_must_not_count_as_removed() {
    let expected = "contents [1] are in history only";
    check(Mutation::TakeMissingForRemoved, SHORT, BASIC, expected);
}

#[test]
fn an_external_version_must_not_replace_a_version_that_its_writer_did_not_see() {
    let budget = Budget { external_puts: 1, ..SHORT };
    check(Mutation::OverwriteUnseen, budget, BASIC, "contents [1] are in history only");
}

#[test]
fn an_object_of_a_newer_entry_must_not_be_repaired() {
    let budget = Budget { writes: 2, external_puts: 1, ..SHORT };
    check(Mutation::RepairNewerObjects, budget, BASIC, "are in history only");
}

#[test]
fn an_external_version_must_not_enter_the_working_copy_before_its_entry() {
    let budget =
        Budget { opens: 3, writes: 0, removals: 1, external_puts: 1, external_deletes: 1, ..SHORT };
    check(Mutation::ApplyBeforeAppend, budget, BASIC, "removed contents [8] returned");
}

#[test]
fn a_snapshot_must_keep_recent_removals() {
    let budget = Budget { writes: 2, removals: 1, collections: 1, ..SHORT };
    let setting = Setting {
        conditional_delete: false,
        removers: Machines::Only(0),
        collectors: Machines::Only(1),
        ..BASIC
    };
    check(Mutation::ForgetRemovals, budget, setting, "are in history only");
}

#[test]
fn a_snapshot_must_keep_the_version_of_the_current_external_object() {
    let budget = Budget { writes: 0, removals: 1, external_puts: 1, collections: 1, ..SHORT };
    check(Mutation::ForgetCurrentAdoption, budget, BASIC, "removed contents [8] returned");
}

#[test]
fn a_working_copy_must_be_compared_with_every_later_line() {
    let budget = Budget { removals: 1, faults: 1, ..SHORT };
    check(Mutation::CompareWithNetState, budget, ROLES, "removed contents [1] returned");
}

#[test]
fn a_working_copy_older_than_the_log_must_not_stay_live() {
    let budget = Budget { removals: 1, faults: 1, collections: 1, days: 1, ..SHORT };
    check(Mutation::KeepOldPositionsLive, budget, ROLES, "removed contents [1] returned");
}

#[test]
fn changes_must_be_computed_against_unanswered_entries_too() {
    let budget = Budget { removals: 1, faults: 1, ..SHORT };
    check(Mutation::IgnoreUnansweredEntries, budget, BASIC, "removed contents [1] returned");
}

#[test]
fn an_upload_must_not_outlive_the_epoch_that_began_it() {
    let budget = Budget { opens: 3, collections: 1, days: 1, ..SHORT };
    let setting = Setting { inline: false, ..ROLES };
    let expected = "acknowledged contents [1] are lost";
    check(Mutation::ReferenceUploadsOfEarlierEpochs, budget, setting, expected);
}

#[test]
fn close_must_not_delete_before_the_append_is_acknowledged() {
    let budget = Budget { closes: 1, ..SHORT };
    let expected = "written contents [1] are nowhere";
    check(Mutation::CloseBeforeAcknowledgement, budget, BASIC, expected);
}

#[test]
fn close_must_be_marked_before_it_deletes() {
    let budget = Budget { closes: 1, crashes: 1, ..SHORT };
    check(Mutation::CloseWithoutMark, budget, BASIC, "contents [1] are in history only");
}

#[test]
fn a_call_must_not_run_during_close() {
    let budget = Budget { closes: 1, ..SHORT };
    check(Mutation::CallDuringClose, budget, BASIC, "written contents [1] are nowhere");
}

#[test]
fn requests_to_a_store_without_attributes_must_end_with_their_process() {
    let budget = Budget { writes: 1, removals: 1, external_puts: 1, ..SHORT };
    let setting = Setting { attributes: false, ..BASIC };
    check(Mutation::OutliveTakeover, budget, setting, "removed contents [1] returned");
}

#[test]
fn an_object_without_a_marker_must_not_be_put_before_its_entry_is_acknowledged() {
    let budget = Budget { removals: 1, crashes: 1, ..SHORT };
    let setting = Setting { attributes: false, ..BASIC };
    check(Mutation::PutUnmarkedEarly, budget, setting, "removed contents [1] returned");
}

#[test]
fn an_unmarked_object_later_than_a_removal_may_still_be_our_own() {
    let budget = Budget { writes: 3, removals: 1, opens: 1, ..SHORT };
    let setting = Setting { attributes: false, writers: Machines::Only(0), ..BASIC };
    check(Mutation::CompareTimesOnly, budget, setting, "removed contents [2] returned");
}

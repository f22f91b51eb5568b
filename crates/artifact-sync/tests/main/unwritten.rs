//! Journals that could not be written during a call, as on a full disk.

use std::fs;
use std::sync::Arc;

use artifact_sync::{Mirror, SyncReport};
use testkit::{Calls, FailingStore};

use crate::machine::{Machine, expected};

/// Number of the changes of [`change`].
const CHANGES: usize = 8;

/// Makes one of several changes to the working copy.
fn change(machine: &Machine, number: usize) {
    match number {
        0 => machine.write("a", "1"),
        1 => machine.write("d/b", "2"),
        2 => machine.remove("a"),
        3 => machine.write("a", "1"),
        4 => machine.rename("d/b", "c"),
        5 => fs::create_dir(machine.dir().join("empty")).unwrap(),
        6 => machine.remove("a"),
        _ => fs::remove_dir(machine.dir().join("empty")).unwrap(),
    }
}

fn journal(machine: &Machine) -> Vec<u8> {
    fs::read(machine.state().join("journal")).unwrap()
}

/// Ends the process of a mirror. Its journal has what it had when the disk became full.
fn end(machine: &Machine, mirror: Mirror, written: &[u8]) {
    drop(mirror);
    fs::write(machine.state().join("journal"), written).unwrap();
}

#[tokio::test]
async fn acknowledged_removals_stay_whatever_part_of_the_calls_the_journal_has() {
    for unwritten_from in 0..CHANGES {
        let machine = Machine::in_memory();
        let mirror = machine.open().await;
        let mut written = Vec::new();
        for number in 0..CHANGES {
            if number == unwritten_from {
                written = journal(&machine);
            }
            change(&machine, number);
            assert!(mirror.sync().await.unwrap().is_complete());
        }
        end(&machine, mirror, &written);
        let other = Machine::new(Arc::clone(&machine.store));
        for machine in [&machine, &other] {
            let mirror =
                machine.open_with(|mirror| mirror.home("h", artifact_sync::Takeover::Steal));
            let mirror = mirror.await;
            assert!(mirror.opened().problems().is_empty(), "{:?}", mirror.opened());
            assert!(mirror.flush().await.unwrap().is_complete());
            assert_eq!(machine.files(), expected(&[("c", "2")]), "from {unwritten_from}");
            assert!(!machine.dir().join("empty").exists(), "from {unwritten_from}");
        }
    }
}

#[tokio::test]
async fn a_removal_that_nothing_records_is_reported_as_pending() {
    for unwritten_from in 0..3 {
        let store = FailingStore::new();
        let machine = Machine::new(store.clone());
        let mirror = machine.open().await;
        let mut written = Vec::new();
        let mut report = SyncReport::default();
        for number in 0..3 {
            if number == unwritten_from {
                written = journal(&machine);
            }
            if number == 2 {
                store.fail(Calls::All, 0, usize::MAX);
            }
            change(&machine, number);
            report = mirror.sync().await.unwrap();
        }
        assert!(report.deleted.is_empty(), "{report:?}");
        assert_eq!(report.pending[0].path.as_str(), "a", "{report:?}");
        end(&machine, mirror, &written);
        store.recover();
        let mirror = machine.open().await;
        assert!(mirror.flush().await.unwrap().is_complete());
        let mut files = expected(&[("a", "1"), ("d/b", "2")]);
        // The journal tells the removal from a file that never arrived only if it knows the file.
        if unwritten_from > 0 {
            files.remove("a");
        }
        assert_eq!(machine.files(), files, "from {unwritten_from}");
        assert_eq!(machine.objects().await, files, "from {unwritten_from}");
    }
}

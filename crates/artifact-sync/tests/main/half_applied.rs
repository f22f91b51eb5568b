//! Paths that became another kind of object while an application of the log ended halfway.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use testkit::FailingStore;

use crate::interrupted::{fail_at_the_content, give, open};
use crate::machine::Machine;

/// More than the part of a content that an entry of the log holds.
const LARGE: usize = 100_000;

/// Object at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    File,
    Symlink(&'static str),
    Empty,
    Filled,
}

const KINDS: [Kind; 6] = [
    Kind::Nothing,
    Kind::File,
    Kind::Symlink("nowhere"),
    Kind::Symlink("elsewhere"),
    Kind::Empty,
    Kind::Filled,
];

impl Kind {
    /// Puts the object in the place of whatever has the path.
    fn make(self, machine: &Machine, path: &str) {
        let place = machine.dir().join(path);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&place).unwrap(),
            Ok(_) => fs::remove_file(&place).unwrap(),
            Err(_) => {}
        }
        match self {
            Self::Nothing => {}
            Self::File => machine.write(path, path),
            Self::Symlink(target) => symlink(target, &place).unwrap(),
            Self::Empty => fs::create_dir(&place).unwrap(),
            Self::Filled => machine.write(&format!("{path}/q"), path),
        }
    }
}

/// Returns everything below a directory, by path.
fn tree(machine: &Machine) -> BTreeMap<String, String> {
    fn add(place: &Path, below: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}/{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            let text = if kind.is_dir() {
                add(&entry.path(), &path, found);
                "a directory".to_owned()
            } else if kind.is_symlink() {
                format!("a symlink to {}", fs::read_link(entry.path()).unwrap().display())
            } else {
                fs::read_to_string(entry.path()).unwrap()
            };
            found.insert(path, text);
        }
    }
    let mut found = BTreeMap::new();
    add(&machine.dir(), "", &mut found);
    found
}

/// Returns the differences, so that a failure names only these.
pub(crate) fn differences(left: &Machine, right: &Machine) -> Vec<String> {
    let (left, right) = (tree(left), tree(right));
    let paths = left.keys().chain(right.keys());
    let different = paths.filter(|path| left.get(*path) != right.get(*path));
    let texts = different.map(|path| format!("{path}: {:?} {:?}", left.get(path), right.get(path)));
    let mut texts: Vec<String> = texts.collect();
    texts.dedup();
    texts
}

#[tokio::test]
async fn every_change_of_kind_is_applied_again_after_an_interruption() {
    let mut cases = Vec::new();
    for (b, before) in KINDS.into_iter().enumerate() {
        for (a, after) in KINDS.into_iter().enumerate().filter(|(a, _)| *a != b) {
            for (l, last) in KINDS.into_iter().enumerate() {
                cases.push((format!("p{b}{a}{l}"), before, after, last));
            }
        }
    }
    // Contents that need a download fail. Those of the new entry are put in place, but symlinks and
    // empty directories are not. A later interruption leaves everything.
    for is_late in [false, true] {
        let store = FailingStore::new();
        let first = Machine::new(Arc::clone(&store) as _);
        let second = Machine::new(Arc::clone(&store) as _);
        let mirror = open(&first, "first").await;
        cases.iter().for_each(|(path, before, ..)| before.make(&first, path));
        give(mirror).await;
        give(open(&second, "second").await).await;
        assert_eq!(differences(&first, &second), [""; 0]);

        let mirror = open(&first, "first").await;
        cases.iter().for_each(|(path, _, after, _)| after.make(&first, path));
        first.write("large", &"1".repeat(LARGE));
        give(mirror).await;
        fail_at_the_content(&store, &second).await;
        assert!(second.dir().join("p251/q").exists(), "small files come first");
        for (path, _, after, _) in cases.iter().filter(|_| is_late) {
            after.make(&second, path);
        }

        let mirror = open(&first, "first").await;
        let moved = cases.iter().filter(|(_, _, after, last)| after != last);
        moved.for_each(|(path, .., last)| last.make(&first, path));
        give(mirror).await;

        let mirror = open(&second, "second").await;
        let opened = mirror.opened();
        assert!(opened.conflicts.is_empty(), "{is_late} {:?}", opened.conflicts);
        assert!(opened.failed.is_empty(), "{is_late} {:?}", opened.failed);
        assert_eq!(differences(&first, &second), [""; 0], "{is_late}");
        let report = mirror.sync().await.unwrap();
        assert!(report.changed.is_empty() && report.deleted.is_empty(), "{is_late} {report:?}");
        give(mirror).await;
        let mirror = open(&first, "first").await;
        assert!(mirror.opened().removed.is_empty(), "{is_late} {:?}", mirror.opened());
        assert_eq!(differences(&first, &second), [""; 0], "{is_late}");
    }
}

#[tokio::test]
async fn a_directory_that_a_program_put_in_the_place_of_a_removed_symlink_stays() {
    let first = Machine::in_memory();
    let second = Machine::new(Arc::clone(&first.store));
    let mirror = open(&first, "first").await;
    Kind::Symlink("nowhere").make(&first, "removed");
    Kind::Symlink("nowhere").make(&first, "filled");
    give(mirror).await;
    give(open(&second, "second").await).await;
    Kind::Filled.make(&second, "removed");
    second.remove("filled");
    second.write("filled/own", "1");
    let mirror = open(&first, "first").await;
    Kind::Nothing.make(&first, "removed");
    Kind::Filled.make(&first, "filled");
    give(mirror).await;
    let mirror = open(&second, "second").await;
    assert!(mirror.opened().conflicts.is_empty(), "{:?}", mirror.opened());
    give(mirror).await;
    open(&first, "first").await;
    assert_eq!(differences(&first, &second), [""; 0]);
    let paths: Vec<String> = first.files().into_keys().collect();
    assert_eq!(paths, ["filled/own", "filled/q", "removed/q"]);
}

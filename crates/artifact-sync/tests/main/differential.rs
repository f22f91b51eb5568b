//! Random changes to one directory with two mirrors: one uses events, the other walks. Their
//! reports must be equal.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use artifact_sync::{ChangeSource, ChangeSourceReport, Mirror, SessionKeys};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FileType, Mode};
use sandbox_core::RelativePath;
use testkit::rerun_as_ordinary_user;

/// Number of cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 500;
const NAMES: [&[u8]; 7] = [b"a", b"b", b"d", b"e", b"\xff", b"\xfe", "\u{FFFD}".as_bytes()];
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55";
/// Directory that mirrors ignore.
const IGNORED: &[u8] = b"node_modules";

/// Path as indices into `NAMES`. The index after the last one is the ignored directory.
type Location = Vec<usize>;

#[derive(Clone, Debug)]
enum Op {
    Write(Location, u8),
    /// Opens a file and keeps it open across renames and removals.
    Hold(Location),
    WriteHeld(u8),
    Rename(Location, Location),
    Remove(Location),
    Link(Location, Location),
    MakeDirectory(Location),
    /// Marks a directory as a cache, or writes other content to the marker.
    Mark(Location, bool),
    Symlink(Location),
    Fifo(Location),
    Mode(Location, u32),
    TouchOld(Location),
    PutFile(Location),
    Pending,
    Sync,
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    let location = || prop::collection::vec(0..=NAMES.len(), 1..4);
    let mode = prop::sample::select(vec![0, 0o400, 0o644, 0o755]);
    prop_oneof![
        8 => (location(), 0u8..4).prop_map(|(at, content)| Op::Write(at, content)),
        1 => location().prop_map(Op::Hold),
        3 => (0u8..4).prop_map(Op::WriteHeld),
        6 => (location(), location()).prop_map(|(from, to)| Op::Rename(from, to)),
        4 => location().prop_map(Op::Remove),
        2 => (location(), location()).prop_map(|(from, to)| Op::Link(from, to)),
        2 => location().prop_map(Op::MakeDirectory),
        2 => (location(), any::<bool>()).prop_map(|(at, valid)| Op::Mark(at, valid)),
        1 => location().prop_map(Op::Symlink),
        1 => location().prop_map(Op::Fifo),
        2 => (location(), mode).prop_map(|(at, mode)| Op::Mode(at, mode)),
        1 => location().prop_map(Op::TouchOld),
        1 => location().prop_map(Op::PutFile),
        1 => Just(Op::Pending),
        8 => Just(Op::Sync),
        1 => Just(Op::Flush),
    ]
}

struct World {
    place: tempfile::TempDir,
    by_events: Mirror,
    by_walks: Mirror,
    held: Option<File>,
    /// Set if files get several names. Otherwise the paths include unscanned places: an ignored
    /// tree, and directories whose names are not UTF-8. A write there to a file with another name
    /// elsewhere is found only by the next walk, so the two are not combined.
    links: bool,
}

impl World {
    async fn new(links: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("session");
        std::fs::create_dir(&dir).unwrap();
        let open = async |name: &str, source| {
            let keys = SessionKeys::at(Key::from("p"), Key::from("l"));
            Mirror::builder(&dir, Arc::new(InMemory::new()), keys)
                .state_dir(place.path().join(name))
                .change_source(source)
                // Reports name late objects at any time.
                .without_projection()
                .open()
                .await
                .unwrap()
        };
        let by_events = open("events", ChangeSource::Events).await;
        let by_walks = open("walks", ChangeSource::Walks).await;
        Self { by_events, by_walks, held: None, links, place }
    }

    fn path(&self, location: &Location) -> PathBuf {
        let name = |number: &usize| match NAMES.get(*number) {
            Some(name) if !self.links || str::from_utf8(name).is_ok() => name,
            _ if self.links => NAMES[0],
            _ => IGNORED,
        };
        let names = location.iter().map(|number| OsStr::from_bytes(name(number)));
        self.place.path().join("session").join(names.collect::<PathBuf>())
    }

    /// Creates the parent directories, if no other file is in their place.
    fn room_for(&self, location: &Location) -> PathBuf {
        let path = self.path(location);
        let _ = fs::create_dir_all(path.parent().unwrap());
        path
    }

    async fn sync(&self) {
        let reports = (self.by_events.sync().await.unwrap(), self.by_walks.sync().await.unwrap());
        assert_eq!(format!("{:?}", reports.0), format!("{:?}", reports.1));
    }

    /// Runs one operation. An operation that is impossible has no effect.
    async fn run(&mut self, op: &Op) {
        match op {
            Op::Write(at, content) => {
                let path = self.room_for(at);
                // Opening a FIFO would wait for a reader.
                if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
                    return;
                }
                let _ = fs::write(path, [b'0' + content]);
            }
            Op::Hold(at) => {
                let path = self.path(at);
                if fs::symlink_metadata(&path)
                    .is_ok_and(|there| there.is_file() && there.nlink() == 1)
                {
                    self.held = File::options().append(true).open(path).ok();
                }
            }
            Op::WriteHeld(content) => {
                if let Some(held) = &mut self.held {
                    held.write_all(&[b'0' + content]).unwrap();
                }
            }
            Op::Rename(from, to) => {
                let _ = fs::rename(self.path(from), self.room_for(to));
            }
            Op::Remove(at) => {
                let path = self.path(at);
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
            Op::Link(from, to) => {
                if self.links {
                    // A write through a removed name raises an event for that name only.
                    self.held = None;
                    let _ = fs::hard_link(self.path(from), self.room_for(to));
                    // A write through a name that exists only between two scans is found by the
                    // next walk.
                    self.sync().await;
                }
            }
            Op::MakeDirectory(at) => {
                let _ = fs::create_dir_all(self.path(at));
            }
            Op::Mark(at, is_valid) => {
                let path = self.path(at);
                // A write in an ignored tree to a file with another name elsewhere is found only by
                // the next walk.
                if !self.links && fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
                    let content = if *is_valid { TAG } else { "" };
                    let _ = fs::write(path.join("CACHEDIR.TAG"), content);
                }
            }
            Op::Symlink(at) => {
                let _ = symlink("a", self.room_for(at));
            }
            Op::Fifo(at) => {
                let _ = rustix::fs::mknodat(
                    CWD,
                    self.room_for(at),
                    FileType::Fifo,
                    Mode::from_raw_mode(0o644),
                    0,
                );
            }
            Op::Mode(at, mode) => {
                let path = self.path(at);
                if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_symlink()) {
                    fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
                }
            }
            Op::TouchOld(at) => {
                let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                let path = self.path(at);
                if fs::symlink_metadata(&path).is_ok_and(|there| there.is_file())
                    && let Ok(file) = File::open(path)
                {
                    let _ = file.set_modified(old);
                }
            }
            Op::PutFile(at) => {
                let path = self.path(at);
                let Some(path) =
                    path.strip_prefix(self.place.path().join("session")).unwrap().to_str()
                else {
                    return;
                };
                let path = RelativePath::parse(path).unwrap();
                let reports = (
                    self.by_events.put_file(&path).await.unwrap(),
                    self.by_walks.put_file(&path).await.unwrap(),
                );
                assert_eq!(format!("{:?}", reports.0), format!("{:?}", reports.1));
            }
            Op::Pending => assert_eq!(self.by_events.pending(), self.by_walks.pending()),
            Op::Sync => self.sync().await,
            Op::Flush => {
                let reports =
                    (self.by_events.flush().await.unwrap(), self.by_walks.flush().await.unwrap());
                assert_eq!(format!("{:?}", reports.0), format!("{:?}", reports.1));
            }
        }
    }
}

#[test]
fn events_and_walks_find_the_same_changes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(
        &(prop::collection::vec(op(), 1..40), any::<bool>()),
        |(ops, links)| {
            runtime.block_on(async {
                let mut world = World::new(links).await;
                for op in ops.iter().chain([&Op::Sync, &Op::Flush]) {
                    world.run(op).await;
                }
                assert!(matches!(
                    world.by_events.change_source(),
                    ChangeSourceReport::Events { .. }
                ));
                // The removal of the directory must be able to enter it.
                open_up(&world.place.path().join("session"));
            });
            Ok(())
        },
    );
    run.unwrap();
}

#[test]
fn events_and_walks_agree_on_unreadable_directories() {
    // Root ignores modes, so an ordinary user runs the test again.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let test = "differential::events_and_walks_find_the_same_changes";
    rerun_as_ordinary_user(test, "scans as an ordinary user");
}

fn open_up(dir: &std::path::Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    for entry in
        fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir())
    {
        open_up(&entry.path());
    }
}

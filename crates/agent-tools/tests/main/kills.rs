//! A host that is killed at any moment while its session runs commands. What a result reported as
//! stored is live or in the history, and no file whose removal was reported returns.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_tools::{
    BashOptions, BashOutput, Home, Ownership, RelativePath, Session, SessionSpec, Sessions,
    Storage, Takeover,
};
use testkit::read_files;

use crate::session::spec;

/// Environment variables with the directory of the child, and with the number of its first
/// command.
const PLACE: &str = "AGENT_TOOLS_KILLS_PLACE";
const FIRST: &str = "AGENT_TOOLS_KILLS_FIRST";
/// Environment variable with the number of kills.
const KILLS: &str = "AGENT_TOOLS_KILLS";
const DEFAULT_KILLS: u64 = 60;
const FILES: u64 = 7;
const TEST: &str = "kills::stored_results_of_commands_survive_a_kill_at_any_moment";

/// Files by their names.
type Files = BTreeMap<String, String>;

/// Change that a command makes.
enum Change {
    /// Renames a complete file over this one.
    Replace(String),
    /// Truncates and writes this file.
    Overwrite(String),
    Remove(String),
    Rename(String, String),
}

/// Returns the change of the command with this number.
fn change(number: u64) -> Change {
    let file = |number: u64| format!("f{}", number % FILES);
    match number % 8 {
        0..4 => Change::Replace(file(number)),
        4 => Change::Overwrite(file(number)),
        5 | 6 => Change::Rename(file(number), file(number + 3)),
        _ => Change::Remove(file(number)),
    }
}

/// Returns the content that the command with this number writes. It shows whether a part of it is
/// missing.
fn content(number: u64) -> String {
    let hash = blake3::hash(&number.to_le_bytes()).to_hex();
    format!("{number}:{}:{number}\n", hash.repeat((number * 7_919 % 600) as usize))
}

fn script(number: u64) -> String {
    match change(number) {
        Change::Replace(file) => format!("cat > .new && mv .new {file}"),
        Change::Overwrite(file) => format!("cat > {file}"),
        Change::Remove(file) => format!("rm -f {file}"),
        Change::Rename(from, to) => format!("test ! -e {from} || mv {from} {to}"),
    }
}

/// Applies the change of a command that ran to its end.
fn apply(number: u64, files: &mut Files) {
    match change(number) {
        Change::Replace(file) | Change::Overwrite(file) => {
            files.insert(file, content(number));
        }
        Change::Remove(file) => {
            files.remove(&file);
        }
        Change::Rename(from, to) => {
            if let Some(content) = files.remove(&from) {
                files.insert(to, content);
            }
        }
    }
}

fn sessions(place: &Path, home: &str) -> Sessions {
    let storage = Storage::local(&place.join("store")).unwrap();
    Sessions::builder(Home::new(place.join(home)))
        .storage(storage)
        .ownership(Ownership::default().takeover(Takeover::Steal))
        .build()
}

fn is_stored(result: &BashOutput) -> bool {
    result.pending.is_empty() && result.still_pending == 0
}

/// Runs commands until the parent kills this process. Prints the number of each one whose changes
/// the result reports as stored.
async fn child(place: &Path, first: u64) -> ! {
    let sessions = sessions(place, "home");
    let session = sessions.open(session_spec()).await.unwrap();
    for number in first.. {
        let mut options = BashOptions::default();
        options.stdin = content(number).into_bytes();
        let result = session.bash_with(&script(number), options).await.unwrap();
        assert!(result.exit_code == 0 && result.conflicts.is_empty(), "{result:?}");
        assert!(is_stored(&result), "{result:?}");
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {number}").unwrap();
        out.flush().unwrap();
    }
    unreachable!("the numbers do not end");
}

fn session_spec() -> SessionSpec {
    spec("s1")
}

/// Kills a host while its session runs commands from number `first` on. Returns the number
/// after the last stored one.
async fn run_and_kill(place: &Path, first: u64, delay: Duration) -> u64 {
    let mut child = testkit::rerun(TEST)
        .arg("--nocapture")
        .env(PLACE, place)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(delay).await;
    child.kill().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let stored = lines.filter_map(|line| line.unwrap().strip_prefix("stored ")?.parse().ok());
    let last: Option<u64> = stored.last();
    assert!(!child.wait().unwrap().success());
    last.map_or(first, |last| last + 1)
}

/// Returns the files of the session once they are stored. A command of the killed host may end a
/// moment later than the host.
async fn settled(place: &Path, session: &Session) -> Files {
    let store = place.join("store/user_7/sessions/s1");
    let mut rounds = 0..1_000;
    loop {
        let result = session.bash("true").await.unwrap();
        assert!(result.conflicts.is_empty(), "{result:?}");
        let mut files = read_files(session.dir());
        let mut objects = if store.exists() { read_files(&store) } else { Files::new() };
        // Uploads of killed processes, which the store does not list.
        objects.retain(|name, _| !name.contains('#'));
        if is_stored(&result) && objects == files {
            files.retain(|name, _| name.starts_with('f'));
            return files;
        }
        assert!(rounds.next().is_some(), "{result:?}: {files:?}, objects {objects:?}");
    }
}

#[track_caller]
fn check(before: &Files, number: u64, live: &Files) {
    let mut after = before.clone();
    apply(number, &mut after);
    let may_have = |file: &String, content: Option<&String>| {
        // The input of a command may end with its host before the command does.
        let is_written = match change(number) {
            Change::Replace(changed) | Change::Overwrite(changed) => changed == *file,
            Change::Remove(_) | Change::Rename(..) => false,
        };
        let is_partial = is_written
            && content.is_some_and(|text| self::content(number).starts_with(text.as_str()));
        content == before.get(file) || content == after.get(file) || is_partial
    };
    for file in (0..FILES).map(|file| format!("f{file}")) {
        let content = live.get(&file);
        assert!(
            may_have(&file, content),
            "command {number}: {file} is {content:?}, and was {:?}",
            before.get(&file)
        );
    }
}

/// Checks that every stored content that is no longer live is in the history of its path.
async fn check_history(session: &Arc<Session>, before: &Files, live: &Files) {
    for (file, content) in before.iter().filter(|(file, content)| live.get(*file) != Some(content))
    {
        let history = session.history(Some(&RelativePath::parse(file).unwrap())).await.unwrap();
        let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
        let mut changes = history.iter().flat_map(|entry| &entry.changes);
        assert!(
            changes.any(|change| change.hash.as_ref() == Some(&hash)),
            "{file} had {content:?}: {history:?}"
        );
    }
}

#[tokio::test]
async fn stored_results_of_commands_survive_a_kill_at_any_moment() {
    if let (Some(place), Ok(first)) = (std::env::var_os(PLACE), std::env::var(FIRST)) {
        child(Path::new(&place), first.parse().unwrap()).await;
    }
    let kills = std::env::var(KILLS).ok().and_then(|count| count.parse().ok());
    let kills: u64 = kills.unwrap_or(DEFAULT_KILLS);
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path().canonicalize().unwrap();
    let (mut known, mut next, mut stored) = (Files::new(), 0, 0);
    for kill in 0..kills {
        // Any moment after the start of the program, in steps that share no rhythm with it.
        let delay = Duration::from_micros(20_000 + kill * 7_919 % 331_000);
        let end = run_and_kill(&place, next, delay).await;
        (next..end).for_each(|number| apply(number, &mut known));
        stored += end - next;

        let sessions = sessions(&place, "home");
        let session = sessions.open(session_spec()).await.unwrap();
        let live = settled(&place, &session).await;
        check(&known, end, &live);
        check_history(&session, &known, &live).await;
        (known, next) = (live, end + 1);
    }
    println!("{stored} commands in {kills} sessions");
    // A loaded machine kills most children before their first command, so this asks for little.
    assert!(stored > kills / 10, "the children store too little: {stored}");
    let new = sessions(&place, "new").open(session_spec()).await.unwrap();
    let mut restored = read_files(new.dir());
    restored.retain(|name, _| name.starts_with('f'));
    assert_eq!(restored, known, "a new home");
}

#[tokio::test]
async fn a_session_without_a_store_restores_a_mode_that_a_killed_process_left() {
    let place = tempfile::tempdir().unwrap();
    let open = async || Sessions::builder(Home::new(place.path())).build().open(spec("s1")).await;
    let session = open().await.unwrap();
    let result = session.bash("mkdir d && chmod 555 d").await.unwrap();
    assert_eq!(result.exit_code, 0, "{result:?}");
    let dir = session.dir().join("d");
    drop(session);
    let inode = fs::metadata(&dir).unwrap().ino();
    let records = place.path().join("state/s1/modes");
    fs::create_dir_all(&records).unwrap();
    symlink(format!("555 755 {inode} d"), records.join("left")).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    let session = open().await.unwrap();
    assert_eq!(fs::metadata(session.dir().join("d")).unwrap().mode() & 0o777, 0o555);
}

//! A process that is killed at any moment of a session's life: acknowledged changes are stored or
//! pending, and no file is torn.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use artifact_sync::{
    CloseMode, Durability, GarbageOptions, Mirror, SessionKeys, Takeover, open_directory,
};
use object_store::path::Path as Key;
use sandbox_core::RelativePath;

/// Environment variable with the working directory of the child.
const PLACE: &str = "ARTIFACT_SYNC_CRASH_PLACE";
/// Environment variable with the number of kills.
const KILLS: &str = "ARTIFACT_SYNC_KILLS";
const FILES: u64 = 9;
const PREFIX: &str = "user_7/sessions/s1";

async fn open(place: &Path) -> Mirror {
    open_on(place, "").await
}

/// Opens the session on a machine. It takes the session over.
async fn open_on(place: &Path, machine: &str) -> Mirror {
    let store = open_directory(&place.join("store")).unwrap();
    let keys = SessionKeys::at(Key::parse(PREFIX).unwrap(), Key::from("logs/user_7/s1"));
    Mirror::builder(place.join(format!("session{machine}")), store.store, keys)
        .capabilities(store.capabilities)
        // The kernel survives, and waiting for the disk would leave few calls to each process.
        .durability(Durability::Memory)
        .state_dir(place.join(format!("state{machine}")))
        .home(format!("home{machine}"), Takeover::Steal)
        .open()
        .await
        .unwrap()
}

/// Takes the session over on a new machine, and stores a file there.
async fn write_elsewhere(place: &Path, name: &str, content: &str) {
    for old in ["session-new", "state-new"] {
        let _ = std::fs::remove_dir_all(place.join(old));
    }
    let mirror = open_on(place, "-new").await;
    std::fs::write(place.join("session-new").join(name), content).unwrap();
    let report = mirror.sync().await.unwrap();
    assert!(report.is_complete() && report.conflicts.is_empty(), "{report:?}");
}

/// Returns a content that shows whether a part is missing.
fn content(number: u64) -> String {
    format!("{number}:{}:{number}", "x".repeat((number * 7919 % 40_000) as usize))
}

/// Returns the number of a complete content.
fn number(content: &str) -> Option<u64> {
    let number = content.split(':').next()?.parse().ok()?;
    (content == self::content(number)).then_some(number)
}

/// Writes, removes and synchronises until the parent kills this process. Also closes the session,
/// restores it, collects garbage and lets another machine take over. Prints the acknowledged
/// changes.
async fn child(place: &Path) -> ! {
    let mut mirror = open(place).await;
    let counter = place.join("counter");
    let mut next: u64 =
        std::fs::read_to_string(&counter).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    loop {
        let name = format!("f{}", next % FILES);
        let path = place.join("session").join(&name);
        let relative = RelativePath::parse(&name).unwrap();
        let is_removal = next % 11 == 10;
        let step = if is_removal { None } else { Some(next % 8) };
        if step == Some(1) {
            drop(mirror);
            write_elsewhere(place, &name, &content(next)).await;
            mirror = open(place).await;
        } else {
            // The file tools rename complete files in the same way.
            if is_removal {
                let _ = std::fs::remove_file(&path);
            } else {
                let beside = place.join("session/.agent-tools-staged-child");
                std::fs::write(&beside, content(next)).unwrap();
                std::fs::rename(&beside, &path).unwrap();
            }
            let report = match step {
                Some(3) => mirror.put_file(&relative).await.unwrap(),
                _ => mirror.sync().await.unwrap(),
            };
            assert!(report.conflicts.is_empty(), "{report:?}");
        }
        match step {
            Some(5) => {
                mirror.close(CloseMode::KeepPending).await.unwrap();
                mirror = open(place).await;
            }
            Some(6) => {
                mirror.collect_garbage(GarbageOptions::default()).await.unwrap();
            }
            Some(7) => {
                mirror.restore_version(&relative, mirror.entry()).await.unwrap();
            }
            _ => {}
        }
        std::fs::write(place.join("counter.new"), (next + 1).to_string()).unwrap();
        std::fs::rename(place.join("counter.new"), &counter).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "ack {} {next} {}",
            next % FILES,
            if is_removal { "removed" } else { "written" }
        )
        .unwrap();
        out.flush().unwrap();
        drop(out);
        next += 1;
    }
}

fn read_all(dir: PathBuf) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let files = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with(".agent-tools-staged"));
    files
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read_to_string(entry.path()).unwrap(),
            )
        })
        // An upload of a killed process leaves this file beside its target. The store hides it.
        .filter(|(name, _)| !name.contains('#'))
        .collect()
}

#[tokio::test]
async fn acknowledged_changes_survive_a_kill_at_any_moment_and_no_file_is_torn() {
    if let Some(place) = std::env::var_os(PLACE) {
        child(Path::new(&place)).await;
    }
    let kills: u64 = std::env::var(KILLS).ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path();
    // Last acknowledged change of each file.
    let mut acknowledged: BTreeMap<String, (u64, bool)> = BTreeMap::new();
    let mut received = 0;
    // Highest change that a child may have made. Each child makes at most one change that it does
    // not acknowledge.
    let mut newest = 0;
    for kill in 0..kills {
        let test = "crash::acknowledged_changes_survive_a_kill_at_any_moment_and_no_file_is_torn";
        let mut child = testkit::rerun(test)
            .arg("--nocapture")
            .env(PLACE, place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment after the start of the program, in steps that share no rhythm with it.
        tokio::time::sleep(Duration::from_micros(4_000 + kill * 7_919 % 163_000)).await;
        child.kill().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(words) =
                line.strip_prefix("ack ").map(|rest| rest.split(' ').collect::<Vec<_>>())
            else {
                continue;
            };
            let [file, number, what] = words.as_slice() else { continue };
            acknowledged.insert(format!("f{file}"), (number.parse().unwrap(), *what == "removed"));
            newest = newest.max(number.parse().unwrap());
            received += 1;
        }
        newest += 1;
        assert!(!child.wait().unwrap().success());

        let mirror = open(place).await;
        let restored = mirror.opened();
        assert!(restored.failed.is_empty(), "kill {kill}: {restored:?}");
        let report = mirror.sync().await.unwrap();
        assert!(
            report.pending.is_empty() && report.conflicts.is_empty(),
            "kill {kill}: {report:?}"
        );
        drop(mirror);
        let files = read_all(place.join("session"));
        assert_eq!(
            read_all(place.join("store").join(PREFIX)),
            files,
            "kill {kill}: both sides are equal"
        );
        for (file, content) in &files {
            assert!(number(content).is_some(), "kill {kill}: {file} is torn");
        }
        for (file, (last, is_removed)) in &acknowledged {
            match files.get(file).and_then(|content| number(content)) {
                Some(there) => assert!(
                    there > *last || (there == *last && !is_removed),
                    "kill {kill}: {file} is old: {there}, {last}"
                ),
                // A later removal may have been made without an acknowledgement.
                None => {
                    let removes =
                        |next: u64| next % 11 == 10 && format!("f{}", next % FILES) == *file;
                    assert!(
                        *is_removed || (last + 1..=newest).any(removes),
                        "kill {kill}: {file} is lost"
                    );
                }
            }
        }
    }
    // A loaded machine kills most children before their first change, so this asks for little.
    assert!(received > kills / 10, "the children acknowledge too little: {received}");
}

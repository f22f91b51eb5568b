//! Three processes that share one store, with partitions, stopped processes, kills, and copies of
//! their homes.
//!
//! Runs for 20 s, or for as many seconds as `SHARED_STORE_SECONDS` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artifact_sync::{Heartbeat, Mirror, SyncError, Takeover};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use crate::machine::LOG;
use crate::stopped::{heartbeat_at, open_at, say, signal, store_at};

const PLACE: &str = "SHARED_STORE_PLACE";
const NAME: &str = "SHARED_STORE_NAME";
const SECONDS: &str = "SHARED_STORE_SECONDS";
const TEST: &str = "shared_store::acknowledged_changes_survive_partitions_zombies_and_kills";
const HOMES: [&str; 3] = ["a", "b", "c"];
/// Files that the homes write. Few, so that they meet.
const FILES: u64 = 4;

/// Store behind a network that a file cuts. A change may arrive although its answer is lost.
#[derive(Debug)]
struct Partitioned {
    inner: Arc<dyn ObjectStore>,
    cut: PathBuf,
}

impl Partitioned {
    fn check(&self) -> Result<()> {
        let source = "the network is cut".into();
        if self.cut.exists() { Err(Error::Generic { store: "cut", source }) } else { Ok(()) }
    }
}

impl fmt::Display for Partitioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioned")
    }
}

#[async_trait]
impl ObjectStore for Partitioned {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.check()?;
        let put = self.inner.put_opts(location, payload, options).await;
        self.check()?;
        put
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        match self.check() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.check()?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// Suffix of the name of a home's copy.
const COPY: &str = "-copy";

/// Time in which a copy gets its turn, unless the other homes leave it none.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Copies a home while its process is stopped. The copy has the same id.
fn copy_home(place: &Path, name: &str, process: &Child) -> String {
    let copy = format!("{name}{COPY}");
    let _ = std::fs::remove_dir_all(place.join(&copy));
    signal(process, Signal::STOP);
    // The signal stops the threads some time later.
    let stopped = waitid(WaitId::Pid(Pid::from_child(process)), WaitIdOptions::STOPPED);
    assert!(stopped.unwrap().is_some());
    let copied = Command::new("cp").arg("-a").args([name, &copy]).current_dir(place).status();
    signal(process, Signal::CONT);
    assert!(copied.unwrap().success());
    copy
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn cut(place: &Path, name: &str) -> PathBuf {
    place.join(format!("cut-{name}"))
}

/// Opens, writes, and gives the session up, until the parent kills this process.
async fn child(place: &Path, name: &str) -> ! {
    let store: Arc<dyn ObjectStore> =
        Arc::new(Partitioned { inner: store_at(place), cut: cut(place, name) });
    let heartbeat = heartbeat_at(place, name, store.clone());
    let mut number = std::process::id() as u64 * 100_000;
    loop {
        match work(place, name, &store, &heartbeat, &mut number).await {
            Ok(()) => {}
            Err(SyncError::LeaseLost) => say("lost"),
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                say(&format!("fatal {error:?}"));
                std::process::exit(1);
            }
        }
    }
}

async fn work(
    place: &Path,
    name: &str,
    store: &Arc<dyn ObjectStore>,
    heartbeat: &Heartbeat,
    number: &mut u64,
) -> std::result::Result<(), SyncError> {
    let mirror = open_at(place, name, store.clone(), Takeover::Wait, heartbeat).await?;
    for call in 0..20 {
        change(place, name, &mirror, number).await?;
        if call % 5 == 4 {
            mirror.release_if_idle().await?;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    mirror.drain(Duration::from_secs(1)).await?;
    // Waiting homes look every 100 ms. On a slow machine, they need more than a moment to append.
    tokio::time::sleep(Duration::from_millis(250)).await;
    Ok(())
}

/// Writes one file in a call. Prints what the call acknowledged.
async fn change(
    place: &Path,
    name: &str,
    mirror: &Mirror,
    number: &mut u64,
) -> std::result::Result<(), SyncError> {
    let guard = mirror.begin_call().await?;
    *number += 1;
    let file = format!("f{}", *number % FILES);
    let content = format!("{name} {number}");
    let staged = place.join(name).join("session/.agent-tools-staged-child");
    std::fs::write(&staged, &content).unwrap();
    std::fs::rename(&staged, place.join(name).join("session").join(&file)).unwrap();
    let report = mirror.sync().await?;
    guard.confirm().await?;
    let is_stored = report
        .changed
        .iter()
        .any(|changed| changed.path.as_str() == file && changed.entry.is_some());
    if is_stored && report.is_complete() {
        say(&format!("ack {file} {content}"));
    }
    Ok(())
}

/// Reads what a child prints.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<String>>>);

impl Printed {
    /// Returns the number of acknowledged calls of a home.
    fn calls_by(&self, name: &str) -> usize {
        let writer = |line: &str| Some(line.strip_prefix("ack ")?.split(' ').nth(1)? == name);
        self.0.lock().unwrap().iter().filter(|line| writer(line) == Some(true)).count()
    }
}

fn spawn(place: &Path, name: &str, printed: &Printed) -> Child {
    let mut child = testkit::rerun(TEST)
        .arg("--nocapture")
        .env(PLACE, place)
        .env(NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let printed = printed.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(std::result::Result::ok) {
            printed.0.lock().unwrap().push(line);
        }
    });
    child
}

/// Version of a file in the log, with the owner at that point.
struct Version {
    path: String,
    /// Hash of the content; `None` if the path was removed.
    hash: Option<String>,
    owner: Option<String>,
}

/// Reads the versions of files from the log, in order.
async fn versions(store: &dyn ObjectStore) -> Vec<Version> {
    let listing = store.list_with_delimiter(Some(&Key::from(LOG))).await.unwrap();
    let mut keys: Vec<Key> = listing.objects.into_iter().map(|meta| meta.location).collect();
    keys.sort();
    let (mut owner, mut versions) = (None, Vec::new());
    for key in keys {
        let content = store.get(&key).await.unwrap().bytes().await.unwrap();
        for line in std::str::from_utf8(&content).unwrap().lines().skip(1) {
            let line: serde_json::Value = serde_json::from_str(&line[17..]).unwrap();
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            match line["op"].as_str().unwrap() {
                "own" => owner = text("home"),
                "release" => owner = None,
                "file" | "removed" => versions.push(Version {
                    path: text("path").unwrap(),
                    hash: text("hash"),
                    owner: owner.clone(),
                }),
                _ => {}
            }
        }
    }
    versions
}

#[tokio::test]
async fn acknowledged_changes_survive_partitions_zombies_and_kills() {
    if let (Some(place), Ok(name)) = (std::env::var_os(PLACE), std::env::var(NAME)) {
        child(Path::new(&place), &name).await;
    }
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path();
    store_at(place);
    let printed = Printed::default();
    let mut children: Vec<Child> = HOMES.iter().map(|name| spawn(place, name, &printed)).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random: u64 = 0x9e37_79b9;
    while Instant::now() < until {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = random >> 33;
        let at = (draw % 3) as usize;
        let pause = Duration::from_millis(200 + draw / 3 % 700);
        match draw / 7 % 5 {
            0 => {
                signal(&children[at], Signal::STOP);
                tokio::time::sleep(pause * 2).await;
                signal(&children[at], Signal::CONT);
            }
            1 => {
                std::fs::write(cut(place, HOMES[at]), "").unwrap();
                tokio::time::sleep(pause * 2).await;
                std::fs::remove_file(cut(place, HOMES[at])).unwrap();
            }
            2 => {
                end(&mut children[at]);
                children[at] = spawn(place, HOMES[at], &printed);
            }
            3 => {
                let copy = copy_home(place, HOMES[at], &children[at]);
                let mut process = spawn(place, &copy, &printed);
                let (calls, copied) = (printed.calls_by(&copy), Instant::now());
                while printed.calls_by(&copy) == calls && copied.elapsed() < LONGEST_WAIT {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tokio::time::sleep(pause).await;
                end(&mut process);
            }
            _ => tokio::time::sleep(pause).await,
        }
    }
    children.iter_mut().for_each(end);
    let printed = printed.0.lock().unwrap().clone();
    let fatal: Vec<_> = printed.iter().filter(|line| line.starts_with("fatal")).collect();
    assert!(fatal.is_empty(), "{fatal:?}");

    let store = store_at(place);
    let versions = versions(&*store).await;
    let ids: BTreeMap<String, &str> = HOMES
        .iter()
        .map(|name| {
            let id = std::fs::read_to_string(place.join(name).join("id")).unwrap();
            (id.trim().to_owned(), *name)
        })
        .collect();
    let (mut owners, mut copied) = (BTreeSet::new(), 0);
    let acknowledged: Vec<(&str, &str)> =
        printed.iter().filter_map(|line| line.strip_prefix("ack ")?.split_once(' ')).collect();
    for (path, content) in &acknowledged {
        let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
        let mut stored = versions
            .iter()
            .filter(|version| version.path == *path && version.hash.as_ref() == Some(&hash));
        let writer = content.split(' ').next().unwrap();
        copied += usize::from(writer.ends_with(COPY));
        let writer = writer.trim_end_matches(COPY);
        let is_owned = stored.any(|version| {
            version.owner.as_ref().and_then(|owner| ids.get(owner)) == Some(&writer)
        });
        assert!(is_owned, "{path} {content} is not in the log of its owner");
        owners.insert(writer.to_owned());
    }
    let lost = printed.iter().filter(|line| *line == "lost").count();
    println!(
        "{} calls by {owners:?}, {copied} of them by copies, {} versions, {lost} ownerships lost",
        acknowledged.len(),
        versions.len()
    );
    assert!(acknowledged.len() as u64 > seconds, "too few calls: {}", acknowledged.len());
    assert!(owners.len() == 3 || seconds < 120, "{owners:?}");
    assert!(copied > 0 && lost > 0 || seconds < 120, "{copied} calls by copies, {lost} lost");

    // The newest version of each path is live for the next home.
    let heartbeat = heartbeat_at(place, "last", store.clone());
    let mirror = open_at(place, "last", store, Takeover::Steal, &heartbeat).await.unwrap();
    assert!(mirror.opened().problems().is_empty(), "{:?}", mirror.opened());
    let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
    for Version { path, hash, owner } in &versions {
        let hash = hash.as_deref();
        newest.insert(path, hash.unwrap_or_else(|| panic!("{owner:?} removed {path}")));
    }
    for (path, hash) in newest {
        let content = std::fs::read(place.join("last/session").join(path)).unwrap();
        assert_eq!(blake3::hash(&content).to_hex().as_str(), hash, "{path}");
    }
}

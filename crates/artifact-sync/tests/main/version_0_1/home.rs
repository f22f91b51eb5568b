//! Home of version 0.1: indexes that its command wrote, with the files and objects of a test.

use std::collections::HashMap;
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::UNIX_EPOCH;

use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use crate::machine::{Machine, key};

/// Index of a session in use. Another program had put `upload.csv` and `dropped.csv`, and the agent
/// had removed the latter. Then the store failed, and the agent changed `changed.txt`, created
/// `fresh.txt`, and removed `gone.txt`.
pub(super) const OPEN: &str = include_str!("../../data/version_0_1/open.log");
/// Index of a session that was closed.
pub(super) const CLOSED: &str = include_str!("../../data/version_0_1/closed.log");
/// Index of a session whose directory had been removed. The next process was killed before it
/// restored anything.
pub(super) const RECREATED: &str = include_str!("../../data/version_0_1/recreated.log");

/// Directory that an index describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Directory {
    /// The directory of the test.
    Same,
    /// Another one, whose files were copied here.
    Other,
}

/// Objects of the session `s1` as version 0.1 knew them.
pub(super) const OBJECTS: [(&str, &str); 9] = [
    ("changed.txt", "old\n"),
    ("data/a.csv", "a\n"),
    ("dropped.csv", "dropped\n"),
    ("gone.txt", "gone\n"),
    ("kept.md", "kept\n"),
    ("replaced.txt", "replaced\n"),
    ("run.sh", "#!/bin/sh\n"),
    ("upload.csv", "upload\n"),
    ("vanished.txt", "vanished\n"),
];

/// Files of the session `s1` as the agent left them.
pub(super) const FILES: [(&str, &str); 8] = [
    ("changed.txt", "new\n"),
    ("data/a.csv", "a\n"),
    ("fresh.txt", "fresh\n"),
    ("kept.md", "kept\n"),
    ("replaced.txt", "replaced\n"),
    ("run.sh", "#!/bin/sh\n"),
    ("upload.csv", "upload\n"),
    ("vanished.txt", "vanished\n"),
];

/// Puts the session `s1` on a machine, with the objects that version 0.1 knew.
pub(super) async fn install_s1(machine: &Machine) {
    for (path, content) in OBJECTS {
        machine.put(path, content).await;
    }
    for (path, content) in FILES {
        machine.write(path, content);
    }
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(machine.dir().join("run.sh"), executable).unwrap();
    install(machine, OPEN, Directory::Same).await;
}

/// Writes an index to a machine. It knows the present versions of the objects, and the present
/// signatures of the files that it stored.
pub(super) async fn install(machine: &Machine, index: &str, directory: Directory) {
    let mut versions: HashMap<String, Value> = HashMap::new();
    let mut text = String::new();
    for line in index.lines() {
        let (_, json) = line.split_once(' ').unwrap();
        let mut value: Value = serde_json::from_str(json).unwrap();
        if value.get("etag").is_some() {
            let path = value["path"].as_str().unwrap().to_owned();
            if !versions.contains_key(&path) {
                let etag = machine.store.head(&key(&path)).await.ok().and_then(|meta| meta.e_tag);
                versions.insert(path.clone(), json!(etag));
            }
            value["etag"] = versions[&path].clone();
        }
        if let Some(signature) = signature(machine, &value) {
            value["signature"] = signature;
        }
        if value["op"] == "directory" && directory == Directory::Same {
            value = directory_line(&identity(machine));
        }
        text.push_str(&checksummed(&value));
    }
    std::fs::create_dir_all(machine.state()).unwrap();
    std::fs::write(machine.state().join("index.log"), text).unwrap();
}

/// Returns an index of files that were stored, with these contents.
pub(super) fn index_of<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> String {
    let mut text = checksummed(&directory_line(&json!({ "inode": 1, "born": [1, 2] })));
    for (path, content) in files {
        let signature = json!({
            "size": content.len(), "modified": [1, 2], "changed": [3, 4], "inode": 5, "mode": 33188,
        });
        let line = json!({
            "op": "stored", "path": path, "signature": signature, "etag": "", "origin": "local",
            "hash": blake3::hash(content.as_bytes()).to_hex().as_str(),
        });
        text.push_str(&checksummed(&line));
    }
    text
}

/// Returns the record of a removal or an upload that failed.
pub(super) fn failed(path: &str) -> String {
    let line = json!({ "op": "failed", "path": path, "reason": "no answer", "isFinal": false });
    checksummed(&line)
}

/// Returns the signature of the file of a `stored` record, if it has the content.
fn signature(machine: &Machine, record: &Value) -> Option<Value> {
    let path = machine.dir().join(record["path"].as_str()?);
    let content = std::fs::read(&path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    let is_equal = record["hash"] == blake3::hash(&content).to_hex().as_str();
    (is_equal && record["op"] == "stored").then(|| {
        json!({
            "size": metadata.size(),
            "modified": [metadata.mtime(), metadata.mtime_nsec()],
            "changed": [metadata.ctime(), metadata.ctime_nsec()],
            "inode": metadata.ino(),
            "mode": metadata.mode(),
        })
    })
}

fn directory_line(id: &Value) -> Value {
    json!({ "op": "directory", "id": id })
}

fn identity(machine: &Machine) -> Value {
    let metadata = std::fs::metadata(machine.dir()).unwrap();
    let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    json!({ "inode": metadata.ino(), "born": [born.as_secs(), u64::from(born.subsec_nanos())] })
}

fn checksummed(value: &Value) -> String {
    let json = value.to_string();
    let mut line = String::new();
    writeln!(line, "{} {json}", &blake3::hash(json.as_bytes()).to_hex()[..16]).unwrap();
    line
}

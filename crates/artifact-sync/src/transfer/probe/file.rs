//! File with the results of probes, one record per endpoint.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sandbox_core::internal::blocking;
use serde::{Deserialize, Serialize};

use super::StoreProperties;

/// Version of the file's format. Files of other versions are replaced.
const FORMAT: u32 = 1;
/// Age at which a record no longer counts, because a server may have been replaced.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Place of one endpoint's record. A missing, damaged or outdated record costs one more probe.
#[derive(Debug)]
pub(super) struct ProbeFile {
    path: PathBuf,
    endpoint: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ProbeResults {
    format: u32,
    endpoints: BTreeMap<String, ProbeResult>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ProbeResult {
    /// Seconds since 1970.
    probed: u64,
    #[serde(flatten)]
    properties: StoreProperties,
}

impl ProbeFile {
    pub(super) fn new(path: PathBuf, endpoint: String) -> Self {
        Self { path, endpoint }
    }

    pub(super) async fn load(&self) -> Option<StoreProperties> {
        let path = self.path.clone();
        let records = blocking(move || read(&path)).await;
        let record = records.endpoints.get(&self.endpoint)?;
        is_valid(record, now()).then_some(record.properties)
    }

    /// Saves a record. A failure is logged, because only speed depends on it. If another process
    /// saves at the same moment, one record can be lost.
    pub(super) async fn save(&self, properties: StoreProperties) {
        let (path, endpoint) = (self.path.clone(), self.endpoint.clone());
        let saved = blocking(move || {
            let (mut records, now) = (read(&path), now());
            records.endpoints.retain(|_, record| is_valid(record, now));
            records.endpoints.insert(endpoint, ProbeResult { probed: now, properties });
            replace(&path, &serde_json::to_vec(&records)?)
        });
        if let Err(error) = saved.await {
            let path = self.path.display();
            tracing::debug!(%path, %error, "the result of a probe cannot be saved");
        }
    }
}

/// Reads the file. One that cannot be used is empty.
fn read(path: &Path) -> ProbeResults {
    let records = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let records = records.filter(|records: &ProbeResults| records.format == FORMAT);
    records.unwrap_or_else(|| ProbeResults { format: FORMAT, ..ProbeResults::default() })
}

/// Replaces the file as a whole, so that a reader sees the old content or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let staged = parent.join(format!(".probes-{}-{count}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    let replaced = file.write_all(content).and_then(|()| fs::rename(&staged, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&staged);
    }
    replaced
}

/// Returns whether a record counts. One from the future comes from a wrong clock.
fn is_valid(record: &ProbeResult, now: u64) -> bool {
    now.checked_sub(record.probed).is_some_and(|age| age < VALIDITY.as_secs())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: StoreProperties =
        StoreProperties { create: true, update: false, delete: None, keeps_attributes: true };

    #[tokio::test]
    async fn each_endpoint_has_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/probes.json");
        let file = |endpoint: &str| ProbeFile::new(path.clone(), endpoint.to_owned());
        assert_eq!(file("a").load().await, None);
        file("a").save(PROPERTIES).await;
        let other = StoreProperties { delete: Some(true), ..PROPERTIES };
        file("b").save(other).await;
        assert_eq!(file("a").load().await, Some(PROPERTIES));
        assert_eq!(file("b").load().await, Some(other));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing staged");
    }

    #[tokio::test]
    async fn a_damaged_or_foreign_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("probes.json");
        let file = ProbeFile::new(path.clone(), "a".to_owned());
        file.save(PROPERTIES).await;
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in
            ["", "{", &whole[..whole.len() / 2], &whole.replace("\"format\":1", "\"format\":2")]
        {
            fs::write(&path, damaged).unwrap();
            assert_eq!(file.load().await, None, "{damaged}");
            file.save(PROPERTIES).await;
            assert_eq!(file.load().await, Some(PROPERTIES));
        }
    }

    #[test]
    fn records_expire_after_30_days_and_never_come_from_the_future() {
        let day = 24 * 60 * 60;
        for (probed, expected) in [(100 * day, true), (71 * day, true), (70 * day, false)] {
            let record = ProbeResult { probed, properties: PROPERTIES };
            assert_eq!(is_valid(&record, 100 * day), expected, "{probed}");
        }
        assert!(!is_valid(&ProbeResult { probed: 11, properties: PROPERTIES }, 10));
    }
}

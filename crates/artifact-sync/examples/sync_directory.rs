//! Synchronises a directory with a store and restores it elsewhere.
//!
//! ```sh
//! cargo run --example sync_directory
//! cargo run --example sync_directory --features fs -- file:///tmp/store
//! AWS_ACCESS_KEY_ID=… cargo run --example sync_directory --features s3 -- s3://bucket/prefix
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use artifact_sync::{Mirror, OpenedStore, SessionKeys, open_store};
use sandbox_core::{SessionId, UserId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:///".to_owned());
    let store = open_store(&url)?;
    let root = tempfile::tempdir()?;

    let mirror = open_mirror(&store, &root.path().join("first")).await?;
    let files = root.path().join("first/files");
    fs::write(files.join("report.md"), "# May")?;
    fs::write(files.join("data.csv"), "month,total\nMay,7\n")?;
    print_changes("first call", &mirror.sync().await?);

    fs::write(files.join("report.md"), "# June")?;
    fs::remove_file(files.join("data.csv"))?;
    print_changes("second call", &mirror.sync().await?);

    let second = open_mirror(&store, &root.path().join("second")).await?;
    let restored = second.opened();
    println!("another directory: restored {} file(s)", restored.restored.len());
    restored.problems().iter().for_each(|problem| println!("  {problem}"));
    assert_eq!(fs::read_to_string(root.path().join("second/files/report.md"))?, "# June");
    Ok(())
}

/// Opens a mirror of `<root>/files`, with its local state in `<root>/state`.
async fn open_mirror(store: &OpenedStore, root: &Path) -> Result<Mirror, Box<dyn Error>> {
    fs::create_dir_all(root)?;
    let (user, session) = (UserId::parse("7")?, SessionId::parse("example")?);
    let keys = SessionKeys::new(&store.prefix, &user, &session);
    let mut builder = Mirror::builder(root.join("files"), Arc::clone(&store.store), keys)
        .capabilities(store.capabilities.clone())
        .state_dir(root.join("state"));
    if let Some(linker) = &store.linker {
        builder = builder.linker(Arc::clone(linker));
    }
    Ok(builder.open().await?)
}

fn print_changes(call: &str, report: &artifact_sync::SyncReport) {
    println!("{call}:");
    for changed in &report.changed {
        let stored = changed.key.as_ref().map_or("pending", |key| key.as_ref());
        println!("  changed {}: {stored} {}", changed.path, changed.url.as_deref().unwrap_or(""));
    }
    report.deleted.iter().for_each(|path| println!("  deleted {path}"));
    report.pending.iter().for_each(|pending| println!("  pending {}", pending.path));
}

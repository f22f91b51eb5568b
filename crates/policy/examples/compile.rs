//! Compiles the default policy for a directory against the files of this machine, and prints the
//! mounts and the creation rules:
//!
//! ```sh
//! cargo run -p policy --example compile -- /tmp
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::{MountOp, MountOptions, NodeKind, Policy, Tree};

fn main() -> Result<(), Box<dyn Error>> {
    let session_dir = match std::env::args_os().nth(1) {
        Some(dir) => fs::canonicalize(dir)?,
        None => std::env::current_dir()?,
    };
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root"));
    let policy = Policy::session(&session_dir).home(&home).build()?;
    let plan = policy.mounts(
        &HostTree,
        &MountOptions { private: vec!["/tmp".into()], ..MountOptions::default() },
    )?;

    for op in &plan.ops {
        let path = op.path().unwrap_or(Path::new("/")).display();
        match op {
            MountOp::Root | MountOp::RootWritable => println!("root    {path}"),
            MountOp::Private { .. } => println!("private {path}"),
            MountOp::HideDirectory { .. } | MountOp::HideFile { .. } => println!("hide    {path}"),
            MountOp::Bind { access, .. } => println!("bind    {path} ({access:?})"),
            other => println!("{other:?}"),
        }
    }
    for denied in &plan.creation_rules.denied_paths {
        println!("deny creation of {}", denied.path().display());
    }
    for rule in &plan.unenforced {
        println!("unenforced: {} {}: {}", rule.list, rule.rule, rule.reason);
    }
    Ok(())
}

/// The file system of this machine.
struct HostTree;

impl Tree for HostTree {
    fn kind(&self, path: &Path) -> io::Result<Option<NodeKind>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(node_kind(metadata.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, NodeKind)>> {
        fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name(), node_kind(entry.file_type()?)))
            })
            .collect()
    }

    fn read_start(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(path)?.take(max as u64).read_to_end(&mut content)?;
        Ok(content)
    }
}

fn node_kind(file_type: FileType) -> NodeKind {
    if file_type.is_dir() {
        NodeKind::Directory
    } else if file_type.is_file() {
        NodeKind::File
    } else if file_type.is_symlink() {
        NodeKind::Symlink
    } else {
        NodeKind::Other
    }
}

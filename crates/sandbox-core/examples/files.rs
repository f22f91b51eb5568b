//! Paths from an agent, and files that no symlink can redirect.
//!
//! Run it with `cargo run -p sandbox-core --example files`.

use std::error::Error;
use std::os::unix::fs::symlink;

use sandbox_core::{FileErrorKind, SessionDir, SessionId, SessionPath};

const MAX_BYTES: u64 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    // The id is safe as one path component.
    let id = SessionId::parse("conversation-1")?;
    let root = tempfile::tempdir()?;
    let session = SessionDir::create(&root.path().join(id.as_str()))?;

    // Three spellings of one path.
    let absolute = session.path().join("notes/may.txt").display().to_string();
    for input in ["notes/may.txt", "/notes//./may.txt", absolute.as_str()] {
        let path = SessionPath::resolve(session.path(), input)?;
        println!("{input} is {}", path.relative().ok_or("the session directory itself")?);
    }
    if let Err(error) = SessionPath::resolve(session.path(), "../conversation-2/secret") {
        println!("\nError: {error}");
    }

    // A write is atomic and creates the parent directory.
    let path = SessionPath::resolve(session.path(), "notes/may.txt")?;
    let notes = path.relative().ok_or("the session directory itself")?;
    session.write(notes, b"buy milk\n")?;
    print!("\n{notes} contains {}", String::from_utf8_lossy(&session.read(notes, MAX_BYTES)?));

    // The agent plants a symlink. The read fails instead of following it.
    symlink("/etc/passwd", session.path().join("innocent.txt"))?;
    let path = SessionPath::resolve(session.path(), "innocent.txt")?;
    let link = path.relative().ok_or("the session directory itself")?;
    match session.read(link, MAX_BYTES) {
        Err(error) if error.kind() == FileErrorKind::Escapes => println!("Error: {error}"),
        other => println!("unexpected: {other:?}"),
    }
    session.remove_all()?;
    Ok(())
}

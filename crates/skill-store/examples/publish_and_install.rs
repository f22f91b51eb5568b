//! Publishes a directory twice to a store in memory, and installs a version in a session:
//!
//! ```sh
//! cargo run -p skill-store --example publish_and_install -- path/to/skill
//! ```
//!
//! Without arguments, it publishes a skill of its own.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path as Key;
use sandbox_core::SessionDir;
use skill_store::{PublishOptions, SKILLS_DIRECTORY, SkillRef, SkillStore, prompt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let source = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        None => sample(&root.path().join("greet"))?,
    };
    let skills = SkillStore::new(Arc::new(InMemory::new()), Key::from("general"));
    let first = skills.publish(&source, &PublishOptions::default()).await?;
    println!("published {} version {} with {} files", first.id, first.version, first.files);
    let second = skills.publish(&source, &PublishOptions::default()).await?;
    println!("published {} version {}", second.id, second.version);

    let session = Arc::new(SessionDir::create(&root.path().join("session"))?);
    let state_dir = root.path().join("state");
    let skill: SkillRef = format!("{}@{}", second.id, second.version).parse()?;
    let report = skills.install(&skill, &session, &state_dir).await?;
    println!("installed {skill} in {SKILLS_DIRECTORY}/{}", report.skill.name);
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    let again = skills.install(&skill, &session, &state_dir).await?;
    println!("installed before: {}", again.was_installed);
    println!("{}", prompt(&[report.skill]));

    let absent: SkillRef = format!("{}@9", second.id).parse()?;
    if let Err(error) = skills.install(&absent, &session, &state_dir).await {
        println!("failed to install {absent} ({:?}): {error}", error.kind());
    }
    Ok(())
}

fn sample(dir: &Path) -> std::io::Result<PathBuf> {
    fs::create_dir(dir)?;
    let skill_file = "---\nname: greet\ndescription: Says hello. Use it to greet.\n---\n";
    fs::write(dir.join("SKILL.md"), skill_file)?;
    fs::write(dir.join("hello.sh"), "#!/bin/sh\necho hello\n")?;
    Ok(dir.to_owned())
}

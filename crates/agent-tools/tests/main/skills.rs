//! Skills of sessions, through the library.

use agent_tools::skill_store::PublishOptions;
use agent_tools::{SessionsBuilder, Storage};
use object_store::path::Path as Key;
use testkit::write_file;

use crate::session::{Fixture, spec};

#[tokio::test]
async fn an_agent_cannot_change_read_only_skills_and_the_host_still_replaces_them() {
    let fixture = Fixture::with(SessionsBuilder::read_only_skills);
    let storage = Storage::new(fixture.store.clone(), "bucket").with_prefix(Key::from("general"));
    let source = fixture.dir.path().join("source");
    write_file(&source, "SKILL.md", "---\nname: greet\ndescription: Says hello.\n---\n");
    for content in ["1", "2"] {
        write_file(&source, "f", content);
        storage.skills().publish(&source, &PublishOptions::default()).await.unwrap();
    }
    for version in ["1", "2"] {
        let skill = format!("greet@{version}").parse().unwrap();
        let spec = spec("s").skill(skill);
        let id = spec.id.clone();
        let session = fixture.sessions.open(spec).await.unwrap();
        let command = "cat skills/greet/f; for f in skills/greet/f skills/x; do echo x > $f; done; \
                       rm -rf skills/greet; mv skills moved; cat skills/greet/f; echo x > other";
        let output = session.bash(command).await.unwrap();
        assert_eq!(output.command_stdout(), format!("{version}{version}"), "{output:?}");
        session.write_file("skills/greet/f", b"x").await.unwrap_err();
        assert!(session.dir().join("other").exists());
        drop(session);
        fixture.sessions.release(&id).await;
    }
}

//! Skills of sessions, through the library.

use agent_tools::SessionsBuilder;

use crate::session::{Fixture, spec};

#[tokio::test]
async fn an_agent_cannot_change_read_only_skills_and_the_host_still_replaces_them() {
    let fixture = Fixture::with(SessionsBuilder::read_only_skills);
    fixture.publish_greet().await;
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

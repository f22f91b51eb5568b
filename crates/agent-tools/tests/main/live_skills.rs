//! Skills that an open session gets.

use std::path::Path;
use std::sync::Arc;

use agent_tools::secrets::{MapSource, SecretString};
use agent_tools::skill_store::PublishOptions;
use agent_tools::{
    ErrorKind, Home, Session, SessionId, SessionSpec, Sessions, Storage, VariableSelection,
};
use testkit::{Calls, FailingStore};

struct Fixture {
    dir: tempfile::TempDir,
    store: Arc<FailingStore>,
}

impl Fixture {
    /// Returns a store with three versions of a skill.
    async fn new() -> Self {
        let store = FailingStore::new();
        let fixture = Self { dir: tempfile::tempdir().unwrap(), store };
        let source = fixture.dir.path().join("greet");
        std::fs::create_dir(&source).unwrap();
        for version in 1..=3 {
            let text = format!("---\nname: greet\ndescription: Greets {version}.\n---\n");
            std::fs::write(source.join("SKILL.md"), text).unwrap();
            std::fs::write(source.join("version"), version.to_string()).unwrap();
            fixture.storage().skills().publish(&source, &PublishOptions::default()).await.unwrap();
        }
        fixture
    }

    fn storage(&self) -> Storage {
        Storage::new(self.store.clone(), "bucket")
    }

    fn sessions(&self) -> Sessions {
        let home = self.dir.path().canonicalize().unwrap().join("home");
        Sessions::builder(Home::new(home)).storage(self.storage()).build()
    }
}

fn with(skills: &[&str]) -> SessionSpec {
    let spec = SessionSpec::new(SessionId::parse("s1").unwrap());
    skills.iter().fold(spec, |spec, skill| spec.skill(skill.parse().unwrap()))
}

fn installed(session: &Session) -> Vec<String> {
    let skills = session.skills();
    skills.iter().map(|skill| format!("{}@{}={}", skill.id, skill.version, skill.name)).collect()
}

fn version(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("skills/greet/version")).unwrap()
}

#[tokio::test]
async fn an_open_session_gets_new_skills_and_other_versions_and_keeps_the_rest() {
    let fixture = Fixture::new().await;
    let sessions = fixture.sessions();
    let session = sessions.open(with(&[])).await.unwrap();
    session.bash("true").await.unwrap();
    assert!(session.skills_prompt().is_none());

    sessions.open(with(&["greet@1", "greet@2=other"])).await.unwrap();
    assert_eq!(installed(&session), ["greet@1=greet", "greet@2=other"]);
    let ran = session.bash("cat skills/greet/version skills/other/version").await.unwrap();
    assert_eq!(ran.command_stdout(), "12");

    sessions.open(with(&["greet@3"])).await.unwrap();
    assert_eq!(installed(&session), ["greet@3=greet", "greet@2=other"]);
    let prompt = session.skills_prompt().unwrap();
    assert!(prompt.contains("Greets 3.") && prompt.contains("Greets 2."), "{prompt}");
    assert_eq!(version(session.dir()), "3");

    // No request is sent for a version that is there.
    let before = fixture.store.count(Calls::All);
    sessions.open(with(&["greet@3"])).await.unwrap();
    assert_eq!(fixture.store.count(Calls::All), before);
    session.bash("rm -r skills/greet").await.unwrap();
    sessions.open(with(&["greet@3"])).await.unwrap();
    assert_eq!(version(session.dir()), "3");

    let error = sessions.open(with(&["greet@9"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(installed(&session)[0], "greet@3=greet");
    assert_eq!(session.bash("cat skills/greet/version").await.unwrap().command_stdout(), "3");
}

#[tokio::test]
async fn a_session_that_another_process_serves_gets_skills_and_keeps_them_when_it_is_reopened() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.sessions(), fixture.sessions());
    let server = first.open(with(&["greet@1"])).await.unwrap();
    let client = second.open(with(&["greet@2"])).await.unwrap();
    assert!(client.is_served_elsewhere());
    assert_eq!((installed(&server), installed(&client)), {
        let expected = vec!["greet@2=greet".to_owned()];
        (expected.clone(), expected)
    });
    let error = second.open(with(&["greet@9"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Without a version, it is the latest one.
    second.open(with(&["greet", "greet@1=other"])).await.unwrap();
    assert_eq!(client.bash("cat skills/*/version").await.unwrap().command_stdout(), "31");

    drop(server);
    first.release(client.id()).await;
    assert_eq!(client.bash("cat skills/*/version").await.unwrap().command_stdout(), "31");
    assert!(!client.is_served_elsewhere());
    assert_eq!(installed(&client), ["greet@3=greet", "greet@1=other"]);
}

#[tokio::test]
async fn a_skill_that_an_open_session_gets_selects_its_variables() {
    let fixture = Fixture::new().await;
    let source = fixture.dir.path().join("needs");
    std::fs::create_dir(&source).unwrap();
    for names in ["ONE", "TWO"] {
        let metadata = format!("metadata:\n  variables: {names}");
        let text = format!("---\nname: needs\ndescription: Needs values.\n{metadata}\n---\n");
        std::fs::write(source.join("SKILL.md"), text).unwrap();
        fixture.storage().skills().publish(&source, &PublishOptions::default()).await.unwrap();
    }
    let values = [("ONE", "first-value"), ("TWO", "second-value"), ("THREE", "third-value")]
        .map(|(name, value)| (name, SecretString::from(value)));
    let home = fixture.dir.path().canonicalize().unwrap().join("home");
    let sessions = Sessions::builder(Home::new(home))
        .storage(fixture.storage())
        .variables(Arc::new(MapSource::new(values)))
        .build();
    let request = |skills: &[&str]| {
        let mut spec = with(skills);
        spec.variables = VariableSelection::OfSkills;
        spec
    };
    let session = sessions.open(request(&["greet@1"])).await.unwrap();
    let given = async || {
        let ran = session.bash("echo ${ONE:0:9} ${TWO:0:9} ${THREE:0:9}").await.unwrap();
        ran.command_stdout().trim().to_owned()
    };
    assert_eq!(given().await, "");
    sessions.open(request(&["needs@1"])).await.unwrap();
    assert_eq!(given().await, "first-val");
    // The agent cannot request more by changing its copy.
    session.bash("sed -i s/ONE/THREE/ skills/needs/SKILL.md; echo $ONE > old").await.unwrap();
    sessions.open(request(&["needs@1"])).await.unwrap();
    assert_eq!(given().await, "first-val");
    sessions.open(request(&["needs@2"])).await.unwrap();
    assert_eq!(given().await, "second-va");
    // A value that the session had before is still redacted.
    assert_eq!(session.read_file("old").await.unwrap().content, "[redacted:ONE]\n");
    // The skill before one that fails is installed, and counts.
    sessions.open(request(&["needs@1", "greet@9"])).await.unwrap_err();
    assert_eq!(given().await, "first-val");
}

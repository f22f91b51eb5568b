//! A home and a store in memory for the tests of sessions.

use std::sync::Arc;

use agent_tools::secrets::{LoadedVariables, SecretString, SourceError};
use agent_tools::skill_store::PublishOptions;
use agent_tools::{
    Home, Session, SessionId, SessionSpec, Sessions, SessionsBuilder, Storage, UserId,
    VariableSource,
};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use testkit::write_file;

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<InMemory>,
    pub(crate) sessions: Sessions,
    builder: SessionsBuilder,
}

pub(crate) fn spec(id: &str) -> SessionSpec {
    SessionSpec::new(SessionId::parse(id).unwrap()).user(UserId::parse("7").unwrap())
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// Creates a fixture whose host runs programs in session directories.
    pub(crate) fn with_protected_names() -> Self {
        Self::with(SessionsBuilder::protect_names)
    }

    pub(crate) fn with(change: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        let storage = Storage::new(store.clone(), "bucket").with_prefix(Key::from("general"));
        let home = Home::new(dir.path().canonicalize().unwrap().join("home"));
        let builder = change(Sessions::builder(home).storage(storage));
        Self { dir, store, sessions: builder.clone().build(), builder }
    }

    pub(crate) async fn open(&self, id: &str) -> Arc<Session> {
        self.sessions.open(spec(id)).await.unwrap()
    }

    /// Publishes two versions of the skill `greet`, whose file `f` has the number of its version.
    pub(crate) async fn publish_greet(&self) {
        let storage = Storage::new(self.store.clone(), "bucket").with_prefix(Key::from("general"));
        let source = self.dir.path().join("source");
        write_file(&source, "SKILL.md", "---\nname: greet\ndescription: Says hello.\n---\n");
        for content in ["1", "2"] {
            write_file(&source, "f", content);
            storage.skills().publish(&source, &PublishOptions::default()).await.unwrap();
        }
    }

    /// Returns further sessions with the same settings, as those of another process.
    pub(crate) fn other_process(&self) -> Sessions {
        self.builder.clone().build()
    }
}

/// A source with one variable, whose value results do not show.
#[derive(Debug)]
pub(crate) struct Token;

#[async_trait::async_trait]
impl VariableSource for Token {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let mut loaded = LoadedVariables::default();
        loaded.insert("TOKEN", SecretString::from("hunter2-hunter2"));
        Ok(loaded)
    }
}

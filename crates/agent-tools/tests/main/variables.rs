//! Variables of open sessions, which follow their source.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agent_tools::VariableSource;
use agent_tools::secrets::{
    Changed, LoadedVariables, RELOAD_AFTER, Revision, SecretString, SourceError,
};

use crate::session::Fixture;

/// A source whose values a test changes.
#[derive(Debug, Default)]
struct Changing {
    state: Mutex<State>,
    /// True if it reports changes.
    reports: bool,
}

#[derive(Debug, Default)]
struct State {
    value: Option<&'static str>,
    version: u8,
    loads: usize,
    /// Number of times that a load yields first.
    yields: usize,
}

impl Changing {
    fn new(reports: bool) -> Arc<Self> {
        Arc::new(Self { reports, ..Self::default() })
    }

    /// Sets the value of `TOKEN`, or lets loads fail.
    fn set(&self, value: Option<&'static str>) {
        let mut state = self.state.lock().unwrap();
        (state.value, state.version) = (value, state.version + 1);
    }

    fn loads(&self) -> usize {
        self.state.lock().unwrap().loads
    }
}

#[async_trait::async_trait]
impl VariableSource for Changing {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let yields = self.state.lock().unwrap().yields;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let mut state = self.state.lock().unwrap();
        state.loads += 1;
        let Some(value) = state.value else {
            let source = "it is down".into();
            return Err(SourceError::Unreachable { origin: "the source".to_owned(), source });
        };
        let mut loaded = LoadedVariables::default();
        loaded.insert("TOKEN", SecretString::from(value));
        loaded.revision = self.reports.then(|| Revision::new([state.version]));
        Ok(loaded)
    }

    async fn changed_since(&self, revision: &Revision) -> Changed {
        let current = Revision::new([self.state.lock().unwrap().version]);
        if current == *revision { Changed::No } else { Changed::Yes }
    }
}

fn fixture(source: &Arc<Changing>) -> Fixture {
    let source = Arc::clone(source);
    Fixture::with(|builder| builder.variables(source))
}

/// Lets 30 s pass for the session.
async fn let_time_pass() {
    tokio::time::pause();
    tokio::time::advance(RELOAD_AFTER + Duration::from_millis(1)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_reported_change_holds_for_the_next_command_and_both_values_are_redacted() {
    let source = Changing::new(true);
    source.set(Some("first-value"));
    let fixture = fixture(&source);
    let session = fixture.open("s1").await;
    let length = async || session.bash("echo ${#TOKEN}; echo $TOKEN > f$1").await.unwrap().stdout;
    session.bash("echo $TOKEN > old").await.unwrap();
    assert!(length().await.starts_with("11\n"));
    assert_eq!(source.loads(), 1, "nothing has changed");
    source.set(Some("another-value"));
    assert!(length().await.starts_with("13\n"));
    assert_eq!(source.loads(), 2);
    let shown = session.bash("cat old; echo $TOKEN").await.unwrap();
    assert_eq!(shown.command_stdout(), "[redacted:TOKEN]\n[redacted:TOKEN]\n");
    assert_eq!(session.read_file("old").await.unwrap().content, "[redacted:TOKEN]\n");
}

#[tokio::test]
async fn a_source_that_reports_no_change_is_loaded_again_after_30_s() {
    let source = Changing::new(false);
    source.set(Some("first-value"));
    let fixture = fixture(&source);
    let session = fixture.open("s1").await;
    let length = async || session.bash("echo ${#TOKEN}").await.unwrap().stdout;
    source.set(Some("another-value"));
    assert_eq!(length().await, "11\n");
    let_time_pass().await;
    assert_eq!(length().await, "13\n");
    assert_eq!(length().await, "13\n");
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_failed_load_is_reported_once_and_the_variables_stay() {
    let source = Changing::new(true);
    source.set(Some("first-value"));
    let fixture = fixture(&source);
    let session = fixture.open("s1").await;
    let run = async || session.bash("echo ${#TOKEN}").await.unwrap();
    source.set(None);
    let failed = run().await;
    assert_eq!(failed.stdout, "11\n");
    let expected = "the variables could not be loaded again, so commands have those of before: \
                    the variables in the source cannot be reached: it is down";
    assert_eq!(failed.warnings, [expected]);
    assert_eq!(run().await.warnings, [""; 0]);
    source.set(Some("another-value"));
    assert_eq!(run().await.stdout, "13\n");
    source.set(None);
    assert_eq!(run().await.warnings, [expected]);
}

#[tokio::test]
async fn a_source_that_is_down_does_not_delay_every_command() {
    let source = Changing::new(false);
    source.set(Some("first-value"));
    let fixture = fixture(&source);
    let session = fixture.open("s1").await;
    source.set(None);
    let_time_pass().await;
    for _ in 0..3 {
        assert_eq!(session.bash("echo ${#TOKEN}").await.unwrap().stdout, "11\n");
    }
    assert_eq!(source.loads(), 2);
}

#[tokio::test]
async fn a_command_that_is_dropped_during_a_load_leaves_the_next_one_whole() {
    let source = Changing::new(true);
    source.set(Some("first-value"));
    let fixture = fixture(&source);
    let session = fixture.open("s1").await;
    source.set(Some("another-value"));
    source.state.lock().unwrap().yields = 5;
    for polls in 0..8 {
        let mut call = pin!(session.bash("echo ${#TOKEN}"));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if let Poll::Ready(result) = call.as_mut().poll(&mut context) {
                result.unwrap();
                break;
            }
        }
    }
    assert_eq!(session.bash("echo ${#TOKEN}").await.unwrap().stdout, "13\n");
}

#[tokio::test]
async fn redaction_can_be_turned_off() {
    let source = Changing::new(true);
    source.set(Some("first-value"));
    let source = Arc::clone(&source);
    let fixture = Fixture::with(|builder| builder.variables(source).without_redaction());
    let session = fixture.open("s1").await;
    let shown = session.bash("echo $TOKEN").await.unwrap();
    assert_eq!((shown.stdout.as_str(), shown.redacted.len()), ("first-value\n", 0));
}

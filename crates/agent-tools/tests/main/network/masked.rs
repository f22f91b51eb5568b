//! Masked variables: commands have placeholders, and only requests to their hosts have the values.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use agent_tools::secrets::{
    Changed, LoadedVariables, MaskSpec, Revision, SecretString, SourceError,
};
use agent_tools::{
    BashOutput, ConnectionOutcome, ErrorKind, Session, Tier, VariableSource, Weakness,
};

use super::origin::Origin;
use super::{refused, to};
use crate::session::{Fixture, spec};

pub(super) const VALUE: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// A name, a value, and perhaps a mask.
pub(super) type Row = (&'static str, &'static str, Option<MaskSpec>);

/// A source whose variables a test changes.
#[derive(Debug, Default)]
pub(super) struct Source {
    rows: Mutex<Vec<Row>>,
    version: AtomicU8,
}

impl Source {
    pub(super) fn new(rows: &[Row]) -> Arc<Self> {
        let source = Arc::<Self>::default();
        source.set(rows);
        source
    }

    pub(super) fn set(&self, rows: &[Row]) {
        *self.rows.lock().unwrap() = rows.to_vec();
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn revision(&self) -> Revision {
        Revision::new([self.version.load(Ordering::Relaxed)])
    }
}

#[async_trait::async_trait]
impl VariableSource for Source {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let mut loaded = LoadedVariables::default();
        for (name, value, mask) in &*self.rows.lock().unwrap() {
            let value = SecretString::from(*value);
            match mask {
                Some(mask) => loaded.insert_masked(name, value, mask.clone()),
                None => loaded.insert(name, value),
            }
        }
        loaded.revision = Some(self.revision());
        Ok(loaded)
    }

    async fn changed_since(&self, revision: &Revision) -> Changed {
        if self.revision() == *revision { Changed::No } else { Changed::Yes }
    }
}

fn fixture(source: &Arc<Source>) -> Fixture {
    let source = Arc::clone(source);
    Fixture::with(|builder| builder.variables(source))
}

async fn bash(session: &Session, command: &str) -> BashOutput {
    session.bash(command).await.unwrap()
}

#[tokio::test]
async fn a_value_goes_to_its_hosts_only_and_the_record_names_it() {
    let origin = Origin::start();
    let source = Source::new(&[("KEY", VALUE, None), ("OTHER", "another long value", None)]);
    let fixture = fixture(&source);
    let mask = MaskSpec::new(["origin.test"]).allow_plaintext();
    let request = spec("s1").network(to(&origin)).mask_with("KEY", mask).mask("OTHER", ["b.test"]);
    let session = fixture.sessions.open(request).await.unwrap();
    let warnings = session.warnings().join("\n");
    assert!(warnings.contains("OTHER: masked, and none of its hosts is allowed"), "{warnings}");

    let seen =
        bash(&session, "echo $KEY; env | grep -c ghp_; curl -sS http://origin.test/?k=$KEY").await;
    let lines: Vec<&str> = seen.stdout.lines().collect();
    assert!(lines[0].starts_with("ghp_") && lines[0].len() == VALUE.len(), "{lines:?}");
    assert_ne!(lines[0], VALUE);
    assert_eq!(lines[1..], ["1", "hello"]);
    assert_eq!(origin.requests(), [format!("GET /?k={VALUE} HTTP/1.1")]);
    let events = session.network_events();
    let masked = events.iter().find(|event| event.outcome == ConnectionOutcome::Masked).unwrap();
    assert_eq!(masked.rule, "the value of KEY was inserted");
    assert_eq!(masked.target(), "origin.test:80");

    // The placeholder of another host is refused, and the result says how to allow it.
    let refusal = bash(&session, "curl -sSf http://origin.test/?k=$OTHER").await;
    assert_ne!(refusal.exit_code, 0);
    assert_eq!(refused(&refusal), ["origin.test:80"]);
    assert_eq!(refusal.denied[0].rule, "the placeholder of OTHER is for other hosts");
    let remedy = refusal.denied[0].remedy.as_deref().unwrap();
    assert!(remedy.starts_with("add origin.test to the hosts of OTHER"), "{remedy}");
    assert_eq!(origin.requests().len(), 1);

    // The masks of an open session stay.
    let error = fixture.sessions.open(spec("s1").mask("KEY", ["b.test"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Differs, "{error}");
    fixture.sessions.open(spec("s1")).await.unwrap();

    // What a command gets to know otherwise is redacted as ever.
    session.write_file("known", VALUE.as_bytes()).await.unwrap();
    assert_eq!(bash(&session, "cat known").await.command_stdout(), "[redacted:KEY]");
}

#[tokio::test]
async fn a_result_tells_why_a_placeholder_stayed_and_a_connection_failed() {
    let origin = Origin::start();
    let source = Source::new(&[("KEY", VALUE, Some(MaskSpec::new(["origin.test"])))]);
    let fixture = fixture(&source);
    let mut network = to(&origin).resolve("gone.test:80:127.0.0.1:1".parse().unwrap());
    network.allowed.push("gone.test:80".to_owned());
    let session = fixture.sessions.open(spec("s1").network(network)).await.unwrap();
    let hint = async |command: &str| bash(&session, command).await.hint;
    assert_eq!(hint("curl -sS http://origin.test/").await, None);
    let kept = "connect origin.test:80: the placeholder of KEY went out as it is, because values \
                go only over TLS; use https, or set the variable with --allow-plaintext";
    let get = "curl -s http://origin.test/$KEY http://origin.test/?$KEY >/dev/null";
    assert_eq!(hint(get).await.as_deref(), Some(kept));
    // A tool that hides its error has failed all the same.
    let gone = "connect gone.test:80: the host cannot be reached: connection refused";
    assert_eq!(hint("curl -s http://gone.test/; true").await.as_deref(), Some(gone));
    let events = session.network_events();
    let outcomes: Vec<_> = events.iter().map(|event| event.outcome).collect();
    assert!(outcomes.contains(&ConnectionOutcome::Intact), "{outcomes:?}");
    assert!(outcomes.contains(&ConnectionOutcome::Failed), "{outcomes:?}");
}

#[tokio::test]
async fn masks_follow_the_source_while_the_session_is_open() {
    let origin = Origin::start();
    let mask = || Some(MaskSpec::new(["origin.test"]).allow_plaintext());
    let source = Source::new(&[("KEY", "the first long value", mask())]);
    let fixture = fixture(&source);
    let session = fixture.sessions.open(spec("s1").network(to(&origin))).await.unwrap();
    let send = async || {
        let get = "curl -sS http://origin.test/?$KEY >/dev/null; echo $KEY";
        bash(&session, get).await.stdout.trim().to_owned()
    };
    let last = || origin.requests().pop().unwrap();
    let placeholder = send().await;
    assert_eq!(last(), "GET /?the%20first%20long%20value HTTP/1.1");
    source.set(&[("KEY", "the second long value", mask())]);
    assert_eq!(send().await, placeholder, "the session keeps its placeholder");
    assert_eq!(last(), "GET /?the%20second%20long%20value HTTP/1.1");
    // A mask that is invalid hides the variable.
    source.set(&[("KEY", "the third long value", Some(MaskSpec::new(["*"])))]);
    let hidden = bash(&session, "echo [$KEY]").await;
    assert_eq!(hidden.stdout, "[]\n");
    assert!(hidden.warnings[0].contains("KEY: commands do not get it"), "{:?}", hidden.warnings);
    // Another variable is masked in the open session.
    source.set(&[("KEY", "visible", None), ("NEW", VALUE, mask())]);
    let shown = bash(&session, "echo ${#KEY}; curl -sS http://origin.test/?$NEW >/dev/null").await;
    assert_eq!(shown.stdout, "7\n");
    assert_eq!(last(), format!("GET /?{VALUE} HTTP/1.1"));
}

#[tokio::test]
async fn without_a_network_the_placeholder_stays_and_that_is_reported() {
    let source = Source::new(&[("KEY", VALUE, Some(MaskSpec::new(["origin.test"])))]);
    let landlock = Tier::Landlock { accepted: Weakness::ALL.to_vec() };
    for tier in [Tier::Namespaces, landlock] {
        let source = Arc::clone(&source);
        let fixture = Fixture::with(|builder| builder.variables(source).tier(tier));
        let session = fixture.sessions.open(spec("s1")).await.unwrap();
        let warnings = session.warnings().join("\n");
        assert!(warnings.contains("variable KEY: masked, and the session has no network"));
        let shown = bash(&session, "echo $KEY").await.stdout;
        assert!(shown.starts_with("ghp_") && shown.trim() != VALUE, "{shown}");
        // A file may have it when the session is opened again.
        session.release().await;
        let again = fixture.sessions.open(spec("s1")).await.unwrap();
        assert_eq!(bash(&again, "echo $KEY").await.stdout, shown);
    }
}

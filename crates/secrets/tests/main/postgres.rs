//! Variables in a PostgreSQL table that another application created.

mod server;

use std::net::TcpListener;
use std::sync::Arc;

use secrets::cryptojs;
use secrets::sql::{Encryption, VariableHosts, VariableStore};
use secrets::{
    ErrorKind, ExposeSecret as _, MaskSpec, SecretString, SourceError, VariableSource as _,
};
use sqlx::Connection as _;
use testkit::skipped;

use self::server::{PASSWORD, Server};

const PASSPHRASE: &str = "correct horse";

/// The table of the application, with columns that this crate does not need.
const TABLE: &str = r#"
    CREATE TABLE variables (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        name varchar(255),
        value text,
        encrypted boolean DEFAULT false,
        "createdDate" timestamp DEFAULT now()
    );
"#;

fn server() -> Option<Arc<Server>> {
    let server = Server::shared();
    if server.is_none() {
        skipped("variables in PostgreSQL", "apt-get install postgresql");
    }
    server
}

async fn connect(url: &str) -> Result<VariableStore, SourceError> {
    VariableStore::connect(url, Some(SecretString::from(PASSPHRASE))).await
}

/// Returns an error with its causes. Asserts that they contain neither user nor password.
#[track_caller]
fn text_with_causes(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(one) = cause {
        text += &format!(": {one}");
        cause = one.source();
    }
    let all = format!("{text} {error:?}");
    assert!(!all.contains(PASSWORD) && !all.contains("hunter2") && !all.contains("app"), "{all}");
    text
}

#[tokio::test]
async fn a_table_with_further_columns_and_invalid_rows_is_loaded() {
    let Some(server) = server() else { return };
    let url = server.database("foreign_table", TABLE).await;
    let mut connection = server.connect("foreign_table").await;
    let encrypted = cryptojs::encrypt("hunter2", PASSPHRASE).unwrap();
    let rows: [(Option<&str>, Option<&str>, Option<bool>); 9] = [
        (Some("TOKEN"), Some(&encrypted), Some(true)),
        (Some("PLAIN"), Some("é"), Some(false)),
        (Some("UNKNOWN"), Some("x"), None),
        (Some("DAMAGED"), Some("U2FsdGVkX19h"), Some(true)),
        (Some("TWICE"), Some("x"), Some(false)),
        (Some("TWICE"), Some("x"), Some(false)),
        (Some("_HIDDEN"), Some("x"), Some(false)),
        (Some("WITHOUT"), None, Some(false)),
        (None, Some("x"), Some(false)),
    ];
    for (name, value, encrypted) in rows {
        let insert =
            sqlx::query("INSERT INTO variables (name, value, encrypted) VALUES ($1, $2, $3)");
        insert.bind(name).bind(value).bind(encrypted).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();

    let loaded = connect(&url).await.unwrap().load().await.unwrap();
    let values: Vec<_> =
        loaded.variables.iter().map(|(name, value)| (name, value.expose_secret())).collect();
    assert_eq!(values, [("PLAIN", "é"), ("TOKEN", "hunter2"), ("TWICE", "x")]);
    let mut skipped: Vec<_> =
        loaded.skipped.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect();
    skipped.sort();
    assert_eq!(
        skipped,
        [
            ": its name is empty",
            "DAMAGED: the encrypted value is cut short",
            "TWICE: another entry has the same name",
            "UNKNOWN: its column `encrypted` is neither true nor false, but must be one of them",
            "WITHOUT: it has no value",
            "_HIDDEN: its name starts with `_`",
        ]
    );
}

#[tokio::test]
async fn a_stored_variable_is_loaded_listed_and_removed() {
    let Some(server) = server() else { return };
    let url = server.database("set_and_removed", TABLE).await;
    let store = connect(&url).await.unwrap();
    store.set("TOKEN", "first".into(), Encryption::Plain).await.unwrap();
    store.set("TOKEN", "second".into(), Encryption::CryptoJs).await.unwrap();
    store.set("OTHER", "x".into(), Encryption::Plain).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.variables.get("TOKEN").unwrap().expose_secret(), "second");
    let listed: Vec<_> =
        store.list().await.unwrap().into_iter().map(|one| (one.name, one.encryption)).collect();
    let (plain, encrypted) = (Some(Encryption::Plain), Some(Encryption::CryptoJs));
    assert_eq!(listed, [("OTHER".into(), plain), ("TOKEN".into(), encrypted)]);
    assert!(store.remove("TOKEN").await.unwrap());
    assert!(!store.remove("TOKEN").await.unwrap());
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_table_keeps_hosts_if_it_has_a_column_for_them() {
    let Some(server) = server() else { return };
    let hosts = VariableHosts::masked(MaskSpec::new(["api.test"]));
    let set = async |database: &'static str, table: &'static str| {
        let store = connect(&server.database(database, table).await).await.unwrap();
        let set = store.set_with_hosts("KEY", "a value".into(), Encryption::CryptoJs, Some(&hosts));
        (set.await, store)
    };
    let (stored, _) = set("without_hosts", TABLE).await;
    let error = stored.unwrap_err();
    assert!(matches!(error, SourceError::NoHostsColumn { .. }), "{error:?}");
    let with_hosts = "CREATE TABLE variables (name text, value text, encrypted bool, hosts text)";
    let (stored, store) = set("with_hosts", with_hosts).await;
    stored.unwrap();
    store.set("KEY", "another value".into(), Encryption::CryptoJs).await.unwrap();
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.masks.get("KEY"), Some(&hosts.mask));
    assert_eq!(store.list().await.unwrap()[0].hosts, Some(hosts.clone()));
}

#[tokio::test]
async fn two_stores_that_set_one_new_name_concurrently_create_one_row() {
    let Some(server) = server() else { return };
    let url = server.database("at_once", TABLE).await;
    let (one, other) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    for number in 0..20 {
        let name = format!("N{number}");
        let set = |store| VariableStore::set(store, &name, "x".into(), Encryption::Plain);
        let (first, second) = tokio::join!(set(&one), set(&other));
        first.and(second).unwrap();
    }
    assert_eq!(one.list().await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let Some(server) = server() else { return };
    let url = server.database("ended", TABLE).await;
    let store = connect(&url).await.unwrap();
    store.set("A", "x".into(), Encryption::Plain).await.unwrap();
    let mut connection = server.connect("postgres").await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ended'")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(store.load().await.unwrap().variables.len(), 1);
}

#[tokio::test]
async fn a_connection_that_is_dropped_during_a_read_is_an_error_and_the_next_read_works() {
    let Some(server) = server() else { return };
    let url = server.database("dropped", TABLE).await;
    let store = connect(&url).await.unwrap();
    store.set("A", "x".into(), Encryption::Plain).await.unwrap();
    let mut other = server.connect("dropped").await;
    let mut locked = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE variables").execute(&mut *locked).await.unwrap();
    // The read waits for the lock, so it has begun when its connection is dropped.
    let drop_reader = async {
        let mut connection = server.connect("postgres").await;
        loop {
            let ended: Vec<bool> = sqlx::query_scalar(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = 'dropped' AND wait_event_type = 'Lock'",
            )
            .fetch_all(&mut connection)
            .await
            .unwrap();
            if !ended.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (read, ()) = tokio::join!(store.load(), drop_reader);
    let error = read.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(text_with_causes(&error).contains("postgres://localhost/dropped"));
    locked.rollback().await.unwrap();
    assert_eq!(store.load().await.unwrap().variables.len(), 1);
}

#[tokio::test]
async fn a_missing_table_or_column_is_an_error_and_not_created() {
    let Some(server) = server() else { return };
    for (name, statements) in
        [("no_table", "SELECT 1"), ("no_column", "CREATE TABLE variables (name text, value text)")]
    {
        let url = server.database(name, statements).await;
        let error = connect(&url).await.unwrap_err();
        assert!(matches!(error, SourceError::Schema { .. }), "{error:?}");
        assert!(text_with_causes(&error).contains(name));
    }
    let mut connection = server.connect("no_table").await;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE tablename = 'variables'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn the_error_of_an_invalid_row_does_not_quote_it() {
    let Some(server) = server() else { return };
    let url = server
        .database(
            "invalid_row",
            "CREATE TABLE variables (name text, value varchar(3), encrypted bool)",
        )
        .await;
    let error = connect(&url)
        .await
        .unwrap()
        .set("A", "hunter2".into(), Encryption::Plain)
        .await
        .unwrap_err();
    assert!(
        text_with_causes(&error).ends_with("the row is invalid (SQLSTATE 22001)"),
        "{}",
        text_with_causes(&error)
    );
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_have_different_errors() {
    let Some(server) = server() else { return };
    let wrong = format!(
        "postgres://app:hunter2wrong@localhost/postgres?host={}",
        server.socket_directory()
    );
    let error = connect(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(
        text_with_causes(&error).contains("postgres://localhost/postgres"),
        "{}",
        text_with_causes(&error)
    );

    let error = connect(&server.url("absent")).await.unwrap_err();
    assert!(
        text_with_causes(&error).contains("database \"absent\" does not exist"),
        "{}",
        text_with_causes(&error)
    );
}

#[tokio::test]
async fn debug_of_a_store_shows_no_password() {
    let Some(server) = server() else { return };
    let url = server.database("debug_shown", TABLE).await;
    let store = connect(&url).await.unwrap();
    let shown = format!("{store:?}");
    assert!(
        shown.contains("postgres://localhost/debug_shown") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_closed_port_is_reported_immediately() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(&format!("postgres://app:hunter2@{address}/main?sslmode=disable"))
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!("the variables in postgres://{address}/main cannot be reached")
    );
    assert!(text_with_causes(&error).contains("refused"), "{}", text_with_causes(&error));
}

#[tokio::test]
async fn a_missing_or_invalid_tls_file_is_an_error_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (parameter, file) in
        [("sslrootcert", "/absent/root.pem"), ("sslkey", "/absent/key.pem"), ("ssl-ca", "")]
    {
        let file = if file.is_empty() { empty.to_str().unwrap() } else { file };
        let url = format!("postgres://app:hunter2@127.0.0.1:1/main?{parameter}={file}");
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(!error.is_retryable());
        assert!(error.to_string().ends_with(file), "{error}");
    }
    let unused = "postgres://app@127.0.0.1:1/main?sslmode=disable&sslrootcert=/absent/root.pem";
    assert_eq!(connect(unused).await.unwrap_err().kind(), ErrorKind::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_responds_is_unreachable_after_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let error = connect(&format!("postgres://app:hunter2@{address}/main")).await.unwrap_err();
    assert!(
        text_with_causes(&error).ends_with("no response within 5 seconds"),
        "{}",
        text_with_causes(&error)
    );
    assert!(error.is_retryable());
}

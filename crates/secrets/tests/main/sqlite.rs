//! Variables in an SQLite file.

mod foreign;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use secrets::sql::{Encryption, VariableHosts, VariableStore};
use secrets::{
    ErrorKind, ExposeSecret as _, MaskSpec, SecretString, SkipReason, VariableSource as _,
};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

const PASSPHRASE: &str = "correct horse";

async fn open(path: &Path, passphrase: Option<&str>) -> VariableStore {
    VariableStore::connect_or_create(&url(path), passphrase.map(SecretString::from)).await.unwrap()
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// Executes statements that the store never executes.
async fn tamper(path: &Path, statements: &'static str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn loaded(store: &VariableStore) -> Vec<(String, String)> {
    let loaded = store.load().await.unwrap();
    loaded
        .variables
        .iter()
        .map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned()))
        .collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_stored_variable_is_loaded_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let store = open(&path, Some(PASSPHRASE)).await;
    store.set("TOKEN", "hunter2 é".into(), Encryption::CryptoJs).await.unwrap();
    store.set("PLAIN", "first".into(), Encryption::Plain).await.unwrap();
    store.set("PLAIN", "second".into(), Encryption::Plain).await.unwrap();
    store.set("EMPTY", "".into(), Encryption::CryptoJs).await.unwrap();

    drop(store);
    let store = open(&path, Some(PASSPHRASE)).await;
    let all = [pair("EMPTY", ""), pair("PLAIN", "second"), pair("TOKEN", "hunter2 é")];
    assert_eq!(loaded(&store).await, all);
    let listed: Vec<_> =
        store.list().await.unwrap().into_iter().map(|one| (one.name, one.encryption)).collect();
    let (plain, encrypted) = (Some(Encryption::Plain), Some(Encryption::CryptoJs));
    let expected = [("EMPTY", encrypted), ("PLAIN", plain), ("TOKEN", encrypted)];
    assert_eq!(listed, expected.map(|(name, form)| (name.to_owned(), form)));

    assert!(store.remove("TOKEN").await.unwrap());
    assert!(!store.remove("TOKEN").await.unwrap());
    assert_eq!(loaded(&store).await, all[..2]);
}

#[tokio::test]
async fn hosts_are_kept_until_they_are_set_and_mask_the_variable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let store = open(&path, Some(PASSPHRASE)).await;
    let hosts = VariableHosts::masked(MaskSpec::new(["api.test", "*.svc.test:443"]));
    let set = async |value: &str, hosts: Option<&VariableHosts>| {
        store.set_with_hosts("KEY", value.into(), Encryption::CryptoJs, hosts).await.unwrap();
    };
    set("a first value", Some(&hosts)).await;
    store.set("PLAIN", "open".into(), Encryption::Plain).await.unwrap();
    // A new value does not unmask the variable.
    store.set("KEY", "second".into(), Encryption::CryptoJs).await.unwrap();
    assert_eq!(store.list().await.unwrap()[0].hosts, Some(hosts.clone()));
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.masks.into_iter().collect::<Vec<_>>(), [("KEY".into(), hosts.mask.clone())]);
    assert_eq!(loaded.variables.get("KEY").unwrap().expose_secret(), "second");
    set("a third value", Some(&VariableHosts::unmasked(hosts.mask))).await;
    assert!(store.load().await.unwrap().masks.is_empty());
    set("fourth", None).await;
    assert_eq!(store.list().await.unwrap()[0].hosts, None);
    tamper(&path, "UPDATE variables SET hosts = 'api.test' WHERE name = 'KEY'").await;
    let loaded = store.load().await.unwrap();
    assert!(loaded.variables.get("KEY").is_none());
    assert_eq!(loaded.skipped[0].reason, SkipReason::InvalidHosts);
}

#[tokio::test]
async fn the_file_contains_neither_encrypted_nor_removed_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let store = open(&path, Some(PASSPHRASE)).await;
    store.set("PLAIN", "a value to be found".into(), Encryption::Plain).await.unwrap();
    store.set("TOKEN", "a value to be hidden".into(), Encryption::CryptoJs).await.unwrap();
    let holds = |text: &str| {
        fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(holds("a value to be found"));
    assert!(!holds("a value to be hidden"));
    store.remove("PLAIN").await.unwrap();
    assert!(!holds("a value to be found"), "the file contains a removed value");
}

#[tokio::test]
async fn a_value_that_cannot_be_decrypted_is_skipped_and_the_others_load() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let store = open(&path, Some(PASSPHRASE)).await;
    store.set("A", "one".into(), Encryption::CryptoJs).await.unwrap();
    store.set("B", "two".into(), Encryption::Plain).await.unwrap();
    tamper(
        &path,
        "INSERT INTO variables (name, value, encrypted) VALUES \
         ('CUT', 'U2FsdGVkX1+8', 1), ('_HIDDEN', 'x', 0), \
         ('LD_PRELOAD', 'x.so', 0), ('BYTES', x'ff', 0), ('C', 'three', 0)",
    )
    .await;

    let reasons = async |passphrase: Option<&str>| {
        let loaded = open(&path, passphrase).await.load().await.unwrap();
        let names: Vec<_> = loaded.variables.iter().map(|(name, _)| name.to_owned()).collect();
        (
            names,
            loaded
                .skipped
                .into_iter()
                .map(|one| format!("{}: {}", one.name, one.reason))
                .collect::<Vec<_>>(),
        )
    };
    let always = [
        "BYTES: its value is not text",
        "CUT: the encrypted value is cut short",
        "LD_PRELOAD: its name could hijack the dynamic loader",
        "_HIDDEN: its name starts with `_`",
    ];
    let (names, skipped) = reasons(Some(PASSPHRASE)).await;
    assert_eq!(names, ["A", "B", "C"]);
    assert_eq!(skipped, always);

    let (names, skipped) = reasons(Some("wrong")).await;
    assert_eq!(names, ["B", "C"]);
    assert_eq!(skipped[0], "A: the passphrase is wrong or the encrypted value is damaged");

    let (names, skipped) = reasons(None).await;
    assert_eq!(names, ["B", "C"]);
    assert_eq!(skipped[0], format!("A: {}", SkipReason::NoPassphrase));
}

#[tokio::test]
async fn a_variable_that_a_load_would_skip_is_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("variables.db"), None).await;
    for (name, value) in
        [("BASH_ENV", "x"), ("", "x"), ("A=B", "x"), ("_A", "x"), ("A", "hunter2\0")]
    {
        let error = store.set(name, value.into(), Encryption::Plain).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let error = store.set("A", "x".into(), Encryption::CryptoJs).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the variable \"A\" cannot be encrypted: no passphrase was given"
    );
    assert!(store.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn only_the_owner_can_access_the_created_file_and_directories() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/variables.db");
    open(&path, None).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_an_error_and_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let mut damaged = vec![0; 8192];
    damaged[..16].copy_from_slice(b"SQLite format 3\0");
    for content in [b"garbage".to_vec(), vec![b'x'; 5000], damaged] {
        fs::write(&path, &content).unwrap();
        let error = VariableStore::connect(&url(&path), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
        assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_database_with_another_table_or_a_newer_version_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.db");
    tamper(&other, "CREATE TABLE variables (id INTEGER, content TEXT)").await;
    let error = VariableStore::connect(&url(&other), None).await.unwrap_err();
    assert!(error.to_string().ends_with("the columns `name`, `value` and `encrypted`"), "{error}");

    let newer = directory.path().join("newer.db");
    open(&newer, None).await;
    tamper(&newer, "PRAGMA user_version = 99").await;
    for connected in [
        VariableStore::connect(&url(&newer), None).await,
        VariableStore::connect_or_create(&url(&newer), None).await,
    ] {
        let error = connected.unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
    }
}

#[tokio::test]
async fn the_error_of_a_path_that_cannot_be_a_file_has_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [directory.path().to_owned(), file.join("variables.db")] {
        let error = VariableStore::connect(&url(&path), None).await.unwrap_err();
        assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn debug_of_a_store_shows_no_passphrase() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("variables.db"), Some(PASSPHRASE)).await;
    let shown = format!("{store:?}");
    assert!(shown.contains("variables.db") && !shown.contains(PASSPHRASE), "{shown}");
}

#[tokio::test]
async fn concurrent_operations_wait_for_a_connection() {
    let directory = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&directory.path().join("variables.db"), None).await);
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                store.set(&format!("N{}", number % 20), "x".into(), Encryption::Plain).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.list().await.unwrap().len(), 20);
}

const SHARED_FILE: &str = "SECRETS_TEST_SHARED_FILE";

#[test]
fn six_processes_that_open_one_fresh_file_all_succeed() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/variables.db");
        let processes: Vec<_> = (0..6)
            .map(|_| {
                testkit::rerun("sqlite::a_process_stores_its_variable_in_the_shared_file")
                    .env(SHARED_FILE, &path)
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stored = runtime.block_on(async { open(&path, None).await.list().await.unwrap() });
        assert_eq!(stored.len(), 6);
    }
}

/// The part of each of the six processes above. Alone, it uses a file that no other process opens.
#[tokio::test]
async fn a_process_stores_its_variable_in_the_shared_file() {
    let directory = tempfile::tempdir().unwrap();
    let path =
        std::env::var_os(SHARED_FILE).map_or_else(|| directory.path().join("one.db"), Into::into);
    let store = open(&path, None).await;
    let name = format!("PROCESS_{}", std::process::id());
    store.set(&name, "x".into(), Encryption::Plain).await.unwrap();
    assert!(store.load().await.unwrap().variables.get(&name).is_some());
}

//! SQLite files of other programs, of earlier versions, and with unusual rows.

use super::*;

/// The statements by which the first version of this crate created its files.
const FIRST_VERSION: &str = "CREATE TABLE IF NOT EXISTS variables (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    encrypted INTEGER NOT NULL DEFAULT 0
); PRAGMA user_version = 1; INSERT INTO variables VALUES ('A', 'one', 0);";

/// Returns `application_id`, `user_version` and the number of objects of the schema.
async fn schema(path: &Path) -> (i64, i64, i64) {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let mut numbers = Vec::new();
    for query in
        ["PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema"]
    {
        numbers.push(sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap());
    }
    (numbers[0], numbers[1], numbers[2])
}

#[tokio::test]
async fn a_file_of_the_first_version_works_and_gets_the_id_with_the_next_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    tamper(&path, FIRST_VERSION).await;
    let before = fs::read(&path).unwrap();
    let store = VariableStore::connect(&url(&path), None).await.unwrap();
    assert_eq!(loaded(&store).await, [pair("A", "one")]);
    assert_eq!(fs::read(&path).unwrap(), before, "a load changes nothing");
    store.set("B", "two".into(), Encryption::Plain).await.unwrap();
    assert_eq!(loaded(&store).await, [pair("A", "one"), pair("B", "two")]);
    assert_eq!(schema(&path).await, (0x4147_5456, 2, 2));
}

#[tokio::test]
async fn a_list_has_the_reason_to_skip_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let rows = "CREATE TABLE variables (name, value, encrypted, hosts);
        INSERT INTO variables VALUES ('NONE', NULL, 0, NULL), ('PATH', 'x', 0, NULL),
        ('HOSTS', 'x', 0, 'a.test'), ('TWICE', '2', 0, NULL), ('TWICE', '1', 0, NULL),
        ('GOOD', 'x', 0, '[\"a.test\"]');";
    tamper(&path, rows).await;
    let store = VariableStore::connect(&url(&path), None).await.unwrap();
    let listed = store.list().await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|one| (one.name.as_str(), one.skipped.is_some())).collect();
    assert_eq!(
        listed,
        [
            ("GOOD", false),
            ("HOSTS", true),
            ("NONE", true),
            ("PATH", true),
            ("TWICE", false),
            ("TWICE", true),
        ]
    );
    let ciphertext = secrets::cryptojs::encrypt("x", "a passphrase").unwrap();
    let stored = store.set("A", ciphertext.into(), Encryption::Plain).await;
    assert!(stored.is_err(), "no load would use it");
}

#[tokio::test]
async fn a_view_that_never_ends_is_an_error_after_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let view = "CREATE VIEW variables AS WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 \
                FROM r) SELECT 'N' || i AS name, 'v' AS value, 0 AS encrypted FROM r";
    tamper(&path, view).await;
    let store = VariableStore::connect(&url(&path), None).await.unwrap();
    let error = store.load().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(store.load().await.is_err(), "the connection is still usable");
}

#[tokio::test]
async fn ciphertexts_in_other_spellings_are_no_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    tamper(&path, "CREATE TABLE variables (name, value, encrypted)").await;
    let once = secrets::cryptojs::encrypt("hunter2", PASSPHRASE).unwrap();
    let twice = secrets::cryptojs::encrypt(&once, PASSPHRASE).unwrap();
    let (cut, url_safe) = (&once[..once.len() - 4], once.replace('+', "-").replace('/', "_"));
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    for (name, value, encrypted) in [
        ("CUT", cut, 0),
        ("QUOTED", &format!(" '{once}'"), 0),
        ("URL_SAFE", &url_safe, 0),
        ("TWICE", &twice, 1),
    ] {
        let insert = sqlx::query("INSERT INTO variables VALUES ($1, $2, $3)");
        insert.bind(name).bind(value).bind(encrypted).execute(&mut connection).await.unwrap();
    }
    let store = VariableStore::connect(&url(&path), Some(PASSPHRASE.into())).await.unwrap();
    assert_eq!(loaded(&store).await, []);
    assert_eq!(store.load().await.unwrap().skipped.len(), 4);
}

#[tokio::test]
async fn the_schema_of_a_foreign_file_is_never_changed() {
    let directory = tempfile::tempdir().unwrap();
    for (number, statements) in [
        "CREATE TABLE users (id INTEGER); PRAGMA user_version = 7",
        "CREATE TABLE users (id INTEGER)",
        "PRAGMA application_id = 5",
        "PRAGMA user_version = 3",
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.db"));
        tamper(&path, statements).await;
        let before = fs::read(&path).unwrap();
        for connected in [
            VariableStore::connect(&url(&path), None).await,
            VariableStore::connect_or_create(&url(&path), None).await,
        ] {
            let error = connected.unwrap_err();
            assert!(matches!(error, secrets::SourceError::Schema { .. }), "{error:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), before, "{statements}");
    }
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 4, "no further files: {names:?}");
}

#[tokio::test]
async fn a_foreign_table_is_read_whatever_its_version_and_columns_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("application.db");
    tamper(
        &path,
        "CREATE TABLE users (id INTEGER); CREATE TABLE variables (id INTEGER PRIMARY KEY, \
         name TEXT, value TEXT, encrypted BOOLEAN); PRAGMA user_version = 7; \
         INSERT INTO variables (name, value, encrypted) VALUES ('A', 'one', 'FALSE')",
    )
    .await;
    let before = fs::read(&path).unwrap();
    let store = VariableStore::connect(&url(&path), None).await.unwrap();
    assert_eq!(loaded(&store).await, [pair("A", "one")]);
    store.list().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!store.remove("B").await.unwrap());
    assert_eq!(schema(&path).await, (0, 7, 2));
}

#[tokio::test]
async fn a_database_in_wal_mode_is_read_beside_its_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    open(&path, None).await;
    tamper(&path, "PRAGMA journal_mode = WAL").await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut writer = SqliteConnection::connect_with(&options).await.unwrap();
    let insert = "INSERT INTO variables (name, value, encrypted) VALUES ('A', 'one', 0)";
    sqlx::raw_sql(insert).execute(&mut writer).await.unwrap();
    let store = VariableStore::connect(&url(&path), None).await.unwrap();
    assert_eq!(loaded(&store).await, [pair("A", "one")]);
    let revision = store.load().await.unwrap().revision.unwrap();
    assert_eq!(store.changed_since(&revision).await, secrets::Changed::No);
    sqlx::raw_sql("UPDATE variables SET value = 'two'").execute(&mut writer).await.unwrap();
    assert_eq!(store.changed_since(&revision).await, secrets::Changed::Yes);
    assert_eq!(loaded(&store).await, [pair("A", "two")]);
}

#[tokio::test]
async fn a_missing_file_is_an_error_with_its_path_and_nothing_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/agnets.db");
    let error = VariableStore::connect(&url(&path), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_value_is_never_returned_if_its_encryption_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variables.db");
    let encrypted = secrets::cryptojs::encrypt("hunter2", PASSPHRASE).unwrap();
    tamper(&path, "CREATE TABLE variables (name, value, encrypted)").await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let spellings =
        ["1", "'yes'", "'ON'", "'t'", "TRUE", "2", "NULL", "'aes'", "''", "x'01'", "1.5"];
    for (number, spelling) in spellings.iter().enumerate() {
        let statement = format!("INSERT INTO variables VALUES ('N{number:02}', $1, {spelling})");
        let insert = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(&encrypted);
        insert.execute(&mut connection).await.unwrap();
    }
    let store = VariableStore::connect(&url(&path), Some(PASSPHRASE.into())).await.unwrap();
    let expected: Vec<_> = (0..5).map(|number| pair(&format!("N{number:02}"), "hunter2")).collect();
    assert_eq!(loaded(&store).await, expected);
    let skipped = store.load().await.unwrap().skipped;
    let names: Vec<_> = skipped.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["N05", "N06", "N07", "N08", "N09", "N10"]);
    assert!(skipped.iter().all(|one| one.reason == SkipReason::UnknownEncryption));
    assert_eq!(store.list().await.unwrap()[7].encryption, None);
    for spelling in ["0", "'no'", "'off'", "FALSE"] {
        let statement = format!("UPDATE variables SET encrypted = {spelling}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        let none = store.load().await.unwrap();
        assert!(none.variables.is_empty(), "{spelling}");
        assert!(none.skipped.iter().all(|one| one.reason == SkipReason::LooksEncrypted));
    }
    sqlx::raw_sql("UPDATE variables SET value = 'U2FsdGVkX1 is no ciphertext'")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(store.load().await.unwrap().variables.len(), 11);
}

#[tokio::test]
async fn the_smallest_of_several_values_wins_whatever_the_order_of_the_rows_is() {
    let directory = tempfile::tempdir().unwrap();
    for (number, rows) in [
        "('A', 'two', 0), ('A', 'one', 0), ('A', 'three', 0), ('B', 'x', 0)",
        "('A', 'three', 0), ('B', 'x', 0), ('A', 'two', 0), ('A', 'one', 0)",
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.db"));
        tamper(&path, "CREATE TABLE variables (name, value, encrypted)").await;
        let options = SqliteConnectOptions::new().filename(&path);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let insert = sqlx::AssertSqlSafe(format!("INSERT INTO variables VALUES {rows}"));
        sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
        let store = VariableStore::connect(&url(&path), None).await.unwrap();
        assert_eq!(loaded(&store).await, [pair("A", "one"), pair("B", "x")]);
        let skipped = store.load().await.unwrap().skipped;
        let skipped: Vec<_> = skipped.iter().map(|one| (one.name.as_str(), &one.reason)).collect();
        assert_eq!(skipped, [("A", &SkipReason::Duplicate); 2]);
    }
}

//! The schema of our own SQLite files, and the decision whether a file is ours.

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

/// The `application_id` of our files: `AGTV` in ASCII.
const APPLICATION_ID: i64 = 0x4147_5456;

/// The latest version of the schema, which is the `user_version` of our files.
pub(super) const LATEST: i64 = MIGRATIONS.len() as i64;

/// Statements that upgrade the table by one version each. Version 0 is an empty file.
const MIGRATIONS: &[&str] = &[FIRST, "ALTER TABLE variables ADD COLUMN hosts TEXT"];

/// The text of the first table, as SQLite stores it. A file without an id has exactly this one.
const FIRST: &str = "CREATE TABLE variables (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    encrypted INTEGER NOT NULL DEFAULT 0
)";

/// Owner of the schema of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This crate, with this version of the schema.
    Ours(i64),
    /// This crate, before its files had an id.
    OursWithoutId,
    /// No application yet: the file has no table, no id and no version.
    Unowned,
    /// Another application.
    Foreign,
}

impl Owner {
    fn version(self) -> i64 {
        match self {
            Self::Ours(version) => version,
            Self::OursWithoutId => 1,
            Self::Unowned | Self::Foreign => 0,
        }
    }
}

/// Returns the version of the schema if the file is ours, and otherwise 0.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    Ok(owner(connection).await?.version())
}

/// Upgrades our own schema, or creates it in an empty file. Leaves the schema of another
/// application alone. Returns the version, or 0 if the file is foreign.
///
/// If several processes find a new file, one creates the table. The others wait, and then find it.
pub(super) async fn upgrade(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    match owner(connection).await? {
        Owner::Foreign => return Ok(0),
        Owner::Ours(version) if version >= LATEST => return Ok(version),
        _ => {}
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found = match owner(&mut transaction).await? {
        Owner::Foreign => return Ok(0),
        Owner::Ours(version) if version >= LATEST => return Ok(version),
        other => other.version(),
    };
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    for (pragma, number) in [("application_id", APPLICATION_ID), ("user_version", LATEST)] {
        let statement = sqlx::AssertSqlSafe(format!("PRAGMA {pragma} = {number}"));
        sqlx::raw_sql(statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(LATEST)
}

async fn owner(connection: &mut SqliteConnection) -> Result<Owner, sqlx::Error> {
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let version: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    match (id, version) {
        (APPLICATION_ID, version) => return Ok(Owner::Ours(version)),
        (0, 0 | 1) => {}
        _ => return Ok(Owner::Foreign),
    }
    // The index of the primary key has no text.
    let objects: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL OR tbl_name <> 'variables'",
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(match (version, objects.as_slice()) {
        (0, []) => Owner::Unowned,
        (1, [Some(table)]) if table == FIRST => Owner::OursWithoutId,
        _ => Owner::Foreign,
    })
}

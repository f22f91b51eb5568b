//! Variables in a table `variables(name, value, encrypted, …)` of PostgreSQL or SQLite.
//!
//! In PostgreSQL the table belongs to another application: it is never made nor altered, and
//! columns other than these three are not looked at. An SQLite file is made, with its directory and
//! for its owner alone, when it is absent.

mod fault;
#[cfg(feature = "postgres")]
mod postgres;
mod slots;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
mod url;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use self::table::StoredVariable;
use self::url::DatabaseUrl;
use crate::cryptojs;
use crate::name::{SkipReason, check_name, check_value};
use crate::source::{SourceError, VariableSource};
use crate::variables::LoadedVariables;

/// How long a database may take for one operation, connecting included.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many operations run at once; a store is asked when a session opens, not for every command.
const CONNECTIONS: usize = 4;

/// A table of variables, reached by URL.
///
/// It keeps up to four connections, made anew when they broke, and needs the tokio runtime it was
/// opened in.
pub struct VariableStore {
    database: Database,
    passphrase: Option<SecretString>,
}

enum Database {
    #[cfg(feature = "postgres")]
    Postgres(postgres::PostgresTable),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::SqliteTable),
}

/// How a value is kept in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As it is.
    #[default]
    Plain,
    /// In the format of [`cryptojs`], under the store's passphrase.
    CryptoJs,
}

/// What may be told of a stored variable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableSummary {
    /// Its name.
    pub name: String,
    /// Whether its value is encrypted.
    pub encrypted: bool,
}

/// Runs one operation on whichever table it is.
macro_rules! on_table {
    ($store:expr, $table:ident => $operation:expr) => {
        match &$store.database {
            #[cfg(feature = "postgres")]
            Database::Postgres($table) => $operation.await,
            #[cfg(feature = "sqlite")]
            Database::Sqlite($table) => $operation.await,
        }
    };
}

impl VariableStore {
    /// Whether [`Self::connect`] would understand the URL; nothing is opened.
    ///
    /// # Errors
    ///
    /// [`SourceError::Url`] when it would not.
    pub fn check_url(url: &str) -> Result<(), SourceError> {
        DatabaseUrl::parse(url).map(|_| ())
    }

    /// Connects, and checks that the table is there.
    ///
    /// The URL is `sqlite:PATH` (`sqlite:///absolute/path`; `%`-escapes are decoded) or
    /// `postgres://user:password@host:port/database` with the parameters that libpq knows, such as
    /// `sslmode`. The passphrase is that of encrypted values; without it they are skipped. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SourceError`], at once when nothing listens and after five seconds when nothing answers.
    /// It names the database without user and password.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave an SQLite file behind that has no table yet; the next call
    /// makes it.
    pub async fn connect(url: &str, passphrase: Option<SecretString>) -> Result<Self, SourceError> {
        let database = match DatabaseUrl::parse(url)? {
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres { options, shown } => {
                Database::Postgres(postgres::PostgresTable::open(*options, shown).await?)
            }
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite { path } => {
                Database::Sqlite(sqlite::SqliteTable::open(path).await?)
            }
        };
        Ok(Self { database, passphrase })
    }

    /// Stores a variable, in place of one of the same name.
    ///
    /// # Errors
    ///
    /// [`SourceError::Variable`] for a name or value that every load would skip,
    /// [`SourceError::NoPassphrase`] when there is none to encrypt with, and what the database
    /// says.
    ///
    /// # Cancel safety
    ///
    /// The variable is stored as a whole or not at all.
    pub async fn set(
        &self,
        name: &str,
        value: SecretString,
        encryption: Encryption,
    ) -> Result<(), SourceError> {
        check_name(name)
            .and_then(|()| check_value(name, value.expose_secret()))
            .map_err(|reason| SourceError::Variable { name: name.to_owned(), reason })?;
        let stored = match encryption {
            Encryption::Plain => Zeroizing::new(value.expose_secret().to_owned()),
            Encryption::CryptoJs => Zeroizing::new(self.encrypt(name, &value)?),
        };
        on_table!(self, table => table.set(name, &stored, encryption == Encryption::CryptoJs))
    }

    /// Names all stored variables in order, also those that a load would skip. No value is read.
    ///
    /// # Errors
    ///
    /// What the database says.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing.
    pub async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        on_table!(self, table => table.list())
    }

    /// Removes a variable, and says whether it was there.
    ///
    /// # Errors
    ///
    /// What the database says.
    ///
    /// # Cancel safety
    ///
    /// The variable is removed or it is not.
    pub async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        on_table!(self, table => table.remove(name))
    }

    fn encrypt(&self, name: &str, value: &SecretString) -> Result<String, SourceError> {
        let name = || name.to_owned();
        let passphrase =
            self.passphrase.as_ref().ok_or_else(|| SourceError::NoPassphrase { name: name() })?;
        cryptojs::encrypt(value.expose_secret(), passphrase.expose_secret())
            .map_err(|source| SourceError::Encrypt { name: name(), source })
    }

    fn reveal(&self, stored: &StoredVariable) -> Result<SecretString, SkipReason> {
        let value = stored.value.as_ref().map_err(Clone::clone)?;
        if !stored.encrypted {
            return Ok(SecretString::from(value.as_str()));
        }
        let passphrase = self.passphrase.as_ref().ok_or(SkipReason::NoPassphrase)?;
        Ok(cryptojs::decrypt(value, passphrase.expose_secret())?)
    }
}

#[async_trait]
impl VariableSource for VariableStore {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        let stored: Vec<StoredVariable> = on_table!(self, table => table.load())?;
        let mut loaded = LoadedVariables::default();
        for variable in &stored {
            // A name that may not be used is the better reason than a value that cannot be read.
            match check_name(&variable.name).and_then(|()| self.reveal(variable)) {
                Ok(_) if loaded.variables.get(&variable.name).is_some() => {
                    loaded.skip(&variable.name, SkipReason::Duplicate);
                }
                Ok(value) => loaded.insert(&variable.name, value),
                Err(reason) => loaded.skip(&variable.name, reason),
            }
        }
        Ok(loaded)
    }
}

impl fmt::Debug for VariableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.database {
            #[cfg(feature = "postgres")]
            Database::Postgres(table) => table.origin(),
            #[cfg(feature = "sqlite")]
            Database::Sqlite(table) => table.origin(),
        };
        f.debug_struct("VariableStore").field("origin", &origin).finish_non_exhaustive()
    }
}

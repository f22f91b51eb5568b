//! A store of variables, over a table in any supported database.

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::cryptojs;
use crate::name::{SkipReason, check_name, check_value};
use crate::source::VariableSource;
use crate::source_error::SourceError;
#[cfg(feature = "postgres")]
use crate::sql::postgres::PostgresTable;
#[cfg(feature = "sqlite")]
use crate::sql::sqlite::SqliteTable;
use crate::sql::table::{Encryption, StoredVariable, VariableSummary, VariableTable};
use crate::sql::url::DatabaseUrl;
use crate::variables::LoadedVariables;

/// A table of variables in a database.
///
/// It keeps at most four connections and replaces broken ones. It needs the tokio runtime in which
/// it was connected.
pub struct VariableStore {
    table: Box<dyn VariableTable>,
    passphrase: Option<SecretString>,
}

impl VariableStore {
    /// Checks that [`Self::connect`] supports a URL. Opens nothing.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError::InvalidUrl`] if the URL is not supported.
    pub fn check_url(url: &str) -> Result<(), SourceError> {
        DatabaseUrl::parse(url).map(|_| ())
    }

    /// Connects to a database and checks that it has the table.
    ///
    /// The URL is `sqlite:PATH` (`sqlite:///absolute/path`; `%`-escapes are decoded), or
    /// `postgres://user:password@host:port/database` with parameters of libpq, such as `sslmode`.
    /// The passphrase decrypts and encrypts values. Without a passphrase, encrypted variables are
    /// skipped. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError`] immediately if the server refuses the connection, and after five
    /// seconds if it does not respond. The error has the database without user and password.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, an SQLite file without a table can remain. The next call creates
    /// the table.
    pub async fn connect(url: &str, passphrase: Option<SecretString>) -> Result<Self, SourceError> {
        let table: Box<dyn VariableTable> = match DatabaseUrl::parse(url)? {
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres { options, for_display } => {
                Box::new(PostgresTable::open(*options, for_display).await?)
            }
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite { path } => Box::new(SqliteTable::open(path).await?),
        };
        Ok(Self { table, passphrase })
    }

    /// Stores a variable, or replaces the one with the same name.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError::InvalidVariable`] if every load would skip the variable,
    /// [`SourceError::NoPassphrase`] if the store cannot encrypt, and the errors of the database.
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
            .map_err(|reason| SourceError::InvalidVariable { name: name.to_owned(), reason })?;
        let stored = match encryption {
            Encryption::Plain => Zeroizing::new(value.expose_secret().to_owned()),
            Encryption::CryptoJs => Zeroizing::new(self.encrypt(name, &value)?),
        };
        self.table.set(name, &stored, encryption).await
    }

    /// Returns all stored variables by name, also those that a load would skip. Reads no value.
    ///
    /// # Errors
    ///
    /// Returns the errors of the database.
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        self.table.list().await
    }

    /// Deletes a variable. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// Returns the errors of the database.
    ///
    /// # Cancel safety
    ///
    /// The variable is deleted or unchanged.
    pub async fn remove(&self, name: &str) -> Result<bool, SourceError> {
        self.table.remove(name).await
    }

    fn encrypt(&self, name: &str, value: &SecretString) -> Result<String, SourceError> {
        let name = || name.to_owned();
        let passphrase =
            self.passphrase.as_ref().ok_or_else(|| SourceError::NoPassphrase { name: name() })?;
        cryptojs::encrypt(value.expose_secret(), passphrase.expose_secret())
            .map_err(|source| SourceError::Encrypt { name: name(), source })
    }

    fn decrypt(&self, stored: &StoredVariable) -> Result<SecretString, SkipReason> {
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
        let mut loaded = LoadedVariables::default();
        for variable in &self.table.load().await? {
            // The name comes first: an invalid name explains more than an undecryptable value.
            match check_name(&variable.name).and_then(|()| self.decrypt(variable)) {
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
        let origin = self.table.origin();
        f.debug_struct("VariableStore").field("origin", &origin).finish_non_exhaustive()
    }
}

//! A store of variables, over a table in any supported database.

use std::fmt;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::cryptojs;
use crate::name::{SkipReason, check_name, check_value};
use crate::redactor::Redactor;
use crate::revision::{Changed, Revision};
use crate::source::VariableSource;
use crate::source_error::SourceError;
use crate::sql::hosts::VariableHosts;
#[cfg(feature = "postgres")]
use crate::sql::postgres::PostgresTable;
#[cfg(feature = "sqlite")]
use crate::sql::sqlite::SqliteTable;
use crate::sql::table::{Encryption, HostsChange, StoredVariable, VariableSummary, VariableTable};
use crate::sql::url::DatabaseUrl;
use crate::variables::LoadedVariables;

/// The value of a row with its hosts, or the reason to skip it.
type Usable = Result<(SecretString, Option<VariableHosts>), SkipReason>;

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

    /// Connects to an existing database and checks that it has the table. Changes nothing: an
    /// SQLite file is opened for reading, until a call of [`Self::set`] or [`Self::remove`].
    ///
    /// The URL is `sqlite:PATH` (`sqlite:///absolute/path`; `%`-escapes are decoded), or
    /// `postgres://user:password@host:port/database` with parameters of libpq, such as `sslmode`.
    /// The passphrase decrypts and encrypts values. Without a passphrase, encrypted variables are
    /// skipped. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError`] immediately if the server refuses the connection, and after five
    /// seconds if it does not respond. The error has the database without user and password. A
    /// missing SQLite file or TLS file is [`SourceError::File`].
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub async fn connect(url: &str, passphrase: Option<SecretString>) -> Result<Self, SourceError> {
        let table: Box<dyn VariableTable> = match DatabaseUrl::parse(url)? {
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres { options, for_display, files } => {
                Box::new(PostgresTable::open(*options, for_display, &files).await?)
            }
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite { path } => Box::new(SqliteTable::open(path).await?),
        };
        Ok(Self { table, passphrase })
    }

    /// Connects like [`Self::connect`], but creates an SQLite file that is absent, with its
    /// directory, and upgrades a file that this crate has created.
    ///
    /// Only the owner can access a created file. The table of another application is neither
    /// created nor altered, in PostgreSQL and in SQLite.
    ///
    /// # Errors
    ///
    /// Like [`Self::connect`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, an SQLite file without a table can remain. The next call creates
    /// the table.
    pub async fn connect_or_create(
        url: &str,
        passphrase: Option<SecretString>,
    ) -> Result<Self, SourceError> {
        match DatabaseUrl::parse(url)? {
            #[cfg(feature = "sqlite")]
            DatabaseUrl::Sqlite { path } => {
                let table = Box::new(SqliteTable::create(path).await?);
                Ok(Self { table, passphrase })
            }
            #[cfg(feature = "postgres")]
            DatabaseUrl::Postgres { .. } => Self::connect(url, passphrase).await,
        }
    }

    /// Stores a variable, or replaces the one with the same name. Its hosts stay.
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
        self.store(name, &value, encryption, HostsChange::Keep).await
    }

    /// Stores a variable with its hosts, or without any. Replaces the one with the same name.
    ///
    /// # Errors
    ///
    /// Like [`Self::set`]. Returns [`SourceError::NoHostsColumn`] if the table of another program
    /// cannot keep hosts, and [`SourceError::InvalidVariable`] for a mask without hosts or of a
    /// value that is too short. The form of the hosts is not checked.
    ///
    /// # Cancel safety
    ///
    /// The variable is stored as a whole or not at all.
    pub async fn set_with_hosts(
        &self,
        name: &str,
        value: SecretString,
        encryption: Encryption,
        hosts: Option<&VariableHosts>,
    ) -> Result<(), SourceError> {
        if let Some(VariableHosts { mask, is_masked: true, .. }) = hosts {
            let invalid = |reason| SourceError::InvalidVariable { name: name.to_owned(), reason };
            if mask.hosts.is_empty() {
                return Err(invalid(SkipReason::InvalidHosts));
            }
            if value.expose_secret().trim_ascii().len() < Redactor::MIN_SECRET_BYTES {
                return Err(invalid(SkipReason::TooShortToMask));
            }
        }
        let hosts = hosts.map(VariableHosts::to_column);
        self.store(name, &value, encryption, HostsChange::Set(hosts.as_deref())).await
    }

    async fn store(
        &self,
        name: &str,
        value: &SecretString,
        encryption: Encryption,
        hosts: HostsChange<'_>,
    ) -> Result<(), SourceError> {
        let invalid = |reason| SourceError::InvalidVariable { name: name.to_owned(), reason };
        check_name(name)
            .and_then(|()| check_value(name, value.expose_secret()))
            .map_err(invalid)?;
        if encryption == Encryption::Plain && cryptojs::looks_encrypted(value.expose_secret()) {
            return Err(invalid(SkipReason::LooksEncrypted));
        }
        let stored = match encryption {
            Encryption::Plain => Zeroizing::new(value.expose_secret().to_owned()),
            Encryption::CryptoJs => Zeroizing::new(self.encrypt(name, value)?),
        };
        self.table.set(name, &stored, encryption, hosts).await
    }

    /// Returns all stored variables by name, also those that a load skips, with the reason. Returns
    /// no value.
    ///
    /// # Errors
    ///
    /// Returns the errors of the database.
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub async fn list(&self) -> Result<Vec<VariableSummary>, SourceError> {
        let rows = self.table.load().await?;
        let checked = self.checked(&rows).into_iter().map(|(row, usable)| VariableSummary {
            name: row.name.clone(),
            encryption: row.encryption,
            hosts: row.hosts.clone().ok().flatten(),
            skipped: usable.err(),
        });
        Ok(checked.collect())
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
        match stored.encryption.ok_or(SkipReason::UnknownEncryption)? {
            Encryption::Plain if cryptojs::looks_encrypted(value) => {
                Err(SkipReason::LooksEncrypted)
            }
            Encryption::Plain => Ok(SecretString::from(value.as_str())),
            Encryption::CryptoJs => {
                let passphrase = self.passphrase.as_ref().ok_or(SkipReason::NoPassphrase)?;
                let value = cryptojs::decrypt(value, passphrase.expose_secret())?;
                match cryptojs::looks_encrypted(value.expose_secret()) {
                    true => Err(SkipReason::EncryptedTwice),
                    false => Ok(value),
                }
            }
        }
    }

    /// Returns the rows by name, each with its value and its hosts, or the reason to skip it. Of
    /// several usable rows with one name, the one with the smallest value in byte order is used, so
    /// that the result does not depend on the order in which the database returns them.
    fn checked<'r>(&self, rows: &'r [StoredVariable]) -> Vec<(&'r StoredVariable, Usable)> {
        let check = |row: &StoredVariable| -> Usable {
            // The name comes first: an invalid name explains more than an undecryptable value.
            check_name(&row.name)?;
            let value = self.decrypt(row)?;
            check_value(&row.name, value.expose_secret())?;
            Ok((value, row.hosts.clone()?))
        };
        let mut checked: Vec<_> = rows.iter().map(|row| (row, check(row))).collect();
        checked.sort_by(|(row, usable), (other, other_usable)| {
            row.name.cmp(&other.name).then_with(|| value(usable).cmp(&value(other_usable)))
        });
        let mut used = None;
        for (row, usable) in &mut checked {
            if usable.is_ok() && used.replace(&row.name) == Some(&row.name) {
                *usable = Err(SkipReason::Duplicate);
            }
        }
        checked
    }

    fn variables_of(&self, rows: &[StoredVariable]) -> LoadedVariables {
        let mut loaded = LoadedVariables::default();
        for (row, usable) in self.checked(rows) {
            match usable {
                Ok((value, Some(hosts))) if hosts.is_masked => {
                    loaded.insert_masked(&row.name, value, hosts.mask);
                }
                Ok((value, _)) => loaded.insert(&row.name, value),
                Err(reason) => loaded.skip(&row.name, reason),
            }
        }
        loaded
    }
}

/// Returns the value of a usable row.
fn value(usable: &Usable) -> Option<&str> {
    usable.as_ref().ok().map(|(value, _)| value.expose_secret())
}

#[async_trait]
impl VariableSource for VariableStore {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        // The revision is from before the load, so a change during the load is noticed later.
        let revision = self.table.revision();
        let mut loaded = self.variables_of(&self.table.load().await?);
        loaded.revision = revision;
        Ok(loaded)
    }

    async fn changed_since(&self, revision: &Revision) -> Changed {
        match self.table.revision() {
            Some(current) if current == *revision => Changed::No,
            // A file that is gone has changed. Other tables have no revision to ask with.
            _ => Changed::Yes,
        }
    }
}

impl fmt::Debug for VariableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.table.origin();
        f.debug_struct("VariableStore").field("origin", &origin).finish_non_exhaustive()
    }
}

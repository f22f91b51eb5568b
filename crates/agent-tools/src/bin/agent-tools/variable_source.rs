//! The database of variables, and the name under which processes compare it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_tools::VariableSource;
use agent_tools::secrets::sql::VariableStore;
use agent_tools::secrets::{Changed, LoadedVariables, Revision, SourceError};
use secrecy::SecretString;

/// The variables of a database that is opened with the session. If the database is down, the
/// session opens without them.
#[derive(Debug)]
pub(crate) struct LazyVariables {
    url: String,
    passphrase: Option<SecretString>,
    /// The default database, which need not exist.
    default_file: Option<PathBuf>,
    /// The store of the last load. Each load connects again, because a file may be replaced.
    store: Mutex<Option<Arc<VariableStore>>>,
}

impl LazyVariables {
    pub(crate) fn new(
        url: String,
        passphrase: Option<SecretString>,
        default_file: Option<PathBuf>,
    ) -> Self {
        Self { url, passphrase, default_file, store: Mutex::default() }
    }

    fn is_absent(&self) -> bool {
        self.default_file.as_ref().is_some_and(|file| !file.exists())
    }

    /// Returns whether the default database is a file that a dropped `variable set` has left.
    fn is_new(&self) -> bool {
        let size = |file: &PathBuf| Some(file.metadata().ok()?.len());
        self.default_file.as_ref().and_then(size) == Some(0)
    }

    fn store(&self) -> MutexGuard<'_, Option<Arc<VariableStore>>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl VariableSource for LazyVariables {
    async fn load(&self) -> Result<LoadedVariables, SourceError> {
        // A database that was there is missed. An empty file has no table yet.
        if (self.is_absent() || self.is_new()) && self.store().is_none() {
            let mut none = LoadedVariables::default();
            none.revision = Some(Revision::new("absent"));
            return Ok(none);
        }
        let store = Arc::new(VariableStore::connect(&self.url, self.passphrase.clone()).await?);
        let loaded = store.load().await?;
        *self.store() = Some(store);
        Ok(loaded)
    }

    async fn changed_since(&self, revision: &Revision) -> Changed {
        let store = self.store().clone();
        match (store, self.is_absent()) {
            (Some(store), false) => store.changed_since(revision).await,
            (None, true) => Changed::No,
            (None, false) if self.is_new() => Changed::No,
            _ => Changed::Yes,
        }
    }
}

/// Returns the path of an SQLite file; `None` for a URL of a server.
pub(crate) fn file(url: &str) -> Option<PathBuf> {
    let (scheme, rest) = url.split_once(':')?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    scheme.eq_ignore_ascii_case("sqlite").then(|| decoded(path))
}

/// Returns whether the value of `--variables` names a `.env` file instead of a database.
pub(crate) fn is_dotenv(url: &str) -> bool {
    let path = file(url).unwrap_or_else(|| PathBuf::from(url));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_local = file(url).is_some() || !url.contains("://");
    is_local && (name.ends_with(".env") || name.starts_with(".env."))
}

/// Returns the URL of a file, whose path may have any bytes.
pub(crate) fn sqlite_url(file: &Path) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~ ".contains(&byte);
    let bytes = file.as_os_str().as_bytes().iter().map(|byte| {
        if is_plain(*byte) { char::from(*byte).into() } else { format!("%{byte:02X}") }
    });
    format!("sqlite:{}", bytes.collect::<String>())
}

/// Returns the name of a database: the canonical path of a file, or the URL of a server without
/// passwords.
pub(crate) fn identity(url: &str) -> String {
    if let Some(file) = file(url) {
        return format!("sqlite:{:?}", canonical(&file));
    }
    let Some((_, rest)) = url.split_once(':') else { return url.to_owned() };
    let after_slashes = rest.strip_prefix("//").unwrap_or(rest);
    // The password may contain any character.
    let (user, place) = match after_slashes.rsplit_once('@') {
        Some((user, place)) => (user.split(':').next().unwrap_or_default(), place),
        None => ("", after_slashes),
    };
    let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
    let parameters = parameters.split('&').filter(|text| !text.starts_with("password="));
    format!("postgres://{user}@{place}?{}", parameters.collect::<Vec<_>>().join("&"))
}

/// Decodes the escapes of a path in a URL.
fn decoded(path: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        let escape = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Returns the canonical path of a file, which may not exist yet.
fn canonical(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let above = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above)));
    match above {
        Some((canonical, above)) if above == path => canonical,
        Some((canonical, above)) => canonical.join(path.strip_prefix(above).unwrap_or(&path)),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_server_has_no_password() {
        let expected = "postgres://app@db:5432/main?sslmode=require";
        for url in [
            "postgres://app:hunter2@db:5432/main?sslmode=require",
            "postgresql://app:hun@ter2@db:5432/main?password=hunter2&sslmode=require",
        ] {
            assert_eq!(identity(url), expected);
        }
        assert_ne!(identity("postgres://app@db/main"), identity("postgres://app@db/other"));
        assert_ne!(identity("postgres://app@db/main"), identity("postgres://root@db/main"));
    }

    #[test]
    fn a_dotenv_file_is_known_by_its_name() {
        for url in
            [".env", "/a/.env", "sqlite:/a/.env.local", "sqlite:///x/prod.env", "dotenv:.env"]
        {
            assert!(is_dotenv(url), "{url}");
        }
        for url in ["sqlite:/a/env.db", "postgres://u@h/x.env", "sqlite:/a/.environment"] {
            assert!(!is_dotenv(url), "{url}");
        }
    }

    #[test]
    fn the_url_of_a_file_stands_for_its_bytes() {
        for name in [&b"/a b/%41"[..], b"/x?y#z", b"/\xff", "/é".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(name.to_vec()));
            let url = sqlite_url(&path);
            assert_eq!(decoded(url.strip_prefix("sqlite:").unwrap()), path, "{url}");
            VariableStore::check_url(&url).unwrap();
        }
    }

    #[test]
    fn a_file_has_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("link")).unwrap();
        let name = |path: &str| identity(&format!("sqlite:{}/{path}", dir.display()));
        let absent = name("a b");
        assert_eq!(name("link/a%20b"), absent);
        std::fs::write(dir.join("a b"), "").unwrap();
        assert_eq!(name("a b"), absent);
        assert_eq!(identity(&format!("SQLITE://{}/link/a b", dir.display())), absent);
        assert_ne!(name("c"), absent);
    }
}

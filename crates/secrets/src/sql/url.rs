//! Which database a URL names, and how that is told to others.

#[cfg(feature = "sqlite")]
use std::path::PathBuf;

use crate::source::SourceError;

/// The parameters of a PostgreSQL URL that mean something. The driver would log others with their
/// values.
#[cfg(feature = "postgres")]
const POSTGRES_PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// A URL that was understood.
pub(super) enum DatabaseUrl {
    #[cfg(feature = "postgres")]
    Postgres {
        options: Box<sqlx::postgres::PgConnectOptions>,
        /// The URL without user, password and parameters.
        shown: String,
    },
    #[cfg(feature = "sqlite")]
    Sqlite { path: PathBuf },
}

impl DatabaseUrl {
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let shown = shown(url);
        let refuse =
            |problem: &str| SourceError::Url { url: shown.clone(), problem: problem.to_owned() };
        match url.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
            Some((scheme, rest)) if scheme == "sqlite" => sqlite(rest).map_err(refuse),
            Some((scheme, rest)) if matches!(scheme.as_str(), "postgres" | "postgresql") => {
                postgres(url, rest, &shown)
            }
            _ => Err(refuse("it must begin with `postgres://` or `sqlite:`")),
        }
    }
}

#[cfg(feature = "sqlite")]
fn sqlite(rest: &str) -> Result<DatabaseUrl, &'static str> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.contains(['?', '#']) {
        return Err(
            "parameters are not known for SQLite; write `?` in a path as %3F and `#` as %23",
        );
    }
    let path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let path = String::from_utf8(path).map_err(|_| "the path is not UTF-8")?;
    match path.as_str() {
        "" => Err("the path of the file is missing"),
        ":memory:" => Err("a database in memory would be empty at every start; name a file"),
        path if path.contains('\0') => Err("the path contains a NUL character"),
        _ => Ok(DatabaseUrl::Sqlite { path: PathBuf::from(path) }),
    }
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_rest: &str) -> Result<DatabaseUrl, &'static str> {
    Err("this program was built without SQLite (the feature `sqlite`)")
}

#[cfg(feature = "postgres")]
fn postgres(url: &str, rest: &str, shown: &str) -> Result<DatabaseUrl, SourceError> {
    let refuse = |problem: String| SourceError::Url { url: shown.to_owned(), problem };
    if !rest.starts_with("//") {
        return Err(refuse("it must begin with `postgres://`".to_owned()));
    }
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    let parameters = parameters.split('#').next().unwrap_or_default();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let key = parameter.split('=').next().unwrap_or_default();
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
        let is_setting = key.starts_with("options[") && key.ends_with(']');
        if !is_setting && !POSTGRES_PARAMETERS.contains(&key.as_ref()) {
            return Err(refuse(format!("the parameter {key:?} is not known")));
        }
    }
    // The cause could quote a parameter's value, so only what is surely harmless of it is kept.
    let options = url.parse::<sqlx::postgres::PgConnectOptions>().map_err(|error| {
        refuse(match error {
            sqlx::Error::Configuration(cause) => match cause.to_string() {
                cause if cause == "invalid port number" || cause == "empty host" => cause,
                _ => "it is not a valid URL; escape special characters of the password with %"
                    .to_owned(),
            },
            _ => "it is not a valid URL".to_owned(),
        })
    })?;
    Ok(DatabaseUrl::Postgres { options: Box::new(options), shown: shown.to_owned() })
}

#[cfg(not(feature = "postgres"))]
fn postgres(_url: &str, _rest: &str, shown: &str) -> Result<DatabaseUrl, SourceError> {
    let problem = "this program was built without PostgreSQL (the feature `postgres`)".to_owned();
    Err(SourceError::Url { url: shown.to_owned(), problem })
}

/// A URL without anything that may be a secret: user, password, parameters.
///
/// A password with unescaped special characters must not slip through, so everything up to the last
/// `@` goes.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else {
        return "(without a scheme)".to_owned();
    };
    if scheme.eq_ignore_ascii_case("sqlite") {
        return url.to_owned();
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return format!("{scheme}:…");
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, behind)| behind);
    format!("{scheme}://{}", rest.split(['?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_shown(url: &str, expected: &str) {
        assert_eq!(shown(url), expected);
    }

    #[track_caller]
    fn check_refused(url: &str, expected: &str) {
        let error =
            DatabaseUrl::parse(url).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }

    #[test]
    fn a_url_is_shown_without_user_password_and_parameters() {
        check_shown(
            "postgres://app:hunter2@db:5432/main?password=hunter2",
            "postgres://db:5432/main",
        );
        check_shown("postgres://app:hun@ter/2?x@db/main", "postgres://db/main");
        check_shown("postgres:///main?host=/run&password=hunter2", "postgres:///main");
        check_shown("app:hunter2@db/main", "app:…");
        check_shown("hunter2", "(without a scheme)");
    }

    #[test]
    fn urls_of_no_known_database_are_refused() {
        for url in [
            "",
            "hunter2",
            "mysql://app:hunter2@db/main",
            "/var/lib/variables.db",
            "http://hunter2@x/",
        ] {
            check_refused(url, "it must begin with `postgres://` or `sqlite:`");
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_urls_name_a_file() {
        for (url, expected) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///data/a%20b%3F.db", "/data/a b?.db"),
            ("SQLite:/data/a.db", "/data/a.db"),
        ] {
            let Ok(DatabaseUrl::Sqlite { path }) = DatabaseUrl::parse(url) else {
                panic!("{url} is refused")
            };
            assert_eq!(path.to_str(), Some(expected));
        }
        check_refused("sqlite:", "the path of the file is missing");
        check_refused("sqlite::memory:", "name a file");
        check_refused("sqlite:a.db?mode=ro", "parameters are not known");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn postgres_urls_that_cannot_be_used_are_refused_without_their_secrets() {
        check_refused("postgres:app:hunter2", "it must begin with `postgres://`");
        check_refused("postgres://app:hunter2@db:nonsense/main", "port");
        check_refused(
            "postgres://app@db/main?pasword=hunter2",
            "the parameter \"pasword\" is not known",
        );
        check_refused("postgres://app@db/main?sslmode=hunter2", "not a valid URL");
        assert!(
            DatabaseUrl::parse("postgresql://app:x@db/main?sslmode=require&options[search_path]=a")
                .is_ok()
        );
    }
}

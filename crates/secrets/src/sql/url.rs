//! URLs of databases, and their form without secrets.

#[cfg(feature = "sqlite")]
use std::ffi::OsString;
#[cfg(feature = "sqlite")]
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::source_error::SourceError;

/// Parameters of a PostgreSQL URL that are supported. Others are errors here, because the driver
/// would log them with their values.
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

/// A parsed URL.
pub(super) enum DatabaseUrl {
    #[cfg(feature = "postgres")]
    Postgres {
        options: Box<sqlx::postgres::PgConnectOptions>,
        /// The URL without user, password and parameters.
        for_display: String,
        /// The files with certificates and keys.
        files: Vec<PathBuf>,
    },
    #[cfg(feature = "sqlite")]
    Sqlite { path: PathBuf },
}

impl DatabaseUrl {
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let for_display = without_secrets(url);
        let invalid = |problem: &str| SourceError::InvalidUrl {
            url: for_display.clone(),
            problem: problem.to_owned(),
        };
        match url.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
            Some((scheme, rest)) if scheme == "sqlite" => sqlite(rest).map_err(invalid),
            Some((scheme, rest)) if matches!(scheme.as_str(), "postgres" | "postgresql") => {
                postgres(url, rest, &for_display)
            }
            _ => Err(invalid("it must begin with `postgres://` or `sqlite:`")),
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
    match path.as_slice() {
        b"" => Err("the path of the file is missing"),
        b":memory:" => Err("a database in memory would be empty at every start; name a file"),
        path if path.contains(&0) => Err("the path contains a NUL character"),
        _ => Ok(DatabaseUrl::Sqlite { path: OsString::from_vec(path).into() }),
    }
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_rest: &str) -> Result<DatabaseUrl, &'static str> {
    Err("this program was built without SQLite (the feature `sqlite`)")
}

#[cfg(feature = "postgres")]
fn postgres(url: &str, rest: &str, for_display: &str) -> Result<DatabaseUrl, SourceError> {
    let invalid =
        |problem: String| SourceError::InvalidUrl { url: for_display.to_owned(), problem };
    if !rest.starts_with("//") {
        return Err(invalid("it must begin with `postgres://`".to_owned()));
    }
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    let parameters = parameters.split('#').next().unwrap_or_default();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let key = parameter.split('=').next().unwrap_or_default();
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
        let is_setting = key.starts_with("options[") && key.ends_with(']');
        if !is_setting && !POSTGRES_PARAMETERS.contains(&key.as_ref()) {
            return Err(invalid(format!("the parameter {key:?} is not known")));
        }
    }
    // The text of the driver can quote the value of a parameter, so only two known texts are kept.
    let options = url.parse::<sqlx::postgres::PgConnectOptions>().map_err(|error| {
        invalid(match error {
            sqlx::Error::Configuration(cause) => match cause.to_string() {
                cause if cause == "invalid port number" || cause == "empty host" => cause,
                _ => "it is not a valid URL; escape special characters of the password with %"
                    .to_owned(),
            },
            _ => "it is not a valid URL".to_owned(),
        })
    })?;
    let files = tls_files(parameters);
    let for_display = for_display.to_owned();
    Ok(DatabaseUrl::Postgres { options: Box::new(options), for_display, files })
}

/// Returns the TLS files of a URL's parameters, and of the environment for parameters that the URL
/// does not have. The driver opens them only when it connects, and calls a missing one a problem of
/// the connection.
#[cfg(feature = "postgres")]
fn tls_files(parameters: &str) -> Vec<PathBuf> {
    const FILES: [(&[&str], &str); 3] = [
        (&["sslrootcert", "ssl-root-cert", "ssl-ca"], "PGSSLROOTCERT"),
        (&["sslcert", "ssl-cert"], "PGSSLCERT"),
        (&["sslkey", "ssl-key"], "PGSSLKEY"),
    ];
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs: Vec<(String, String)> = parameters
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect();
    let found = FILES.iter().filter_map(|(keys, variable)| {
        let set = pairs.iter().rev().find(|(key, _)| keys.contains(&key.as_str()));
        set.map(|(_, value)| value.clone()).or_else(|| std::env::var(variable).ok())
    });
    // The driver also takes the content of a file.
    let is_file = |value: &String| !value.trim().starts_with("-----BEGIN");
    found.filter(is_file).map(PathBuf::from).collect()
}

#[cfg(not(feature = "postgres"))]
fn postgres(_url: &str, _rest: &str, for_display: &str) -> Result<DatabaseUrl, SourceError> {
    let problem = "this program was built without PostgreSQL (the feature `postgres`)".to_owned();
    Err(SourceError::InvalidUrl { url: for_display.to_owned(), problem })
}

/// Removes the possible secrets of a URL: user, password and parameters.
///
/// Everything before the last `@` is removed, so that a password with unescaped special characters
/// is removed completely.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else {
        return "(without a scheme)".to_owned();
    };
    if scheme.eq_ignore_ascii_case("sqlite") {
        return url.to_owned();
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return format!("{scheme}:…");
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{}", rest.split(['?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_display(url: &str, expected: &str) {
        assert_eq!(without_secrets(url), expected);
    }

    #[track_caller]
    fn check_invalid(url: &str, expected: &str) {
        let error =
            DatabaseUrl::parse(url).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }

    #[test]
    fn a_url_is_displayed_without_user_password_and_parameters() {
        check_display(
            "postgres://app:hunter2@db:5432/main?password=hunter2",
            "postgres://db:5432/main",
        );
        check_display("postgres://app:hun@ter/2?x@db/main", "postgres://db/main");
        check_display("postgres:///main?host=/run&password=hunter2", "postgres:///main");
        check_display("app:hunter2@db/main", "app:…");
        check_display("hunter2", "(without a scheme)");
    }

    #[test]
    fn a_url_of_an_unknown_database_is_an_error() {
        for url in [
            "",
            "hunter2",
            "mysql://app:hunter2@db/main",
            "/var/lib/variables.db",
            "http://hunter2@x/",
        ] {
            check_invalid(url, "it must begin with `postgres://` or `sqlite:`");
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn an_sqlite_url_names_a_file() {
        for (url, expected) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///data/a%20b%3F.db", "/data/a b?.db"),
            ("SQLite:/data/a.db", "/data/a.db"),
        ] {
            let Ok(DatabaseUrl::Sqlite { path }) = DatabaseUrl::parse(url) else {
                panic!("{url} is not supported")
            };
            assert_eq!(path.to_str(), Some(expected));
        }
        check_invalid("sqlite:", "the path of the file is missing");
        check_invalid("sqlite::memory:", "name a file");
        check_invalid("sqlite:a.db?mode=ro", "parameters are not known");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_error_of_a_postgres_url_has_no_secrets() {
        check_invalid("postgres:app:hunter2", "it must begin with `postgres://`");
        check_invalid("postgres://app:hunter2@db:nonsense/main", "port");
        check_invalid(
            "postgres://app@db/main?pasword=hunter2",
            "the parameter \"pasword\" is not known",
        );
        check_invalid("postgres://app@db/main?sslmode=hunter2", "not a valid URL");
        assert!(
            DatabaseUrl::parse("postgresql://app:x@db/main?sslmode=require&options[search_path]=a")
                .is_ok()
        );
    }
}

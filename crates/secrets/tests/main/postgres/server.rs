//! A temporary PostgreSQL server on a socket.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

pub(super) const USER: &str = "app";
pub(super) const PASSWORD: &str = "hunter2/?@";

/// User and group of the server if the tests run as root. PostgreSQL does not run as root.
const ORDINARY_USER: u32 = 65534;

pub(super) struct Server {
    programs: PathBuf,
    directory: tempfile::TempDir,
    as_ordinary_user: bool,
}

impl Server {
    /// Returns the server that concurrent tests share, or `None` if PostgreSQL is not installed. It
    /// stops after the last of them.
    pub(super) fn shared() -> Option<Arc<Self>> {
        static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start(find_programs()?));
        *running = Arc::downgrade(&server);
        Some(server)
    }

    fn start(programs: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let as_ordinary_user = directory.path().metadata().unwrap().uid() == 0;
        let password_file = directory.path().join("password");
        fs::write(&password_file, PASSWORD).unwrap();
        if as_ordinary_user {
            for path in [directory.path(), &password_file] {
                chown(path, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
            }
        }
        let server = Self { programs, directory, as_ordinary_user };
        let data = server.directory.path().join("data");
        let init = ["--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C", "-U", USER];
        server.run(
            "initdb",
            &[&["-D", path(&data), "--pwfile", path(&password_file)], init.as_slice()].concat(),
        );
        let settings = format!(
            "-c listen_addresses= -k {} -c fsync=off -c full_page_writes=off",
            server.directory.path().display(),
        );
        let log = server.directory.path().join("log");
        server
            .run("pg_ctl", &["-D", path(&data), "-w", "-l", path(&log), "-o", &settings, "start"]);
        server
    }

    /// Returns the URL of a database, with the password and with escaped special characters.
    pub(super) fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:hunter2%2F%3F%40@localhost/{database}?host={}",
            self.socket_directory()
        )
    }

    pub(super) fn socket_directory(&self) -> &str {
        path(self.directory.path())
    }

    /// Creates a database for one test, executes statements in it, and returns its URL.
    pub(super) async fn database(&self, name: &str, statements: &'static str) -> String {
        let mut connection = self.connect("postgres").await;
        // The names are constants of the tests.
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let mut connection = self.connect(name).await;
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        self.url(name)
    }

    pub(super) async fn connect(&self, database: &str) -> PgConnection {
        self.url(database).parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match self.as_ordinary_user {
            true => testkit::as_ordinary_user(program),
            false => Command::new(program),
        };
        // A file and not a pipe: the server inherits it, and a reader of the pipe would wait for
        // the server.
        let output = self.directory.path().join("output");
        let file = fs::File::create(&output).unwrap();
        let status = command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status();
        assert!(
            status.unwrap().success(),
            "{command:?}: {}",
            fs::read_to_string(&output).unwrap_or_default()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        self.run("pg_ctl", &["-D", path(&data), "-w", "-m", "immediate", "stop"]);
    }
}

/// Returns the directory of `initdb` and `pg_ctl`: Debian's latest version, or one in `PATH`.
fn find_programs() -> Option<PathBuf> {
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|directory| directory.join("initdb").is_file() && directory.join("pg_ctl").is_file())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}

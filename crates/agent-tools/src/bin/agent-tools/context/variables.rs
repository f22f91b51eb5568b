//! The database of variables, and the passphrase of its values.

use std::path::PathBuf;

use agent_tools::secrets::sql::VariableStore;
use secrecy::SecretString;

use super::Context;
use crate::advice;
use crate::failure::Failure;
use crate::origins;
use crate::output::errln;
use crate::schemes;
use crate::variable_source::{self, LazyVariables};

impl Context {
    /// Returns the URL of `--variables`, or that of the default database under the home.
    pub(super) fn variables_url(&self) -> Result<String, Failure> {
        match &self.global.variables {
            Some(url) => {
                schemes::check(url, &schemes::VARIABLES)?;
                if variable_source::is_dotenv(url) {
                    return Err(Failure::not_run_text(format!(
                        "{} takes a database, and no option reads the `.env` file {url}; store \
                         each of its variables with `agent-tools variable set NAME`, or read the \
                         file in Rust with `secrets::DotenvSource`",
                        origins::name("--variables")
                    )));
                }
                Ok(url.clone())
            }
            None => Ok(variable_source::sqlite_url(&self.home()?.path().join("agent-tools.db"))),
        }
    }

    /// Returns the path of the default database, if it is used.
    fn default_database(&self) -> Result<Option<PathBuf>, Failure> {
        if self.global.variables.is_some() {
            return Ok(None);
        }
        Ok(Some(self.home()?.path().join("agent-tools.db")))
    }

    /// Opens the database of variables for reading. Returns `None` if it is the default one and
    /// does not exist yet.
    pub(crate) async fn existing_variables(&self) -> Result<Option<VariableStore>, Failure> {
        if self.default_database()?.is_some_and(|file| !file.exists()) {
            return Ok(None);
        }
        let url = self.variables_url()?;
        self.check_database(&url)?;
        let store = VariableStore::connect(&url, self.passphrase()?).await;
        store.map(Some).map_err(Failure::not_run)
    }

    /// Opens the database of variables for a change. Creates an SQLite file that does not exist.
    pub(crate) async fn writable_variables(&self) -> Result<VariableStore, Failure> {
        let url = self.variables_url()?;
        let created = variable_source::file(&url).filter(|file| !file.exists());
        let store = VariableStore::connect_or_create(&url, self.passphrase()?);
        let store = store.await.map_err(Failure::not_run)?;
        // The path may be mistyped.
        if let Some(file) = created.filter(|_| self.global.variables.is_some()) {
            errln!("agent-tools: created {}", file.display());
        }
        Ok(store)
    }

    /// Returns the source of the variables of sessions. Fails if the file of `--variables` does not
    /// exist, because its path may be mistyped.
    pub(super) fn variable_source(&self, url: String) -> Result<LazyVariables, Failure> {
        VariableStore::check_url(&url)
            .map_err(|error| Failure::not_run(error).about("--variables"))?;
        self.check_database(&url)?;
        Ok(LazyVariables::new(url, self.passphrase()?, self.default_database()?))
    }

    /// Checks that the file of `--variables` exists.
    fn check_database(&self, url: &str) -> Result<(), Failure> {
        let missing = variable_source::file(url).filter(|file| !file.exists());
        match missing.filter(|_| self.global.variables.is_some()) {
            Some(file) => {
                let problem = format!(
                    "there is no database of variables at {}; correct {}, or create it with \
                     `agent-tools variable set NAME`",
                    file.display(),
                    origins::name("--variables")
                );
                // A client of the MCP server gets it too.
                Err(Failure::not_run_text(advice::complete(&problem)))
            }
            None => Ok(()),
        }
    }

    /// Returns the passphrase from the file or the environment. It is no option, because other
    /// users can read the command line of a process.
    pub(crate) fn passphrase(&self) -> Result<Option<SecretString>, Failure> {
        match &self.global.secret_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::not_run_text(format!(
                        "cannot read the secret file {}: {error}",
                        file.display()
                    ))
                })?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let line = line.strip_suffix('\r').unwrap_or(line);
                if line.trim().is_empty() {
                    return Err(Failure::not_run_text(format!(
                        "the secret file {} has no passphrase",
                        file.display()
                    )));
                }
                Ok(Some(line.to_owned().into()))
            }
            None => match std::env::var("AGENT_TOOLS_SECRET") {
                Ok(secret) => Ok(Some(secret).filter(|secret| !secret.is_empty()).map(Into::into)),
                Err(std::env::VarError::NotPresent) => Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(Failure::not_run_text("AGENT_TOOLS_SECRET is not UTF-8"))
                }
            },
        }
    }
}

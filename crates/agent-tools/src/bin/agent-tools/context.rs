//! What the global options stand for: home, store, variables, secret.

use std::path::PathBuf;
use std::sync::Arc;

use agent_tools::secrets::sql::VariableStore;
use agent_tools::{
    Home, IgnoreRules, Session, SessionSpec, Sessions, Storage, Tier, VariableSource,
};
use serde::Serialize;

use crate::bar::Bar;
use crate::failure::Failure;
use crate::options::{Global, SessionArgs};
use crate::{schemes, settings};

/// The global options, resolved when a command needs them.
pub(crate) struct Context {
    global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { global }
    }

    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let home = match &self.global.home {
            Some(path) => Some(Home::new(std::path::absolute(path).map_err(Failure::setting)?)),
            None => Home::for_current_user(),
        };
        home.ok_or_else(|| {
            Failure::setting_text(
                "there is no home directory; give one with --home or AGENT_TOOLS_HOME",
            )
        })
    }

    pub(crate) fn tier(&self) -> Tier {
        self.global.tier()
    }

    /// The store of `--store`, or the one under the home.
    pub(crate) fn storage(&self) -> Result<Storage, Failure> {
        match &self.global.store {
            Some(url) => {
                schemes::check(url, &schemes::STORES)?;
                Storage::open(url).map_err(Failure::setting)
            }
            None => Storage::local(&self.home()?.path().join("store")).map_err(Failure::setting),
        }
    }

    /// Where the variables are: the given URL, or a SQLite file under the home.
    fn variables_url(&self) -> Result<String, Failure> {
        match &self.global.variables {
            Some(url) => {
                schemes::check(url, &schemes::VARIABLES)?;
                Ok(url.clone())
            }
            None => {
                let file = self.home()?.path().join("agent-tools.db");
                let file = file
                    .to_str()
                    .ok_or_else(|| Failure::setting_text("the home directory is not UTF-8"))?;
                Ok(format!("sqlite:{file}"))
            }
        }
    }

    /// Whether the default database is not there yet, so that there is nothing to load.
    fn has_no_variables(&self) -> bool {
        self.global.variables.is_none()
            && self.home().is_ok_and(|home| !home.path().join("agent-tools.db").exists())
    }

    /// Opens the database of variables, making the default one where it is not there.
    pub(crate) async fn variables(&self) -> Result<VariableStore, Failure> {
        VariableStore::connect(&self.variables_url()?, self.passphrase()?)
            .await
            .map_err(Failure::setting)
    }

    /// The passphrase, from the file or the environment; never from the command line, which others
    /// can read.
    pub(crate) fn passphrase(&self) -> Result<Option<secrecy::SecretString>, Failure> {
        match &self.global.secret_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::setting_text(format!(
                        "cannot read the secret file {}: {error}",
                        file.display()
                    ))
                })?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned().into()))
            }
            None => match std::env::var("AGENT_TOOLS_SECRET") {
                Ok(secret) => Ok(Some(secret.into())),
                Err(std::env::VarError::NotPresent) => Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(Failure::setting_text("AGENT_TOOLS_SECRET is not UTF-8"))
                }
            },
        }
    }

    /// All that sessions need.
    pub(crate) fn sessions(&self) -> Result<Sessions, Failure> {
        let mut builder = Sessions::builder(self.home()?)
            .storage(self.storage()?)
            .progress(Arc::new(Bar::default()));
        if !self.has_no_variables() {
            let url = self.variables_url()?;
            VariableStore::check_url(&url).map_err(Failure::setting)?;
            builder =
                builder.variables(Arc::new(LazyVariables { url, passphrase: self.passphrase()? }));
        }
        if let Some(venv) = &self.global.python_venv {
            if !venv.join("bin").is_dir() {
                return Err(Failure::setting_text(format!(
                    "{} is not a Python virtual environment: it has no bin",
                    venv.display()
                )));
            }
            builder = builder.python_venv(std::path::absolute(venv).map_err(Failure::setting)?);
        }
        builder = builder.tier(self.tier());
        if !self.global.ignore.is_empty() {
            builder = builder
                .ignore(IgnoreRules::from_patterns(&self.global.ignore).map_err(Failure::setting)?);
        }
        if let Some(dir) = application_dir() {
            builder = builder.application_dir(dir);
        }
        Ok(builder.build())
    }

    /// What the options say about one session.
    pub(crate) fn spec(&self, args: &SessionArgs) -> Result<SessionSpec, Failure> {
        let mut spec = SessionSpec::new(args.session.clone()).user(args.user.clone());
        spec.skills.clone_from(&args.skills);
        spec.allow_read.clone_from(&args.allow_read);
        spec.allow_write.clone_from(&args.allow_write);
        spec.policy = args.policy.as_deref().map(settings::read).transpose()?;
        Ok(spec)
    }

    /// Opens a session, and tells on standard error what was not as asked for.
    pub(crate) async fn open(&self, args: &SessionArgs) -> Result<Arc<Session>, Failure> {
        let session = self.sessions()?.open(self.spec(args)?).await.map_err(Failure::setting)?;
        for warning in session.warnings() {
            eprintln!("agent-tools: warning: {warning}");
        }
        Ok(session)
    }

    /// Prints a result: as JSON, or as `human` writes it.
    pub(crate) fn print(
        &self,
        result: &impl Serialize,
        human: impl FnOnce(),
    ) -> Result<(), Failure> {
        if self.global.json {
            println!("{}", serde_json::to_string(result).map_err(Failure::new)?);
        } else {
            human();
        }
        Ok(())
    }
}

/// The directory that the command runs in, which is the caller's business and not the agent's;
/// system directories stay readable.
fn application_dir() -> Option<PathBuf> {
    const SYSTEM: [&str; 12] = [
        "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/sys",
        "/nix", "/tmp",
    ];
    let dir = std::env::current_dir().ok()?;
    let is_system = dir.parent().is_none() || SYSTEM.iter().any(|system| dir.starts_with(system));
    (!is_system).then_some(dir)
}

/// Variables of a database that is asked only when a session opens, so that a database that is down
/// costs the variables and nothing else.
#[derive(Debug)]
struct LazyVariables {
    url: String,
    passphrase: Option<secrecy::SecretString>,
}

#[async_trait::async_trait]
impl VariableSource for LazyVariables {
    async fn load(
        &self,
    ) -> Result<agent_tools::secrets::LoadedVariables, agent_tools::secrets::SourceError> {
        VariableStore::connect(&self.url, self.passphrase.clone()).await?.load().await
    }
}

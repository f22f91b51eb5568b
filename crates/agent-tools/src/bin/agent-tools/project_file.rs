//! The file `.agent-tools.toml` in the working directory: restrictions of a project.
//!
//! The author of a project may be untrusted, so its file can only restrict. Policies protect its
//! name, and it is not read from a session directory, which the agent writes.

use std::io::Read;
use std::path::{Path, PathBuf};

use agent_tools::policy::{PathEntry, SandboxRuntimeConfig};
use agent_tools::{NetworkSpec, Restrictions, SessionSpec};
use serde::Deserialize;

use crate::failure::Failure;
use crate::settings;

/// The name of the file.
pub(crate) const FILE: &str = ".agent-tools.toml";

/// The size of the largest file.
const MAX_BYTES: u64 = 64 * 1024;

/// The keys of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Keys {
    deny_read: Vec<String>,
    deny_write: Vec<String>,
    no_network: bool,
    read_only_skills: bool,
}

/// The restrictions of a project.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Project {
    /// Paths and patterns that commands may not read, absolute.
    deny_read: Vec<PathEntry>,
    /// Paths and patterns that commands may not write, absolute.
    deny_write: Vec<PathEntry>,
    /// Set to leave commands without a network.
    no_network: bool,
    /// Set to keep the skills of sessions as they are.
    pub(crate) read_only_skills: bool,
    /// The file, if there is one.
    file: PathBuf,
}

impl Project {
    /// Reads the file of a directory; without one, nothing is restricted.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        let file = dir.join(FILE);
        let failed = |problem: &dyn std::fmt::Display| {
            Failure::not_run_text(format!("{}: {problem}", file.display()))
        };
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(failed(&"it is no regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(failed(&error)),
        }
        if is_in_session(dir) {
            return Ok(Self::default());
        }
        let mut text = String::new();
        let opened = std::fs::File::open(&file).map_err(|error| failed(&error))?;
        opened.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(failed(&format!("it is larger than {MAX_BYTES} bytes")));
        }
        let keys: Keys = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
            let problem = error.message();
            let problem = problem.replace("unknown field", "a project can only restrict, not set");
            Failure::not_run_text(format!("{}:{line}: {problem}", file.display()))
        })?;
        let mut listed = SandboxRuntimeConfig::default();
        let entries = |list: Vec<String>| list.into_iter().map(PathEntry::from).collect();
        listed.filesystem.deny_read = entries(keys.deny_read);
        listed.filesystem.deny_write = entries(keys.deny_write);
        listed.validate().map_err(|error| {
            let place = error.path.to_string().replace("filesystem.denyRead", "deny-read");
            let place = place.replace("filesystem.denyWrite", "deny-write");
            failed(&format!("{place}: {}", error.problem))
        })?;
        let absolute = |list: &[PathEntry]| -> Result<Vec<PathEntry>, Failure> {
            let entries = list.iter().map(|entry| settings::absolute_entry(entry, dir));
            entries.collect::<Result<_, _>>().map_err(|problem| failed(&problem))
        };
        Ok(Self {
            deny_read: absolute(&listed.filesystem.deny_read)?,
            deny_write: absolute(&listed.filesystem.deny_write)?,
            no_network: keys.no_network,
            read_only_skills: keys.read_only_skills,
            file,
        })
    }

    /// Returns the restrictions for the texts of denials.
    pub(crate) fn restrictions(&self) -> Option<Restrictions> {
        let mut restrictions = Restrictions::new(&self.file);
        restrictions.no_network = self.no_network;
        restrictions.read_only_skills = self.read_only_skills;
        restrictions.deny_write.clone_from(&self.deny_write);
        (!self.file.as_os_str().is_empty()).then_some(restrictions)
    }

    /// Returns a warning if the network that a session asks for has no effect.
    pub(crate) fn warning(&self, asked: Option<&NetworkSpec>) -> Option<String> {
        (self.no_network && asked.is_some()).then(|| {
            let file = self.file.display();
            format!("no-network in {file}: the options for the network have no effect")
        })
    }

    /// Returns whether commands are left without a network.
    pub(crate) fn has_no_network(&self) -> bool {
        self.no_network
    }

    /// Restricts a session.
    pub(crate) fn restrict(&self, spec: &mut SessionSpec) {
        spec.deny_read.extend(self.deny_read.iter().cloned());
        spec.deny_write.extend(self.deny_write.iter().cloned());
        if self.no_network {
            spec.network = Some(NetworkSpec::default());
            if let Some(policy) = &mut spec.policy {
                policy.network = SandboxRuntimeConfig::default().network;
            }
        }
    }

    /// Returns the network that is asked for, unless the project leaves none.
    pub(crate) fn restrict_network(&self, asked: Option<NetworkSpec>) -> Option<NetworkSpec> {
        asked.filter(|_| !self.no_network)
    }

    /// Restricts the settings of a command without a session.
    pub(crate) fn restrict_settings(&self, config: &mut SandboxRuntimeConfig) {
        let files = &mut config.filesystem;
        files.deny_read.extend(self.deny_read.iter().cloned());
        files.deny_write.extend(self.deny_write.iter().cloned());
        if self.no_network {
            config.network = SandboxRuntimeConfig::default().network;
        }
    }
}

/// Returns the place of the file of a directory, unless no file counts there.
pub(crate) fn place(dir: &Path) -> Option<PathBuf> {
    (!is_in_session(dir)).then(|| dir.join(FILE))
}

/// Returns whether a directory is one of a session, or below one.
fn is_in_session(dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    dir.ancestors().any(|session| {
        let sessions = session.parent().filter(|parent| parent.ends_with("sessions"));
        let state = sessions.and_then(Path::parent).map(|home| home.join("state"));
        let name = session.file_name();
        state.zip(name).is_some_and(|(state, name)| state.join(name).is_dir())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_restricts_and_sets_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |dir: &Path, text: &str| std::fs::write(dir.join(FILE), text).unwrap();
        assert_eq!(Project::read(dir.path()).unwrap(), Project::default());
        let text = "deny-read = [\"secret\", \"/data\", \"*.pem\", \"~/k\"]\nno-network = true\n";
        write(dir.path(), text);
        let project = Project::read(dir.path()).unwrap();
        let pattern = dir.path().join("*.pem");
        let expected = [
            PathEntry::from(dir.path().join("secret").as_path()),
            PathEntry::from("/data"),
            PathEntry::from(pattern.to_str().unwrap()),
            PathEntry::from("~/k"),
        ];
        assert_eq!(project.deny_read, expected);
        assert!(project.no_network);
        for invalid in ["", "/a/*/"] {
            write(dir.path(), &format!("deny-write = [{invalid:?}]\n"));
            let failure = Project::read(dir.path()).unwrap_err();
            let place = ".agent-tools.toml: deny-write[0]: ";
            assert!(failure.message().contains(place), "{}", failure.message());
        }
        write(dir.path(), "no-network = true\nallow-read = [\"/\"]\n");
        let failure = Project::read(dir.path()).unwrap_err();
        let message = failure.message();
        assert!(message.contains(".agent-tools.toml:2: a project can only restrict"), "{message}");
        let session = dir.path().join("sessions/s1/sub");
        std::fs::create_dir_all(&session).unwrap();
        write(&session, "no-network = true");
        assert!(Project::read(&session).unwrap().no_network, "no home is around it");
        std::fs::create_dir_all(dir.path().join("state/s1")).unwrap();
        assert_eq!(Project::read(&session).unwrap(), Project::default());
    }
}

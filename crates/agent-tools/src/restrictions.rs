//! The file that restricts sessions beyond the options of a command.

use std::path::{Path, PathBuf};

use policy::{PathEntry, Remedy};
use skill_store::SKILLS_DIRECTORY;

use crate::remedies::remedy_option;

/// The restrictions of a file that options do not lift, for the texts of denials. The request of a
/// session and [`SessionsBuilder`](crate::SessionsBuilder) enforce them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restrictions {
    /// The file.
    pub file: PathBuf,
    /// Set if the file has `no-network`.
    pub no_network: bool,
    /// Set if the file has `read-only-skills`.
    pub read_only_skills: bool,
    /// The absolute paths and patterns of `deny-write`.
    pub deny_write: Vec<PathEntry>,
}

impl Restrictions {
    /// Restricts nothing yet.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// Renders the change that allows an access like [`remedy_option`], and names the file if it
    /// restricts the access.
    pub fn remedy(&self, remedy: &Remedy, shows: impl Fn(&Path) -> bool) -> Option<String> {
        self.change(remedy).or_else(|| remedy_option(remedy, shows))
    }

    /// Returns the change of the file that allows an access, if the file restricts it.
    pub fn change(&self, remedy: &Remedy) -> Option<String> {
        let key = match remedy {
            Remedy::AllowDomain(_) | Remedy::RemoveDeniedDomain(_) if self.no_network => {
                "no-network".to_owned()
            }
            Remedy::RemoveDenyWrite(entry) => {
                let path = Path::new(entry);
                let same = |denied: &&PathEntry| {
                    let expanded = expand(&denied.to_string());
                    expanded == path || expanded.canonicalize().is_ok_and(|found| found == path)
                };
                match self.deny_write.iter().find(same) {
                    Some(denied) => format!("{denied} from deny-write"),
                    None if self.read_only_skills && path.ends_with(SKILLS_DIRECTORY) => {
                        "read-only-skills".to_owned()
                    }
                    None => return None,
                }
            }
            _ => return None,
        };
        let within = if key.contains(' ') { "in" } else { "from" };
        Some(format!("remove {key} {within} {}", self.file.display()))
    }
}

/// Returns the path of an entry as rules have it, with `~` expanded and without `/**` at the end.
fn expand(entry: &str) -> PathBuf {
    let entry = Path::new(entry.trim_end_matches("/**"));
    let below_home = entry.strip_prefix("~").ok();
    below_home
        .and_then(|below| Some(std::env::home_dir()?.join(below)))
        .unwrap_or_else(|| entry.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_file_only_if_it_restricts_the_access() {
        let mut restrictions = Restrictions::new("/p/.agent-tools.toml");
        let domain = Remedy::AllowDomain("a.test".to_owned());
        let skills = Remedy::RemoveDenyWrite("/s/1/skills".to_owned());
        let data = Remedy::RemoveDenyWrite("/p/data".to_owned());
        let all = [&domain, &skills, &data];
        assert!(all.iter().all(|remedy| restrictions.change(remedy).is_none()));
        (restrictions.no_network, restrictions.read_only_skills) = (true, true);
        restrictions.deny_write.push(Path::new("/p/data").into());
        let changes = all.map(|remedy| restrictions.change(remedy).unwrap());
        let expected = [
            "remove no-network from /p/.agent-tools.toml",
            "remove read-only-skills from /p/.agent-tools.toml",
            "remove /p/data from deny-write in /p/.agent-tools.toml",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn an_entry_below_the_home_directory_is_named_as_it_is_written() {
        let home = std::env::home_dir().unwrap();
        let mut restrictions = Restrictions::new("/p/.agent-tools.toml");
        restrictions.deny_write = ["~", "~/absent", "/p/data/**"].map(PathEntry::from).to_vec();
        for (path, expected) in [
            (home.canonicalize().unwrap_or_else(|_| home.clone()), "~"),
            (home.join("absent"), "~/absent"),
            ("/p/data".into(), "/p/data/**"),
        ] {
            let remedy = Remedy::RemoveDenyWrite(path.to_str().unwrap().to_owned());
            let expected = format!("remove {expected} from deny-write in /p/.agent-tools.toml");
            assert_eq!(restrictions.change(&remedy), Some(expected));
        }
    }
}

//! What a policy says about one path or one host, and why.

use std::fmt;
use std::path::Path;

use crate::domain;
use crate::mandatory;
use crate::policy::Policy;
use crate::rules::{PathRule, depth};

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Reading a file, listing a directory.
    Read,
    /// Making, changing, or removing it.
    Write,
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that decides.
    pub rule: Rule,
    /// What would allow it, where something can.
    pub remedy: Option<String>,
}

/// The rule that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// `filesystem.disabled`: there are no rules for files.
    Disabled,
    /// No entry of this list covers it: what `denyRead` does not cover can be read, what
    /// `allowWrite` does not cover cannot be written to, and what `allowedDomains` does not cover
    /// cannot be reached.
    Unlisted {
        /// The list.
        list: &'static str,
    },
    /// An entry of a list, such as `denyRead`.
    Listed {
        /// The list.
        list: &'static str,
        /// The entry, made absolute.
        entry: String,
    },
    /// It is protected because other programs would execute it.
    Mandatory {
        /// The protected name, such as `.git/hooks`.
        name: String,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("filesystem.disabled"),
            Self::Unlisted { list } => write!(f, "no entry of {list} covers it"),
            Self::Listed { list, entry } => write!(f, "{list} has {entry}"),
            Self::Mandatory { name } => write!(f, "{name} is always protected from writing"),
        }
    }
}

impl Policy {
    /// Judges an absolute path that has no symlink on it. Pure: nothing is looked up.
    ///
    /// The most specific of the rules for reading wins, an allowing one where two are equally
    /// specific. For writing, an entry of `denyWrite` and a protected name win over every entry of
    /// `allowWrite`, and what is hidden cannot be written to.
    pub fn explain(&self, path: &Path, access: Access) -> Verdict {
        if self.files_are_free() {
            return Verdict { allowed: true, rule: Rule::Disabled, remedy: None };
        }
        match access {
            Access::Read => self.explain_read(path),
            Access::Write => self.explain_write(path),
        }
    }

    /// Judges a connection to a host, a name or an address without brackets; `port` when it is
    /// known. Pure: no name is resolved.
    ///
    /// An entry of `deniedDomains` wins over every entry of `allowedDomains`; what neither covers
    /// is denied.
    pub fn explain_host(&self, host: &str, port: Option<u16>) -> Verdict {
        let network = &self.config().network;
        let find = |list: &'static str, entries: &[String]| {
            let entry = entries.iter().find(|entry| domain::covers(entry, host, port))?.clone();
            Some(Rule::Listed { list, entry })
        };
        if let Some(rule) = find("deniedDomains", &network.denied_domains) {
            let remedy =
                Some(format!("take the entry that covers {host} out of network.deniedDomains"));
            return Verdict { allowed: false, rule, remedy };
        }
        match find("allowedDomains", &network.allowed_domains) {
            Some(rule) => Verdict { allowed: true, rule, remedy: None },
            None => {
                let remedy = Some(format!("add {host} to network.allowedDomains"));
                Verdict { allowed: false, rule: Rule::Unlisted { list: "allowedDomains" }, remedy }
            }
        }
    }

    fn explain_read(&self, path: &Path) -> Verdict {
        // The root stands for everything below it but the kernel's own trees (srt: "denyRead /").
        let kernels_own = ["/proc", "/dev", "/sys"].iter().any(|own| path.starts_with(own))
            || path == Path::new("/");
        let denied = most_specific(&self.deny_read, path).filter(|(at, _)| *at > 0 || !kernels_own);
        let shown = [("allowRead", &self.allow_read), ("allowWrite", &self.allow_write)]
            .into_iter()
            .filter_map(|(list, rules)| {
                most_specific(rules, path).map(|(at, rule)| (at, list, rule))
            })
            .max_by_key(|(at, ..)| *at);
        match (denied, shown) {
            (None, _) => {
                Verdict { allowed: true, rule: Rule::Unlisted { list: "denyRead" }, remedy: None }
            }
            (Some((hidden_at, _)), Some((shown_at, list, rule))) if shown_at >= hidden_at => {
                Verdict { allowed: true, rule: listed(list, rule), remedy: None }
            }
            (Some((_, rule)), _) => {
                let remedy = Some(format!("add {} to filesystem.allowRead", path.display()));
                Verdict { allowed: false, rule: listed("denyRead", rule), remedy }
            }
        }
    }

    fn explain_write(&self, path: &Path) -> Verdict {
        if let Some((_, rule)) = most_specific(&self.deny_write, path) {
            let remedy = Some(format!("take {rule} out of filesystem.denyWrite"));
            return Verdict { allowed: false, rule: listed("denyWrite", rule), remedy };
        }
        let Some((root_at, root)) = most_specific(&self.allow_write, path) else {
            let remedy = Some(format!("add {} to filesystem.allowWrite", path.display()));
            return Verdict { allowed: false, rule: Rule::Unlisted { list: "allowWrite" }, remedy };
        };
        if let Some(name) = self.mandatory(path) {
            let remedy =
                (name == ".git/config").then(|| "set filesystem.allowGitConfig".to_owned());
            return Verdict { allowed: false, rule: Rule::Mandatory { name }, remedy };
        }
        // What is hidden inside a writable path is not writable again because an entry of allowRead
        // shows it.
        if let Some((_, hidden)) =
            most_specific(&self.deny_read, path).filter(|(at, _)| *at > root_at)
        {
            let remedy = Some(format!("add {} to filesystem.allowWrite", path.display()));
            return Verdict { allowed: false, rule: listed("denyRead", hidden), remedy };
        }
        Verdict { allowed: true, rule: listed("allowWrite", root), remedy: None }
    }

    /// The protected name that covers a path in one of the write roots.
    fn mandatory(&self, path: &Path) -> Option<String> {
        let roots = self.allow_write.iter().filter_map(|rule| match rule {
            PathRule::Path(root) => path.strip_prefix(root).ok(),
            PathRule::Glob(_) => None,
        });
        for below in roots {
            let mut rest = below.components();
            while let Some(name) = rest.as_path().iter().next() {
                let at = rest.as_path();
                if name == mandatory::LEFT_OUT {
                    break;
                }
                if let Some(name) = mandatory::FILES
                    .iter()
                    .chain(&mandatory::DIRECTORIES)
                    .find(|name| at.starts_with(name))
                {
                    return Some((*name).to_owned());
                }
                if name == ".git" {
                    let inside: Vec<&str> =
                        at.iter().skip(1).filter_map(|name| name.to_str()).collect();
                    if let Some(name) = self.mandatory_in_repository(&inside) {
                        return Some(format!(".git/{name}"));
                    }
                    break;
                }
                rest.next();
            }
        }
        None
    }

    /// The protected name that covers a path in a repository, given by its names.
    fn mandatory_in_repository(&self, path: &[&str]) -> Option<String> {
        let protected = |name: &str| {
            name == mandatory::GIT_HOOKS
                || mandatory::GIT_CONFIGS.contains(&name) && !self.allows_git_config()
        };
        match path {
            [first, ..] if protected(first) => Some((*first).to_owned()),
            // Where the name of a submodule ends is known to the compiler, which looks; here more
            // is protected.
            [mandatory::GIT_MODULES, inside @ ..] => {
                inside.iter().find(|name| protected(name)).map(|name| format!("modules/…/{name}"))
            }
            ["worktrees", _, name] if protected(name) => Some(format!("worktrees/…/{name}")),
            _ => None,
        }
    }
}

/// The rule that covers the path deepest, and how deep.
fn most_specific<'a>(rules: &'a [PathRule], path: &Path) -> Option<(usize, &'a PathRule)> {
    rules
        .iter()
        .filter_map(|rule| Some((rule.depth_covering(path)?, rule)))
        .max_by_key(|(at, _)| *at)
}

fn listed(list: &'static str, rule: &PathRule) -> Rule {
    Rule::Listed { list, entry: rule.to_string() }
}

/// Whether one path lies strictly inside another.
pub(crate) fn is_inside(path: &Path, dir: &Path) -> bool {
    path.starts_with(dir) && depth(path) > depth(dir)
}

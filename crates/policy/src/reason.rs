//! Rules that decide about an access, as reasons for a person.

use std::fmt;
use std::path::PathBuf;

use crate::remedy::Remedy;

/// Rule that decides about an access.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The path is relative or empty, or has a component `..`, so it may lead anywhere.
    Unresolved,
    /// The path lies in one that is hidden whatever the settings say.
    Sealed {
        /// The hidden path.
        path: PathBuf,
    },
    /// The path is one that stays as it is whatever the settings say, or lies in it.
    Frozen {
        /// The path that stays as it is.
        path: PathBuf,
    },
    /// The path lies in a directory that each session sees empty and writable.
    Private {
        /// The directory.
        path: PathBuf,
    },
    /// `filesystem.disabled` is set, so there are no rules for files.
    Disabled,
    /// No entry of the list covers the path or host. Outside `denyRead` a path is readable; outside
    /// `allowWrite` it is read-only. A host outside `allowedDomains` is denied.
    Unlisted {
        /// Name of the list.
        list: &'static str,
    },
    /// An entry of a list such as `denyRead` covers the path or host.
    Listed {
        /// Name of the list.
        list: &'static str,
        /// The entry; a path is absolute.
        entry: String,
    },
    /// An entry covers the path, which did not exist when the engine opened. There was nothing to
    /// open.
    NotYet {
        /// Name of the list.
        list: &'static str,
        /// The entry, made absolute.
        entry: String,
    },
    /// A pattern covers the path, which did not exist when the engine opened. Nothing was there to
    /// hide, and a file that appears is hidden from the next command on.
    NotYetHidden {
        /// The pattern, made absolute.
        entry: String,
    },
    /// An entry of a list covers the path, and does not include it.
    NotIncluded {
        /// Name of the list.
        list: &'static str,
        /// The entry; a path is absolute.
        entry: String,
        /// The path that needs an entry of its own.
        path: PathBuf,
    },
    /// The host has a file there, and the session has its own directory instead.
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// An entry of `allowWrite` opens the path, because the engine cannot enforce the rules for
    /// paths inside a writable directory.
    InnerRule {
        /// The writable directory.
        path: PathBuf,
    },
    /// The permissions of the host deny the access to the user of the session.
    HostPermissions,
    /// The name is protected because other programs would execute the file.
    Mandatory {
        /// The protected name, such as `.git/hooks`.
        name: String,
    },
    /// The configuration of a git repository names the path, so git would execute or read it.
    NamedByGit,
    /// The text is neither the name of a host nor an address.
    NotAHost,
    /// The session has no network, whatever the settings say.
    NoNetwork,
    /// No rule names the host. The user was asked, and allowed it.
    Answered,
    /// Each session has its own loopback interface, with its own servers.
    OwnLoopback,
    /// The engine closes the path on its tier, whatever the settings say.
    Closed {
        /// The closed path.
        path: PathBuf,
    },
    /// A rule for another path, which leads to this one through symlinks.
    Linked {
        /// The rule.
        rule: Box<Rule>,
        /// The path that it is about.
        from: PathBuf,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved => f.write_str("the path is not absolute, or has a component `..`"),
            Self::Sealed { path } => write!(f, "{} is never accessible", path.display()),
            Self::Frozen { path } => write!(f, "{} is never writable", path.display()),
            Self::Private { path } => {
                write!(f, "each session has its own {} instead of the host's", path.display())
            }
            Self::Disabled => f.write_str("filesystem.disabled"),
            Self::Unlisted { list } => write!(f, "no entry of {list} covers it"),
            Self::Listed { list, entry } => write!(f, "{list} has {entry}"),
            Self::NotYet { list, entry } => write!(
                f,
                "it does not exist yet; {list} has {entry}, which opens what exists when the \
                 session opens"
            ),
            Self::NotYetHidden { entry } => write!(
                f,
                "it does not exist yet; denyRead has {entry}, which hides a new file from the \
                 next command on"
            ),
            Self::NotIncluded { list, entry, path } => {
                write!(f, "{list} has {entry}, which does not include {}", path.display())
            }
            Self::Replaced { path } => {
                write!(f, "hidden: each session has its own {}", path.display())
            }
            Self::InnerRule { path } => write!(
                f,
                "{} is writable, and the rules inside it are not enforced",
                path.display()
            ),
            Self::HostPermissions => {
                f.write_str("the permissions of the host deny it to this user")
            }
            Self::Mandatory { name } => write!(f, "{name} is always protected from writing"),
            Self::NamedByGit => {
                f.write_str("the configuration of a git repository names it, so it is protected")
            }
            Self::NotAHost => f.write_str("it is neither the name of a host nor an address"),
            Self::NoNetwork => f.write_str("the session has no network"),
            Self::Answered => f.write_str("the user allowed it"),
            Self::OwnLoopback => f.write_str("each session has a loopback interface of its own"),
            Self::Closed { path } => {
                write!(f, "{} is closed by the engine `landlock`", path.display())
            }
            Self::Linked { rule, from } => write!(f, "{rule}, and {} leads to it", from.display()),
        }
    }
}

impl Rule {
    /// Returns the change of the settings that lifts a rule against writing, if there is one.
    pub(crate) fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Listed { list: "denyWrite", entry } => {
                Some(Remedy::RemoveDenyWrite(entry.clone()))
            }
            Self::Mandatory { name } if name.starts_with(".git/config") => {
                Some(Remedy::AllowGitConfig)
            }
            Self::Linked { rule, .. } => rule.remedy(),
            _ => None,
        }
    }
}

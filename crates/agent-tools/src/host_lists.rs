//! Remedies that open a host, as options or as entries of the list that another place has.

use std::path::Path;
use std::sync::OnceLock;

use crate::remedies::quoted;

/// The places that have the values of `--allow-host` and `--deny-host` instead of the command line,
/// such as `AGENT_TOOLS_ALLOW_HOST`. A remedy names the place, because an option would replace its
/// list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLists {
    /// The place of the values of `--allow-host`.
    pub allow: Option<String>,
    /// The place of the values of `--deny-host`.
    pub deny: Option<String>,
}

static LISTS: OnceLock<HostLists> = OnceLock::new();

impl HostLists {
    /// Notes the places for the remedies of this process. A second call has no effect.
    pub fn note(self) {
        let _ = LISTS.set(self);
    }

    fn noted() -> Option<&'static Self> {
        LISTS.get()
    }
}

/// The change of a command line that opens a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostChange {
    /// An entry of the allowed hosts.
    Allow(String),
    /// Another option, with its value.
    Option(String),
}

/// Renders changes of the command line, and of the place that has the allowed hosts.
pub(crate) fn use_options(changes: &[HostChange]) -> String {
    opening(changes, HostLists::noted().and_then(|lists| lists.allow.as_deref()))
}

fn opening(changes: &[HostChange], place: Option<&str>) -> String {
    let mut entries = Vec::new();
    let mut options = Vec::new();
    for change in changes {
        match change {
            HostChange::Allow(entry) if place.is_some() => entries.push(entry.as_str()),
            HostChange::Allow(entry) => {
                options.push(format!("--allow-host {}", quoted(Path::new(entry))));
            }
            HostChange::Option(option) => options.push(option.clone()),
        }
    }
    let added = place
        .filter(|_| !entries.is_empty())
        .map(|place| format!("add {} to {place}", entries.join(", ")));
    let used = (!options.is_empty()).then(|| format!("use {}", options.join(" ")));
    added.into_iter().chain(used).collect::<Vec<_>>().join(", and ")
}

/// Renders the removal of an entry of the denied hosts.
pub(crate) fn remove_denied(entry: &str) -> String {
    removal(entry, HostLists::noted().and_then(|lists| lists.deny.as_deref()))
}

fn removal(entry: &str, place: Option<&str>) -> String {
    match place {
        Some(place) => {
            format!("remove {entry} from {place}, or from network.deniedDomains in settings")
        }
        None => format!(
            "leave out --deny-host {}, or remove the entry from network.deniedDomains in settings",
            quoted(Path::new(entry))
        ),
    }
}

/// Returns the place of the allowed hosts.
pub(crate) fn allowed_place() -> &'static str {
    HostLists::noted().and_then(|lists| lists.allow.as_deref()).unwrap_or("--allow-host")
}

/// Returns the place of the denied hosts.
pub(crate) fn denied_place() -> &'static str {
    HostLists::noted().and_then(|lists| lists.deny.as_deref()).unwrap_or("--deny-host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_added_where_the_list_is() {
        let allow = |entry: &str| HostChange::Allow(entry.to_owned());
        let (a, b) = (allow("a.test:443"), allow("[::2]:443"));
        let expose = HostChange::Option("--expose db=HOST:1".to_owned());
        let check = |changes: &[HostChange], place, expected: &str| {
            assert_eq!(opening(changes, place), expected);
        };
        let place = Some("`allow-host` in /h/agent-tools.toml");
        let both = [a.clone(), b];
        check(&both, None, "use --allow-host a.test:443 --allow-host '[::2]:443'");
        let added = "add a.test:443, [::2]:443 to `allow-host` in /h/agent-tools.toml";
        check(&both, place, added);
        check(std::slice::from_ref(&expose), place, "use --expose db=HOST:1");
        let (changes, variable) = ([a, expose], Some("AGENT_TOOLS_ALLOW_HOST"));
        let added = "add a.test:443 to AGENT_TOOLS_ALLOW_HOST, and use --expose db=HOST:1";
        check(&changes, variable, added);
        check(&changes, None, "use --allow-host a.test:443 --expose db=HOST:1");
        assert_eq!(
            removal("*", Some("AGENT_TOOLS_DENY_HOST")),
            "remove * from AGENT_TOOLS_DENY_HOST, or from network.deniedDomains in settings"
        );
    }
}

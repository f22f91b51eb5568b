//! The origins of values that the command line does not have: variables and the configuration file.
//! A message about such a value names its origin, and not the option.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use agent_tools::HostLists;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error};

/// The options with names of files and skills, which messages repeat.
const REPEATED: [&str; 8] = [
    "--policy",
    "--allow-read",
    "--allow-write",
    "--skill",
    "--skill-key",
    "--secret-file",
    "--python-venv",
    "--store",
];
/// The length from which a value is recognised in a message.
const MIN_LENGTH: usize = 3;

/// A value that the command line does not have.
#[derive(Debug)]
struct Origin {
    /// The option, such as `--policy`.
    option: String,
    /// The variable, or the key of the file.
    name: String,
    values: Vec<String>,
}

/// The origins of this process.
static ORIGINS: OnceLock<Vec<Origin>> = OnceLock::new();

/// Notes the values that do not come from the command line. `configured` is the command with the
/// defaults of the configuration file, and `plain` without them.
pub(crate) fn note(matches: &ArgMatches, plain: &Command, configured: &Command, file: &Path) {
    let mut origins = Vec::new();
    collect(matches, plain, configured, file, &mut origins);
    let _ = ORIGINS.set(origins);
    let mut lists = HostLists::default();
    (lists.allow, lists.deny) = (list("--allow-host"), list("--deny-host"));
    lists.note();
}

/// Returns the place of the values of an option, if the command line does not have them.
fn list(option: &str) -> Option<String> {
    own(option).filter(|origin| !origin.values.is_empty()).map(|origin| origin.name.clone())
}

fn collect(
    matches: &ArgMatches,
    plain: &Command,
    configured: &Command,
    file: &Path,
    origins: &mut Vec<Origin>,
) {
    for option in configured.get_arguments() {
        let (id, Some(long)) = (option.get_id().as_str(), option.get_long()) else { continue };
        let name = match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => option.get_env().map(lossy),
            Some(ValueSource::DefaultValue) => {
                let usual = plain.get_arguments().find(|other| other.get_id().as_str() == id);
                let is_usual = usual
                    .is_some_and(|usual| usual.get_default_values() == option.get_default_values());
                (!is_usual).then(|| format!("`{long}` in {}", file.display()))
            }
            _ => None,
        };
        if let Some(name) = name {
            let values = matches.get_raw(id).into_iter().flatten().map(lossy).collect();
            origins.push(Origin { option: format!("--{long}"), name, values });
        }
    }
    if let Some((name, matches)) = matches.subcommand()
        && let (Some(plain), Some(configured)) =
            (plain.find_subcommand(name), configured.find_subcommand(name))
    {
        collect(matches, plain, configured, file, origins);
    }
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// Returns the name of an option such as `--policy`, or that of the variable or the key of the
/// file that has its value.
pub(crate) fn name(option: &'static str) -> Cow<'static, str> {
    match own(option) {
        Some(origin) => origin.name.clone().into(),
        None => option.into(),
    }
}

/// Returns the clause that names the origin of an option's value; `None` if that is the command
/// line or the default.
pub(crate) fn clause(option: &str) -> Option<String> {
    own(option).map(|origin| format!("{} has this value", origin.name))
}

fn own(option: &str) -> Option<&'static Origin> {
    ORIGINS.get()?.iter().find(|origin| origin.option == option)
}

/// Names the origin of a value that a message repeats.
pub(crate) fn complete(message: &str) -> Cow<'_, str> {
    complete_with(message, ORIGINS.get().map_or(&[], Vec::as_slice))
}

fn complete_with<'m>(message: &'m str, origins: &[Origin]) -> Cow<'m, str> {
    let has = |value: &&String| value.len() >= MIN_LENGTH && has_word(message, value);
    let repeated = origins.iter().filter(|origin| REPEATED.contains(&&*origin.option));
    let mut found = repeated.filter(|origin| origin.values.iter().any(|value| has(&value)));
    match found.next().filter(|origin| !message.contains(&origin.name)) {
        Some(origin) => format!("{message}; {} has this value", origin.name).into(),
        None => message.into(),
    }
}

/// Returns whether a text has this part, and not as a part of a longer name.
fn has_word(text: &str, part: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    text.match_indices(part).any(|(at, part)| {
        let (before, after) = (&text[..at], &text[at + part.len()..]);
        !before.ends_with(is_of_name) && !after.starts_with(is_of_name)
    })
}

/// Names the variables of an invalid command line in its error, in the place of their options.
pub(crate) fn name_variables(command: &Command, error: &mut Error) {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => Some(value.clone()),
        _ => None,
    };
    let variable = |option: &String| variable(command, option, value.as_deref());
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let renamed = match error.get(kind) {
            Some(ContextValue::String(option)) => variable(option).map(ContextValue::String),
            Some(ContextValue::Strings(options)) => {
                let name = |option: &String| variable(option).unwrap_or(option.clone());
                Some(ContextValue::Strings(options.iter().map(name).collect()))
            }
            _ => None,
        };
        if let Some(renamed) = renamed {
            error.insert(kind, renamed);
        }
    }
}

/// Returns the variable that has the value of an option such as `--engine <ENGINE>`. An invalid
/// value of the variable is an error also if the command line has the option.
fn variable(command: &Command, option: &str, invalid: Option<&str>) -> Option<String> {
    let option = option.split([' ', '=']).next()?;
    let variable = find(command, option.strip_prefix("--")?)?.get_env()?.to_owned();
    let of_variable = std::env::var_os(&variable).filter(|value| !value.is_empty())?;
    let words: Vec<_> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let given = words.iter().enumerate().filter_map(|(at, word)| {
        let rest = word.strip_prefix(option)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => Some(words.get(at + 1).map_or("", |next| next)),
            None => None,
        }
    });
    let is_of_line = match invalid {
        Some(value) => given.clone().any(|given| given == value) || lossy(&of_variable) != value,
        None => given.count() > 0,
    };
    (!is_of_line).then(|| lossy(&variable))
}

fn find<'c>(command: &'c Command, long: &str) -> Option<&'c Arg> {
    let own = command.get_arguments().find(|option| option.get_long() == Some(long));
    own.or_else(|| command.get_subcommands().find_map(|sub| find(sub, long)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_origin_of_a_value_that_it_repeats() {
        let origin = |option: &str, name: &str, value: &str| Origin {
            option: option.to_owned(),
            name: name.to_owned(),
            values: vec![value.to_owned()],
        };
        let origins = [
            origin("--policy", "AGENT_TOOLS_POLICY", "/etc/p.json"),
            origin("--session", "AGENT_TOOLS_SESSION", "conversation"),
            origin("--skill", "`skill` in /h/agent-tools.toml", "pdf"),
        ];
        let check = |message: &str, expected: Option<&str>| {
            let expected = expected
                .map_or(message.to_owned(), |name| format!("{message}; {name} has this value"));
            assert_eq!(complete_with(message, &origins), expected);
        };
        check("settings /etc/p.json: not found", Some("AGENT_TOOLS_POLICY"));
        check("settings /etc/p.json.old: not found", None);
        check("there is no skill pdf", Some("`skill` in /h/agent-tools.toml"));
        check("there is no session conversation", None);
        check("AGENT_TOOLS_POLICY names /etc/p.json", None);
    }
}

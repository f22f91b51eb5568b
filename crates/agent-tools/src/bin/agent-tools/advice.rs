//! Commands in messages. They repeat the places that the caller's command line names, because the
//! same command without them would act on others.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::sync::OnceLock;

use clap::ArgMatches;
use clap::parser::ValueSource;

/// The options that name places, by their ids.
const PLACES: [(&str, &str); 4] = [
    ("home", "--home"),
    ("store", "--store"),
    ("variables", "--variables"),
    ("secret_file", "--secret-file"),
];

/// The options of this process, each after a space.
static GIVEN: OnceLock<String> = OnceLock::new();

/// Notes the places of the command line. Variables and the configuration file hold for the next
/// command too.
pub(crate) fn note(matches: &ArgMatches) {
    let given = PLACES.iter().filter_map(|(id, option)| {
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        let value = matches.get_raw(id)?.next().filter(|_| is_given)?;
        quoted(value).map(|value| format!(" {option} {value}"))
    });
    let _ = GIVEN.set(given.collect());
}

/// Adds the places to the commands of a message.
pub(crate) fn complete(message: &str) -> Cow<'_, str> {
    match GIVEN.get() {
        Some(given) if !given.is_empty() && message.contains("agent-tools ") => {
            complete_with(message, given).into()
        }
        _ => message.into(),
    }
}

fn complete_with(message: &str, given: &str) -> String {
    let mut message = message.to_owned();
    for before in ["`", "| "] {
        let command = format!("{before}agent-tools ");
        let completed = format!("{before}agent-tools{given} ");
        message = message.replace(&command, &completed);
        // A part of the message may be complete already.
        message = message.replace(&format!("{before}agent-tools{given}{given} "), &completed);
    }
    message
}

/// Quotes a value for a shell if it needs that. A URL with a user may have a password, and is not
/// shown.
fn quoted(value: &OsStr) -> Option<String> {
    let text = value.to_str().filter(|text| !text.contains('@'))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,%".contains(c);
    Some(match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_repeat_the_places_of_the_command_line() {
        let message = "agent-tools: none; `agent-tools skill list` or `printf x | agent-tools a`";
        assert_eq!(
            complete_with(message, " --home '/a b'"),
            "agent-tools: none; `agent-tools --home '/a b' skill list` or \
             `printf x | agent-tools --home '/a b' a`"
        );
        let complete = complete_with("`agent-tools skill list`", " --home /a");
        assert_eq!(complete_with(&complete, " --home /a"), complete);
        assert_eq!(quoted(OsStr::new("a'b")).as_deref(), Some(r"'a'\''b'"));
        assert_eq!(quoted(OsStr::new("postgres://u:p@h/d")), None);
    }
}

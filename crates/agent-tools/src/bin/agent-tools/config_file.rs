//! The configuration file `agent-tools.toml` in the home: defaults for the options of the command.
//!
//! A key is the name of an option, such as `store` for `--store`. At the top of the file, it counts
//! for every subcommand that has the option. In a table such as `[session.close]`, it counts for
//! that subcommand. An option of the command line and a variable come first.

use std::any::TypeId;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::builder::ArgPredicate;
use clap::{Arg, ArgAction, Command, Id};
use toml::de::{DeArray, DeTable, DeValue};

use crate::failure::Failure;
use crate::similar::distance;
use crate::variable_source;

/// The name of the file, below the home.
pub(crate) const FILE: &str = "agent-tools.toml";

/// The options that the file cannot set: its own place, and requests for a text.
const EXCLUDED: [&str; 3] = ["home", "help", "version"];

/// Sets the defaults that the file of a home names; without the file, returns `None`.
pub(crate) fn apply(command: &Command, home: &Path) -> Result<Option<Command>, Failure> {
    let file = home.join(FILE);
    // A read of a pipe would wait for its writer.
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let problem = format!("cannot read {}: it is no regular file", file.display());
        return Err(Failure::not_run_text(problem));
    }
    match std::fs::read_to_string(&file) {
        Ok(text) => apply_text(command, &file, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // The home itself may be unreadable or a file, which the subcommand reports.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => {
            Err(Failure::not_run_text(format!("cannot read {}: {error}", file.display())))
        }
    }
}

/// The problem of the file, if the subcommand runs without the defaults of the file.
static PROBLEM: OnceLock<String> = OnceLock::new();

/// Notes the problem of the file, for a subcommand that reports it.
pub(crate) fn note_problem(failure: &Failure) {
    let _ = PROBLEM.set(failure.message().into_owned());
}

/// Returns the problem of the file that was noted.
pub(crate) fn problem() -> Option<&'static str> {
    PROBLEM.get().map(String::as_str)
}

/// Returns whether a home has no such file.
pub(crate) fn is_absent(home: &Path) -> bool {
    let absent = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
    std::fs::metadata(home.join(FILE)).is_err_and(|error| absent.contains(&error.kind()))
}

fn apply_text(command: &Command, file: &Path, text: &str) -> Result<Command, Failure> {
    let source = Source { file, text };
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        match source.shared_name(command, &span) {
            Some(name) => source.failure(span, &collision(command, name)),
            None => source.failure(span, error.message()),
        }
    })?;
    let (mut command, table) = (command.clone(), table.into_inner());
    // Tables come last, because their keys replace those at the top.
    let is_table = |value: &DeValue<'_>| matches!(value, DeValue::Table(_));
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value.get_ref())) {
        let name = key.get_ref().as_ref();
        let options = options(&command, name, Depth::All);
        let Some(option) = options.into_iter().next() else {
            return Err(source.unknown_key(key.span(), name, &command, Depth::All));
        };
        let values = source.values(&option, value.span(), value.get_ref())?;
        command = set(command, name, &values, Depth::All);
    }
    source.tables(command, &table)
}

/// The subcommands that a key counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// The command and all below.
    All,
    /// The command itself.
    One,
}

/// The file, for the places in errors.
struct Source<'f> {
    file: &'f Path,
    text: &'f str,
}

impl Source<'_> {
    fn failure(&self, span: Range<usize>, problem: &str) -> Failure {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        Failure::not_run_text(format!("{}:{line}: {problem}", self.file.display()))
    }

    /// Returns the name at the beginning of the place of an error, if an option and a group of
    /// subcommands have this name, and the file has a value for it.
    fn shared_name(&self, command: &Command, span: &Range<usize>) -> Option<&str> {
        let (before, at) = self.text.split_at_checked(span.start)?;
        let is_name = |c: char| c.is_alphanumeric() || "-_".contains(c);
        let inner = at.trim_start_matches(['[', ' ', '\t']);
        let name = inner.split(|c| !is_name(c)).next()?;
        let is_table = at.starts_with('[')
            || before.trim_end().ends_with('[')
            || inner[name.len()..].trim_start().starts_with('.');
        let is_group = command
            .get_subcommands()
            .any(|sub| sub.get_name() == name && sub.get_subcommands().next().is_some());
        let has_value = before.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        (is_table && is_group && has_value && !options(command, name, Depth::All).is_empty())
            .then_some(name)
    }

    fn unknown_key(
        &self,
        span: Range<usize>,
        name: &str,
        command: &Command,
        depth: Depth,
    ) -> Failure {
        if name == "home" {
            let problem = "`home` names the directory of this file, so the file cannot set it; \
                           use --home or AGENT_TOOLS_HOME";
            return self.failure(span, problem);
        }
        let known = names(command, depth);
        let plain = name.replace('_', "-");
        let similar = known.iter().filter_map(|known| {
            let distance = distance(&plain, known);
            (distance <= 1 + known.len() / 5).then_some((distance, known))
        });
        let hint = match similar.min() {
            Some((_, similar)) => format!("; there is `{similar}`"),
            None => String::new(),
        };
        self.failure(span, &format!("there is no option `{name}` here{hint}"))
    }

    /// Applies the tables of the subcommands.
    fn tables(&self, mut command: Command, table: &DeTable<'_>) -> Result<Command, Failure> {
        for (key, value) in table {
            let DeValue::Table(inner) = value.get_ref() else { continue };
            let name = key.get_ref().as_ref();
            if !command.get_subcommands().any(|sub| sub.get_name() == name) {
                let problem = format!("there is no subcommand `{name}`");
                return Err(self.failure(key.span(), &problem));
            }
            let mut failure = None;
            command = command.mut_subcommand(name, |sub| {
                self.table(sub.clone(), inner).unwrap_or_else(|problem| {
                    failure = Some(problem);
                    sub
                })
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        Ok(command)
    }

    fn table(&self, mut command: Command, table: &DeTable<'_>) -> Result<Command, Failure> {
        for (key, value) in table {
            if let DeValue::Table(_) = value.get_ref() {
                continue;
            }
            let name = key.get_ref().as_ref();
            let Some(option) = options(&command, name, Depth::One).into_iter().next() else {
                return Err(self.unknown_key(key.span(), name, &command, Depth::One));
            };
            let values = self.values(&option, value.span(), value.get_ref())?;
            command = set(command, name, &values, Depth::One);
        }
        self.tables(command, table)
    }

    /// Returns the values of an option, checked by its own parser.
    fn values(
        &self,
        option: &Arg,
        span: Range<usize>,
        value: &DeValue<'_>,
    ) -> Result<Vec<OsString>, Failure> {
        let texts = match (value, is_flag(option)) {
            (DeValue::Boolean(value), true) => vec![value.to_string()],
            (_, true) => return Err(self.failure(span, "expected true or false")),
            (DeValue::Array(array), false) if takes_several(option) => self.array(array)?,
            (DeValue::Array(_), false) => return Err(self.failure(span, "expected one value")),
            (value, false) => vec![self.text(span.clone(), value)?],
        };
        if !is_flag(option) {
            self.check(option, span, &texts)?;
        }
        let is_path = option.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        let value = |text: String| {
            // A database in a file is named by a URL.
            let database = (option.get_id() == "variables").then(|| variable_source::file(&text));
            match database.flatten().filter(|file| file.is_relative()) {
                Some(file) => variable_source::sqlite_url(&dir.join(file)).into(),
                None if is_path => dir.join(text).into_os_string(),
                None => text.into(),
            }
        };
        Ok(texts.into_iter().map(value).collect())
    }

    fn array(&self, array: &DeArray<'_>) -> Result<Vec<String>, Failure> {
        array.iter().map(|value| self.text(value.span(), value.get_ref())).collect()
    }

    fn text(&self, span: Range<usize>, value: &DeValue<'_>) -> Result<String, Failure> {
        match value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Float(number) => Ok(number.to_string()),
            _ => Err(self.failure(span, "expected a text or a number")),
        }
    }

    /// Parses the values like those of the command line.
    fn check(&self, option: &Arg, span: Range<usize>, texts: &[String]) -> Result<(), Failure> {
        let mut alone = Arg::new("value")
            .long("value")
            .value_parser(option.get_value_parser().clone())
            .action(ArgAction::Append);
        if let Some(delimiter) = option.get_value_delimiter() {
            alone = alone.value_delimiter(delimiter);
        }
        let words = texts.iter().map(|text| format!("--value={text}"));
        let command = Command::new("agent-tools").no_binary_name(true).arg(alone);
        let parsed = command.try_get_matches_from(words);
        parsed.map(drop).map_err(|error| {
            let text = error.to_string();
            let mut lines = text.trim_start_matches("error: ").lines();
            let problem = lines.next().unwrap_or_default().replace(" for '--value <value>'", "");
            let values = lines.find(|line| line.trim_start().starts_with("[possible values: "));
            let values = values.map_or(String::new(), |values| format!(" {}", values.trim_start()));
            self.failure(span, &(problem + &values))
        })
    }
}

/// Describes a name that the file has for an option and for a group of subcommands.
fn collision(command: &Command, name: &str) -> String {
    let takes = |sub: &&Command| sub.get_arguments().any(|option| option.get_long() == Some(name));
    let example = command.get_subcommands().find(takes).map_or("bash", Command::get_name);
    format!(
        "`{name}` is an option and a group of subcommands, and a file cannot have both at the top; \
         put the option into the tables of the subcommands that need it, such as [{example}]"
    )
}

/// Returns the options of a name that the file can set.
fn options(command: &Command, name: &str, depth: Depth) -> Vec<Arg> {
    let own = command.get_arguments().filter(|option| is_settable(option, name));
    let mut found: Vec<Arg> = own.cloned().collect();
    if depth == Depth::All {
        found.extend(command.get_subcommands().flat_map(|sub| options(sub, name, depth)));
    }
    found
}

/// Returns the names of all options that the file can set.
fn names(command: &Command, depth: Depth) -> Vec<String> {
    let mut names: Vec<String> = command
        .get_arguments()
        .filter_map(|option| option.get_long().filter(|name| is_settable(option, name)))
        .map(str::to_owned)
        .collect();
    if depth == Depth::All {
        names.extend(command.get_subcommands().flat_map(|sub| self::names(sub, depth)));
    }
    names
}

fn is_settable(option: &Arg, name: &str) -> bool {
    // `logs` takes the id of the session without its option.
    let is_word =
        || option.is_positional() && option.get_env().is_some() && option.get_id() == name;
    (option.get_long() == Some(name) || is_word()) && !EXCLUDED.contains(&name)
}

fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

fn takes_several(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Sets the default of an option.
fn set(command: Command, name: &str, values: &[OsString], depth: Depth) -> Command {
    let values: Vec<&'static std::ffi::OsStr> = values.iter().map(|value| leak(value)).collect();
    set_static(command, name, &values, depth)
}

fn set_static(
    command: Command,
    name: &str,
    values: &[&'static std::ffi::OsStr],
    depth: Depth,
) -> Command {
    let option = command.get_arguments().find(|option| is_settable(option, name));
    let excluding: Vec<Id> = option.map_or_else(Vec::new, |option| {
        let conflicts = command.get_arg_conflicts_with(option);
        conflicts.into_iter().map(|other| other.get_id().clone()).collect()
    });
    let command = command.mut_args(|mut option| {
        if !is_settable(&option, name) {
            return option;
        }
        if is_flag(&option) {
            // An option of the command line that excludes the flag comes first.
            for other in &excluding {
                option = option.default_value_if(other, ArgPredicate::IsPresent, Some("false"));
            }
        }
        option.required(false).default_values(values.iter().copied())
    });
    match depth {
        Depth::One => command,
        Depth::All => command.mut_subcommands(|sub| set_static(sub, name, values, depth)),
    }
}

/// Keeps a text until the process ends, as the parser of the command line wants it.
fn leak(value: &OsString) -> &'static std::ffi::OsStr {
    Box::leak(value.clone().into_boxed_os_str())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[track_caller]
    fn check(text: &str, words: &[&str], expected: Result<&str, &str>) {
        let applied = apply_text(&Cli::command(), Path::new("/h/agent-tools.toml"), text);
        let shown = applied.map(|command| {
            let words = std::iter::once("agent-tools").chain(words.iter().copied());
            let matches = command.try_get_matches_from(words).unwrap();
            format!("{matches:?}")
        });
        match (shown, expected) {
            (Ok(shown), Ok(part)) => assert!(shown.contains(part), "{part}: {shown}"),
            (Err(failure), Err(part)) => {
                assert_eq!(failure.message(), format!("/h/agent-tools.toml:{part}"));
            }
            (Ok(shown), Err(part)) => panic!("{part}: {shown}"),
            (Err(failure), Ok(_)) => panic!("{}", failure.message()),
        }
    }

    #[track_caller]
    fn check_start(text: &str, expected: &str) {
        let applied = apply_text(&Cli::command(), Path::new("/h/agent-tools.toml"), text);
        let failure = applied.unwrap_err();
        let start = format!("/h/agent-tools.toml:{expected}");
        assert!(failure.message().starts_with(&start), "{}", failure.message());
    }

    #[test]
    fn every_option_has_a_key() {
        fn check_all(command: &Command, path: &[&str]) {
            for option in command.get_arguments() {
                // The script of `sandbox` is what a call is about, as an argument is.
                let is_script = path == ["sandbox"] && option.get_short() == Some('c');
                assert!(option.get_long().is_some() || option.is_positional() || is_script);
                let Some(name) = option.get_long().filter(|name| !EXCLUDED.contains(name)) else {
                    continue;
                };
                let value = match option.get_possible_values().first() {
                    _ if is_flag(option) => "true".to_owned(),
                    Some(value) => format!("{:?}", value.get_name()),
                    // The parser of the option judges it.
                    None => "\"1\"".to_owned(),
                };
                let table = path.join(".");
                let text = match path {
                    [] => format!("{name} = {value}\n"),
                    _ => format!("[{table}]\n{name} = {value}\n"),
                };
                let applied = apply_text(&Cli::command(), Path::new("/h/c.toml"), &text);
                if let Err(failure) = applied {
                    let message = failure.message().into_owned();
                    assert!(message.contains("invalid value '1'"), "{table} {name}: {message}");
                }
            }
            for sub in command.get_subcommands() {
                check_all(sub, &[path, &[sub.get_name()]].concat());
            }
        }
        check_all(&Cli::command(), &[]);
    }

    #[test]
    fn keys_are_the_defaults_of_options_and_tables_those_of_one_subcommand() {
        let text = "store = \"s3://b\"\ntimeout = 5\n[mcp]\ntimeout = 7.5\n";
        check(text, &["bash", "x"], Ok("\"s3://b\""));
        check(text, &["bash", "x"], Ok("raw_vals: [[\"5\"]]"));
        check(text, &["mcp"], Ok("raw_vals: [[\"7.5\"]]"));
        check(text, &["bash", "--timeout", "9", "x"], Ok("raw_vals: [[\"9\"]]"));
        check("allow-read = [\"a\", \"/b\"]", &["bash", "x"], Ok("\"/h/a\", \"/b\""));
        check("[session.close]\nwait = \"2m\"", &["session", "close", "s"], Ok("\"2m\""));
        check("json = true", &["doctor"], Ok("json"));
        check("session = \"s1\"", &["logs"], Ok("raw_vals: [[\"s1\"]]"));
    }

    #[test]
    fn an_option_of_the_command_line_turns_a_flag_off_that_it_excludes() {
        let text = "skill-variables = true";
        let command = apply_text(&Cli::command(), Path::new("/h/agent-tools.toml"), text).unwrap();
        let flag = |words: &[&str]| {
            let matches = command.clone().try_get_matches_from(words).unwrap();
            matches.subcommand_matches("bash").unwrap().get_flag("skill_variables")
        };
        assert!(flag(&["agent-tools", "bash", "x"]));
        assert!(!flag(&["agent-tools", "bash", "--variable", "A", "x"]));
    }

    #[test]
    fn an_error_names_the_line_and_what_is_there() {
        check(
            "json = true\nstroe = 1",
            &[],
            Err("2: there is no option `stroe` here; there is `store`"),
        );
        check(
            "max_timeout = 1",
            &[],
            Err("1: there is no option `max_timeout` here; there is `max-timeout`"),
        );
        check("[bsh]", &[], Err("1: there is no subcommand `bsh`"));
        check("[bash]\ntools = \"grep\"", &[], Err("2: there is no option `tools` here"));
        check("json = 1", &[], Err("1: expected true or false"));
        check("store = [\"a\"]", &[], Err("1: expected one value"));
        let both = "is an option and a group of subcommands, and a file cannot have both at the \
                    top; put the option into the tables of the subcommands that need it, such as \
                    [bash]";
        for (text, line, name) in [
            ("session = \"a\"\n[session.close]\nwait = \"1m\"", 2, "session"),
            ("session = \"a\"\nsession.close.wait = \"1m\"", 2, "session"),
            ("json = true\nsession = \"a\"\n\n[session]", 4, "session"),
            ("policy = \"p.json\"\n[ policy.explain ]", 2, "policy"),
            ("skill = [\"a\"]\n[skill.publish]", 2, "skill"),
        ] {
            check(text, &[], Err(&format!("{line}: `{name}` {both}")));
        }
        check_start("json = true\njson = true", "2: duplicate key");
        check_start("session = \"a\"\nsession = \"b\"", "2: duplicate key");
        check_start("help = true", "1: there is no option `help` here");
        let home = "1: `home` names the directory of this file, so the file cannot set it; use \
                    --home or AGENT_TOOLS_HOME";
        check("home = \"/x\"", &[], Err(home));
        let number = "1: invalid value 'soon': expected a number of seconds, such as 30 or 0.5";
        check("timeout = \"soon\"", &[], Err(number));
        let values = "1: invalid value 'maybe' [possible values: ";
        check_start("takeover = \"maybe\"", values);
    }
}

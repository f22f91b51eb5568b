//! Parsing of the command line, with the variables and the configuration file behind it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::Home;
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory, Error, FromArgMatches};

use crate::failure::Failure;
use crate::{Cli, advice, config_file, examples, origins, output};

/// The beginning of the names of all variables that set an option.
const VARIABLES: &str = "AGENT_TOOLS_";

/// The subcommands that run although the configuration file is invalid. `doctor` reports it.
const WITHOUT_FILE: [&str; 3] = ["completions", "doctor", "man"];

/// Parses the command line. An option comes before a variable, and that before the configuration
/// file. A variable that is empty counts as unset.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    if let Some(cli) = parse_plain() {
        return Ok(cli);
    }
    let plain = without_empty_variables(command());
    let parsed = Parsed::new(&plain);
    let home = match &parsed.result {
        Ok(matches) => home(matches),
        Err(_) => home_of_invalid_line(),
    };
    let configured = match home.as_deref().map(|home| config_file::apply(&plain, home)) {
        None | Some(Ok(None)) => parsed,
        Some(Ok(Some(configured))) => {
            let configured = Parsed::new(&configured);
            // Another home may only seem to be named, as by an option of a script.
            match &configured.result {
                Ok(matches) if self::home(matches) != home => parsed,
                _ => configured,
            }
        }
        Some(Err(failure)) => {
            // Help and errors of the command line come first.
            let matches = parsed.matches()?;
            if !matches.subcommand_name().is_some_and(|name| WITHOUT_FILE.contains(&name)) {
                if matches.get_flag("json") {
                    failure.print_json();
                }
                return Err(failure.report());
            }
            config_file::note_problem(&failure);
            parsed
        }
    };
    let matches = configured.matches()?;
    advice::note(matches);
    let file = home.unwrap_or_default().join(config_file::FILE);
    origins::note(matches, &plain, &configured.command, &file);
    Cli::from_arg_matches(matches).map_err(|error| report(&configured.command, &error))
}

/// Parses a valid command line with neither an empty variable nor a configuration file behind it.
/// That needs no copies of the command and no examples, which take longer than all else.
fn parse_plain() -> Option<Cli> {
    let is_ours = |name: &OsStr| name.as_bytes().starts_with(VARIABLES.as_bytes());
    if std::env::vars_os().any(|(name, value)| value.is_empty() && is_ours(&name)) {
        return None;
    }
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os()).ok()?;
    if !home(&matches).is_none_or(|home| config_file::is_absent(&home)) {
        return None;
    }
    let cli = Cli::from_arg_matches(&matches).ok()?;
    advice::note(&matches);
    origins::note(&matches, &command, &command, Path::new(config_file::FILE));
    Some(cli)
}

/// The words of the command line, as a command has understood them.
struct Parsed {
    command: Command,
    result: Result<ArgMatches, Error>,
}

impl Parsed {
    fn new(command: &Command) -> Self {
        let result = command.clone().try_get_matches();
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownArgument) {
            let command = with_options_of_scripts(command.clone());
            let relaxed = command.clone().try_get_matches();
            if let Some(error) =
                relaxed.as_ref().ok().and_then(|found| late_option(&command, found))
            {
                return Self { command, result: Err(error) };
            }
            if !relaxed.as_ref().is_ok_and(script_is_option) {
                return Self { command, result: relaxed };
            }
        }
        Self { command: command.clone(), result }
    }

    /// Returns the matches, or prints help or the error.
    fn matches(&self) -> Result<&ArgMatches, ExitCode> {
        self.result.as_ref().map_err(|error| report(&self.command, error))
    }
}

/// The subcommands that run a script, whose words the command line may have one by one.
const SCRIPTS: [&str; 3] = ["bash", "shell", "wrap"];

/// Lets the words of a script be options that this program does not have, as in `bash ls -la`.
/// Then no option of this program can follow.
fn with_options_of_scripts(command: Command) -> Command {
    let any = |argument: Arg| argument.trailing_var_arg(true).allow_hyphen_values(true);
    let change = |script: Command| script.mut_arg("command", any);
    SCRIPTS.iter().fold(command, |command, name| command.mut_subcommand(name, change))
}

/// Returns whether a script begins with an option, which is one of this program then.
fn script_is_option(matches: &ArgMatches) -> bool {
    let found = matches.subcommand().filter(|(name, _)| SCRIPTS.contains(name));
    let Some((_, script)) = found else { return false };
    let mut words = script.get_raw("command").into_iter().flatten();
    words.next().is_some_and(|word| word.as_bytes().starts_with(b"-"))
}

/// Returns an error for an option of this program behind one that only the script can have. Both
/// would go to the script, which then might run in another session than the one that is named.
fn late_option(command: &Command, matches: &ArgMatches) -> Option<Error> {
    let (name, script) = matches.subcommand().filter(|(name, _)| SCRIPTS.contains(name))?;
    let mut command = command.clone();
    command.build();
    let command = command.find_subcommand_mut(name)?;
    let words = script.get_raw("command").into_iter().flatten();
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let begin = words.iter().position(|word| word.len() > 1 && word.starts_with('-'))?;
    let (foreign, rest) = words[begin..].split_first().filter(|_| begin > 0)?;
    let mut rest = rest.iter().take_while(|word| *word != "--");
    let own = rest.find_map(|word| {
        let long = word.strip_prefix("--")?.split('=').next()?;
        let mut options = command.get_arguments();
        options.any(|option| option.get_long() == Some(long)).then(|| format!("--{long}"))
    })?;
    let message = format!(
        "{own} is an option of agent-tools, but follows {foreign}, which is one of the script; put \
         `--` before the script: options of agent-tools before it, as in `agent-tools {name} {own} \
         … -- {} {foreign} …`",
        words[0]
    );
    Some(command.error(ErrorKind::ArgumentConflict, message))
}

/// Replaces the advice to put `--` before an option, which would not have the effect of the option.
fn improve(error: &mut Error) {
    let text = error.to_string();
    let has_script = SCRIPTS.iter().any(|name| text.contains(&format!("agent-tools {name} ")));
    let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) else {
        return;
    };
    tips.retain(|tip| !tip.to_string().contains("as a value, use '-- "));
    let is_script =
        error.get(ContextKind::InvalidArg) == Some(&ContextValue::String("-c".to_owned()));
    if has_script && is_script {
        tips.push("give the script without '-c'".into());
    }
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// Returns the command line, with the examples of its help.
pub(crate) fn command() -> Command {
    examples::add(Cli::command())
}

fn home(matches: &ArgMatches) -> Option<PathBuf> {
    match matches.get_one::<PathBuf>("home") {
        Some(home) => Some(home.clone()),
        None => Home::for_current_user().map(|home| home.path().to_owned()),
    }
}

/// Returns the home that an invalid command line names, as far as that is clear.
fn home_of_invalid_line() -> Option<PathBuf> {
    let mut words = std::env::args_os().skip(1).take_while(|word| word != "--");
    while let Some(word) = words.next() {
        if word == "--home" {
            return words.next().map(PathBuf::from);
        }
        if let Some(home) = word.as_bytes().strip_prefix(b"--home=") {
            return Some(OsStr::from_bytes(home).into());
        }
    }
    let variable = std::env::var_os("AGENT_TOOLS_HOME").filter(|home| !home.is_empty());
    variable
        .map(PathBuf::from)
        .or_else(|| Home::for_current_user().map(|home| home.path().to_owned()))
}

/// Prints help, or what is wrong with the command line.
fn report(command: &Command, error: &Error) -> ExitCode {
    // The usage names no option that a variable sets.
    let plain = with_plain_usage(command.clone());
    let mut again = plain.try_get_matches().err();
    again.iter_mut().for_each(improve);
    again.iter_mut().for_each(|error| origins::name_variables(command, error));
    let error = again.as_ref().unwrap_or(error);
    let is_failure =
        error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_failure && json_is_asked(command) {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let message = text.split("\n\nUsage:").next().unwrap_or(text);
        let message = message.split("\n\nFor more").next().unwrap_or(message).trim_end();
        Failure::usage(message).print_json();
    }
    if error.use_stderr() {
        let _ = error.print();
    } else {
        output::print_help(&error.to_string());
        output::flush();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns whether an invalid command line, or the configuration file behind it, asks for JSON.
fn json_is_asked(command: &Command) -> bool {
    let mut words = std::env::args_os().skip(1).take_while(|word| word != "--");
    let is_set = |value: String| {
        !matches!(value.to_lowercase().as_str(), "" | "0" | "n" | "no" | "f" | "false" | "off")
    };
    if words.any(|word| word == "--json") {
        return true;
    }
    match std::env::var("AGENT_TOOLS_JSON") {
        Ok(value) if !value.is_empty() => is_set(value),
        _ => {
            let mut options = command.get_arguments();
            let json = options.find(|option| option.get_long() == Some("json"));
            json.is_some_and(|json| json.get_default_values().iter().any(|value| value == "true"))
        }
    }
}

fn with_plain_usage(mut command: Command) -> Command {
    command.build();
    override_usage(command)
}

fn override_usage(command: Command) -> Command {
    let without_variable = |option: Arg| option.env(Resettable::Reset);
    let usage = command.clone().mut_args(without_variable).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    command.override_usage(usage).mut_subcommands(override_usage)
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let reset = |argument: Arg| {
        if argument.get_env().is_some_and(is_empty) {
            argument.env(Resettable::Reset)
        } else {
            argument
        }
    };
    command.mut_args(reset).mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_variables(command: &Command, found: &mut Vec<String>) {
        let variables = command.get_arguments().filter_map(Arg::get_env);
        let names = variables.map(|name| name.to_string_lossy().into_owned());
        found.extend(names.filter(|name| !name.starts_with(VARIABLES)));
        command.get_subcommands().for_each(|command| other_variables(command, found));
    }

    #[test]
    fn the_variables_of_all_options_have_one_prefix() {
        let mut found = Vec::new();
        other_variables(&command(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

//! The subcommands `completions` and `man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::print_bytes;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The directory, which is created if it does not exist.
    dir: PathBuf,
}

pub(crate) fn complete(args: &CompletionsArgs, mut command: Command) -> Result<ExitCode, Failure> {
    let (name, mut text) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    if args.shell == Shell::Bash {
        text =
            with_one_spelling(&command, String::from_utf8_lossy(&text).into_owned()).into_bytes();
    }
    print_bytes(&text);
    Ok(ExitCode::SUCCESS)
}

/// Returns the completions of bash with one spelling of each name that has a hyphen.
///
/// In some places, clap_complete 4.6 takes the hyphen for the beginning of a subcommand. Such a
/// command would have no completions.
fn with_one_spelling(command: &Command, text: String) -> String {
    let name = command.get_name();
    let text = text.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    command.get_subcommands().fold(text, |text, below| with_one_spelling(below, text))
}

pub(crate) fn write(args: &ManArgs, command: Command) -> Result<ExitCode, Failure> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(command, &args.dir));
    written.map_err(|error| {
        Failure::failed_text(format!("cannot write to {}: {error}", args.dir.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}

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
    print_bytes(&text);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn write(args: &ManArgs, command: Command) -> Result<ExitCode, Failure> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(command, &args.dir));
    written.map_err(|error| {
        Failure::failed_text(format!("cannot write to {}: {error}", args.dir.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}

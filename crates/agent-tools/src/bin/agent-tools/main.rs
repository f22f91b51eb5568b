//! The command `agent-tools`.

#![forbid(unsafe_code)]
// These macros panic if the reader has closed its pipe; `output` has replacements.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod advice;
mod command_line;
mod commands;
mod config_file;
mod context;
mod examples;
mod failure;
mod host_pattern;
mod network_args;
mod options;
mod origins;
mod output;
mod parsing;
mod progress_bar;
mod project_file;
mod questions;
mod schemes;
mod settings;
mod signals;
mod similar;
mod stdin;
mod times;
mod toolset_args;
mod variable_source;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use agent_tools::RedactedWriter;
use clap::{Parser, Subcommand};
use commands::files::FileCommand;
use commands::logs::LogsArgs;
use commands::manual::{CompletionsArgs, ManArgs};
use commands::mcp::McpArgs;
use commands::policy::PolicyCommand;
use commands::prune::PruneArgs;
use commands::sandbox::SandboxArgs;
use commands::session::SessionCommand;
use commands::skill::SkillCommand;
use commands::tool_list::ToolListArgs;
use commands::tools::ToolCommand;
use commands::variable::VariableCommand;
use commands::wrap::WrapArgs;
use context::Context;
use failure::Failure;
use options::{Engine, Global, SessionArgs};
use output::errln;
use tracing_subscriber::filter::LevelFilter;

/// Gives an LLM agent a kernel-sandboxed working session: bash, files, skills, variables and
/// mirrored artifacts.
#[derive(Debug, Parser)]
#[command(name = "agent-tools", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Tool(ToolCommand),
    #[command(flatten)]
    File(FileCommand),
    /// List the calls that ran in a session, with their times, exit codes and denials.
    ///
    /// The record is redacted, and holds at least the last 1 MiB. It stays on this machine while
    /// the session does. Commands of other processes are in it too.
    #[command(after_help = "Examples:\n  $ agent-tools logs\n  \
                            $ agent-tools logs default -n 20\n  \
                            $ agent-tools logs --failed --json")]
    Logs(LogsArgs),
    /// List, show, sync, restore and close sessions.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Publish, list and install skills.
    #[command(subcommand)]
    Skill(SkillCommand),
    /// Set, list and remove the variables of every session's environment.
    #[command(subcommand)]
    Variable(VariableCommand),
    /// Show, explain and check policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Run one command under sandbox-runtime settings, without a session, like the command `srt`.
    ///
    /// The command gets the standard streams, environment, directory and signals of this process.
    /// It has no timeout. Exits with its code, 128 + the signal that killed it, or 125 if it could
    /// not be run. A file that it created against the policy is moved aside; then 125 replaces the
    /// exit code 0. `policy explain --settings FILE PATH` names the rule behind a denial.
    #[command(
        version,
        after_help = "Examples:\n  $ agent-tools sandbox -- ls /usr\n  \
                            $ agent-tools sandbox -c 'ls /usr | wc -l'\n  \
                            $ agent-tools sandbox --control-fd 3 echo ran 3< /dev/null"
    )]
    Sandbox(SandboxArgs),
    /// Serve one session's tools over the Model Context Protocol on standard input and output.
    Mcp(McpArgs),
    /// List the homes that have sessions of the store open, and when each was last seen alive.
    ///
    /// A home appears a few seconds after it has opened a session. `session show` names the owner
    /// of one session.
    Owners,
    /// Close sessions that were not used for a time, and remove remains of killed processes.
    ///
    /// Nothing that is pending is deleted: a session with files that the store does not have stays,
    /// and so does one that a process has open.
    #[command(after_help = "Examples:\n  $ agent-tools prune --unused-for 30d --dry-run\n  \
                            $ agent-tools prune --unused-for 12h --user ann")]
    Prune(PruneArgs),
    /// Check this machine: layers and limits of the sandbox, runtimes, store and variables, with
    /// remedies.
    Doctor(SessionArgs),
    /// Print the tools of a session as JSON, as a model gets them.
    ///
    /// Each has its name, a description and the JSON Schemas of its input and its output, in the
    /// form of the Model Context Protocol.
    #[command(after_help = "Examples:\n  $ agent-tools tools --tools editFile,grep\n  \
                            $ agent-tools tools --toolset anthropic")]
    Tools(ToolListArgs),
    /// Run a bash command in a session on the standard streams of this process.
    ///
    /// Unlike with `bash`, the command has the descriptors of this process itself, so its output is
    /// as it is: values of variables are not redacted, and there are no notes about refusals.
    /// It gets the signals of this process, and is killed if it still runs 10 seconds after HUP,
    /// INT, QUIT or TERM. Exits like `bash`.
    #[command(after_help = "Examples:\n  $ echo 'some text' | agent-tools wrap wc -w\n  \
                            $ agent-tools wrap 'test -t 1 || echo no terminal'")]
    Wrap(WrapArgs),
    /// Print the completions of this command for a shell.
    ///
    /// Bash reads them from ~/.local/share/bash-completion/completions/agent-tools.
    #[command(after_help = "Example:\n  $ agent-tools completions bash > agent-tools.bash")]
    Completions(CompletionsArgs),
    /// Write the manual pages of this command to a directory.
    #[command(after_help = "Example:\n  $ agent-tools man share/man/man1")]
    Man(ManArgs),
}

/// Time for the threads of the runtime to end. A pending read of standard input takes longer and
/// must not delay the exit. A thread that ends while another one detaches it can crash the process,
/// because `pthread_detach(3)` of glibc 2.36 then reads memory that is unmapped.
const EXIT_TIMEOUT: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let cli = match parsing::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let is_debugged = matches!(&cli.command, Command::Sandbox(args) if args.debug);
    let usual = if is_debugged { "debug" } else { "error,agent_tools::waiting=warn" };
    let mut filter = tracing_subscriber::EnvFilter::try_from_env("AGENT_TOOLS_LOG")
        .unwrap_or_else(|_| usual.into());
    if filter.max_level_hint().is_none_or(|level| level > LevelFilter::INFO) {
        // Below this level, it logs whole messages, also before the values to redact are known.
        filter = filter.add_directive("rmcp=info".parse().expect("it is a directive"));
    }
    // The parser of the command line obeys the variable too (<https://no-color.org>).
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_coloured = std::io::stderr().is_terminal() && !is_plain;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_coloured);
    if cli.global.no_redact {
        log.with_writer(std::io::stderr).init();
    } else {
        log.with_writer(|| RedactedWriter::new(std::io::stderr())).init();
    }
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Failure::not_run(error).report(),
        };
    // Standard output of these belongs to a protocol or to another program.
    let is_own = !matches!(cli.command, Command::Mcp(_) | Command::Sandbox(_));
    let json = cli.global.json && is_own;
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(failure) => {
            if json {
                failure.print_json();
            }
            failure.report()
        }
    };
    runtime.shutdown_timeout(EXIT_TIMEOUT);
    output::flush();
    code
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    signals::survive_file_size_limit().map_err(Failure::not_run)?;
    if cli.global.engine == Engine::Native && !cli.global.accept.is_empty() {
        let accept = origins::name("--accept");
        errln!("agent-tools: warning: {accept} has no effect without --engine landlock");
    }
    let context = Context::new(cli.global);
    match cli.command {
        Command::Tool(command) => commands::tools::run(&context, command).await,
        Command::File(command) => commands::files::run(&context, command).await,
        Command::Logs(args) => commands::logs::run(&context, &args).await,
        Command::Prune(args) => {
            commands::prune::run(&context, args).await.map_err(Failure::into_failed)
        }
        Command::Session(command) => commands::session::run(&context, command).await,
        Command::Skill(command) => commands::skill::run(&context, command).await,
        Command::Variable(command) => commands::variable::run(&context, command).await,
        Command::Policy(command) => commands::policy::run(&context, command),
        Command::Sandbox(args) => commands::sandbox::run(&context, args).await,
        Command::Mcp(args) => commands::mcp::run(&context, args).await,
        Command::Owners => commands::owners::run(&context).await,
        Command::Doctor(args) => commands::doctor::run(&context, &args).await,
        Command::Tools(args) => commands::tool_list::run(&context, args).await,
        Command::Wrap(args) => commands::wrap::run(&context, args).await,
        Command::Completions(args) => commands::manual::complete(&args, parsing::command()),
        Command::Man(args) => commands::manual::write(&args, parsing::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        parsing::command().debug_assert();
    }
}

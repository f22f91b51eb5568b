//! The command `agent-tools`.

#![forbid(unsafe_code)]

mod args;
mod bar;
mod commands;
mod context;
mod failure;

use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use context::Context;
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("AGENT_TOOLS_LOG")
        .unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Failure::setting(error).report(),
        };
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    // A read of standard input that is still waiting must not hold the process.
    runtime.shutdown_background();
    let _ = std::io::stdout().flush();
    code
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let context = Context::new(cli.global);
    match cli.command {
        Command::Bash(args) => commands::tools::bash(&context, args).await,
        Command::ReadFile(args) => commands::tools::read_file(&context, args).await,
        Command::WriteFile(args) => commands::tools::write_file(&context, args).await,
        Command::Session(command) => commands::session::run(&context, command).await,
        Command::Skill(command) => commands::skill::run(&context, command).await,
        Command::Variable(command) => commands::variable::run(&context, command).await,
        Command::Policy(command) => commands::policy::run(&context, command),
        Command::Sandbox(args) => commands::sandbox::run(args, &context.tier()).await,
        Command::Mcp(args) => commands::mcp::run(&context, &args).await,
        Command::Doctor(args) => commands::doctor::run(&context, &args).await,
    }
}

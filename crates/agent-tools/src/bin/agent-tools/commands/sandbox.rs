//! `sandbox`: one command under sandbox-runtime settings, without a session; in the place of the
//! command `srt`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_tools::policy::{Access, Policy, SandboxRuntimeConfig, UnenforcedReason};
use clap::Args;
use sandbox_core::{CommandSpec, NativeSandbox, Sandbox as _, Tier};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::settings;

#[derive(Args, Debug)]
pub(crate) struct SandboxArgs {
    /// The settings (JSON) [default: ~/.srt-settings.json, or nothing may be written where that is
    /// absent].
    #[arg(short, long, value_name = "FILE", env = "AGENT_TOOLS_SETTINGS")]
    settings: Option<PathBuf>,
    /// A command line for bash, in the place of a program and its arguments.
    #[arg(short = 'c', value_name = "CMD", allow_hyphen_values = true)]
    script: Option<String>,
    /// A program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGV")]
    command: Vec<std::ffi::OsString>,
}

/// Where srt looks for settings, below the home directory.
const DEFAULT_SETTINGS: &str = ".srt-settings.json";

pub(crate) async fn run(args: SandboxArgs, tier: &Tier) -> Result<ExitCode, Failure> {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let cwd = std::env::current_dir().map_err(Failure::setting)?;
    let policy = policy(&read_settings(args.settings.as_ref(), &home)?, &cwd, &home)?;
    let command = match (args.script, args.command.as_slice()) {
        (Some(script), []) => script,
        (None, [_, ..]) => quoted(&args.command)?,
        (Some(_), _) => {
            return Err(Failure::usage("give the command with -c or as arguments, not both"));
        }
        (None, []) => return Err(Failure::usage("no command is given")),
    };
    let sandbox = NativeSandbox::builder(&policy, &cwd)
        .tier(tier.clone())
        .open()
        .map_err(Failure::setting)?;
    for gap in sandbox.unenforced().into_iter().filter(|gap| gap.reason != UnenforcedReason::Absent)
    {
        eprintln!("agent-tools: warning: {} {}: {}", gap.list, gap.rule, gap.reason);
    }
    let mut spec = CommandSpec::new(command);
    spec.env = std::env::vars_os().filter(|(name, _)| name != "TMPDIR").collect();
    if *tier != Tier::Namespaces {
        spec.env.push(("TMPDIR".into(), sandbox.temporary_dir().into()));
    }
    // As under srt, programs can tell that they are in a sandbox.
    spec.env.push(("SANDBOX_RUNTIME".into(), "1".into()));

    // Caught before the command starts, so that none is lost and none ends this process alone.
    let (caught, mut signals) = tokio::sync::mpsc::unbounded_channel();
    for kind in passed_on() {
        let mut stream = signal(kind).map_err(Failure::setting)?;
        let caught = caught.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && caught.send(kind.as_raw_value()).is_ok() {}
        });
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut running = sandbox.start(&spec, streams).await.map_err(Failure::setting)?;
    let status = loop {
        tokio::select! {
            status = running.wait() => break status.map_err(Failure::setting)?,
            Some(signal) = signals.recv() => running.signal(signal),
        }
    };
    for quarantined in running.quarantine() {
        let end = match quarantined.moved_to {
            Some(to) => format!("it is {} now", to.display()),
            None => "and it could not be moved away".to_owned(),
        };
        eprintln!(
            "agent-tools: warning: {} was made where the settings allow nothing, {end}",
            quarantined.path.display()
        );
    }
    sandbox.close().await;
    Ok(ExitCode::from(u8::try_from(status.code()).unwrap_or(1)))
}

/// The signals that the command gets in the place of this process.
fn passed_on() -> [SignalKind; 7] {
    [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ]
}

/// The settings of a file. The default one may be absent; one that was asked for may not.
fn read_settings(file: Option<&PathBuf>, home: &Path) -> Result<SandboxRuntimeConfig, Failure> {
    let default = home.join(DEFAULT_SETTINGS);
    match file {
        None if !default.exists() => Ok(SandboxRuntimeConfig::default()),
        file => settings::read(file.unwrap_or(&default)),
    }
}

/// As srt reads settings: relative paths begin in the working directory, which the command can see
/// unless it is denied.
fn policy(config: &SandboxRuntimeConfig, cwd: &Path, home: &Path) -> Result<Policy, Failure> {
    let mut config = config.clone();
    let files = &mut config.filesystem;
    let lists = [&mut files.deny_read, &mut files.allow_write, &mut files.deny_write];
    for rule in lists.into_iter().chain(files.allow_read.as_mut()).flatten() {
        if !rule.starts_with(['/', '~']) {
            *rule = cwd.join(rule.trim_start_matches("./")).to_string_lossy().into_owned();
        }
    }
    let policy = Policy::from_config(config.clone(), home).map_err(Failure::setting)?;
    if !policy.explain(cwd, Access::Read).allowed {
        return Ok(policy);
    }
    // The private /tmp would hide it.
    let cwd =
        cwd.to_str().ok_or_else(|| Failure::setting_text("the working directory is not UTF-8"))?;
    config.filesystem.allow_read.get_or_insert_default().push(cwd.to_owned());
    Policy::from_config(config, home).map_err(Failure::setting)
}

/// One command line that runs a program with these arguments, whatever they contain.
fn quoted(arguments: &[OsString]) -> Result<String, Failure> {
    let mut line = String::from("exec --");
    for argument in arguments {
        let text = argument
            .to_str()
            .ok_or_else(|| Failure::usage(format!("{} is not UTF-8", argument.display())))?;
        line += &format!(" '{}'", text.replace('\'', r"'\''"));
    }
    Ok(line)
}

//! The subcommand `sandbox`: one command under sandbox-runtime settings, without a session. It can
//! replace the command `srt`.

mod control;

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _, stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent_tools::policy::{Access, Policy, SandboxRuntimeConfig, UnenforcedReason};
use agent_tools::{Home, NetworkSpec, SandboxGate, SandboxNetwork, printable};
use clap::Args;
use sandbox_core::{
    AttachedEvent, AttachedOutcome, CommandSpec, Limits, NativeSandbox, Sandbox as _, Tier,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use self::control::{Control, Message};
use crate::command_line;
use crate::context::Context;
use crate::failure::{Failure, NOT_RUN};
use crate::network_args::NetworkArgs;
use crate::origins;
use crate::output::errln;
use crate::questions::{HeldOutput, are_one};
use crate::settings;
use crate::signals::is_ignored;

#[derive(Args, Debug)]
pub(crate) struct SandboxArgs {
    /// File of sandbox-runtime settings (JSON) [default: ~/.srt-settings.json; without that file
    /// nothing is writable].
    #[arg(short, long, value_name = "FILE", env = "AGENT_TOOLS_SETTINGS")]
    settings: Option<PathBuf>,
    /// Time without output for which processes may outlive the command.
    #[arg(
        long,
        value_name = "SECS",
        default_value = "0.25",
        value_parser = super::tools::seconds_or_none,
        env = "AGENT_TOOLS_LINGER"
    )]
    linger: Duration,
    /// Script for bash, instead of a program and its arguments.
    #[arg(short = 'c', value_name = "SCRIPT", allow_hyphen_values = true)]
    script: Option<OsString>,
    /// Log on standard error, as srt does.
    #[arg(short, long)]
    pub(crate) debug: bool,
    /// Open descriptor, 3 or above, with settings for the running command. Each line is a whole
    /// file of settings in JSON. Its lists of hosts and addresses count from the next connection
    /// on, and other keys have no effect. An invalid line is reported and ignored. At the end of
    /// the input, the last settings stay. The command does not get the descriptor.
    #[arg(long, value_name = "N", value_parser = control::number)]
    control_fd: Option<u32>,
    /// Program and its arguments.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(crate) async fn run(context: &Context, args: SandboxArgs) -> Result<ExitCode, Failure> {
    let (tier, home) = (&context.tier(), context.home().ok());
    let cwd = settings::working_directory()?;
    let is_terminal = [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()];
    if args.network.asks() && is_terminal.contains(&true) {
        let ask = origins::name("--ask");
        return Err(Failure::usage(format!(
            "the command has the terminal, so {ask} cannot use it; redirect the three streams of \
             the command"
        )));
    }
    let (mut config, file) = read_settings(args.settings.as_deref())?;
    let control = args.control_fd.map(|number| Control::open(number, tier, &config));
    let mut control = control.transpose()?;
    let (project, asked) = (context.project()?, args.network.spec()?);
    let may_change = control.is_some() && !project.has_no_network();
    // Lines can ask for a network too.
    let requested = asked.clone().or_else(|| control.as_ref().map(|_| NetworkSpec::new()));
    if let Some(warning) = project.warning(requested.as_ref()) {
        errln!("agent-tools: warning: {warning}");
    }
    let network = project.restrict_network(asked).unwrap_or_default();
    network.add_to_settings(&mut config.network);
    project.restrict_settings(&mut config);
    tracing::debug!(dir = %cwd.display(), ?tier, config = %config.to_json(), "opening a sandbox");
    if let Some(home) = home.as_ref().filter(|_| *tier == Tier::Namespaces) {
        create_home_where_commands_could(home, &config);
    }
    let protected = context.protected_files(file.as_deref())?;
    let policy = settings::policy_of_command(config, &cwd, home.as_ref(), &protected, tier)?;
    if let Some(problem) = settings::hidden_start(&policy, &cwd) {
        return Err(Failure::not_run_text(problem));
    }
    let command = match (args.script, args.command.as_slice()) {
        (Some(script), []) => command_line::of_script(&script),
        (None, [_, ..]) => command_line::of_arguments(&args.command),
        (Some(_), _) => {
            return Err(Failure::usage("give the command with -c or as arguments, not both"));
        }
        (None, []) => return Err(Failure::usage("no command is given")),
    };
    let may_be_refused = uses_protected_names(&command);
    // The working directory is one of the user, and may be larger than a session.
    let mut limits = Limits::default();
    (limits.session_bytes, limits.session_files) = (u64::MAX, u64::MAX);
    let hosts = &policy.config().network;
    let may_connect = may_change || network.ask.is_some() || !hosts.allowed_domains.is_empty();
    let directory = if may_connect { trust_directory(home.as_ref())? } else { PathBuf::new() };
    let gate = match may_change {
        true => SandboxGate::changeable(hosts, &network, &directory).map(Some),
        false => SandboxGate::new(hosts, &network, &directory),
    };
    let gate = gate.map_err(Failure::not_run)?;
    let overlays = gate.as_ref().map(SandboxGate::overlays).unwrap_or_default();
    let sandbox = NativeSandbox::builder(&policy, &cwd)
        .limits(limits)
        .tier(tier.clone())
        .overlays(overlays)
        .open()
        .map_err(Failure::not_run)?;
    let warning = network.check(&policy.config().network).map_err(Failure::not_run)?;
    // A later line can allow the name of a fixed address.
    if let Some(warning) = warning.filter(|_| !may_change) {
        errln!("agent-tools: warning: {warning}");
    }
    for gap in sandbox.unenforced().into_iter().filter(|gap| gap.reason != UnenforcedReason::Absent)
    {
        errln!("agent-tools: warning: {} {}: {}", gap.list, gap.rule, gap.reason);
    }
    let options = network;
    let network = match gate {
        Some(gate) => Some(gate.open(&sandbox).await.map_err(Failure::not_run)?),
        None => None,
    };
    let mut spec = CommandSpec::new(command);
    spec.linger = args.linger;
    spec.env = std::env::vars_os().filter(|(name, _)| is_passed_on(name)).collect();
    if *tier != Tier::Namespaces {
        spec.env.push(("TMPDIR".into(), sandbox.temporary_dir().into()));
    }
    if let Some(network) = &network {
        spec.env.extend(network.variables());
        for (name, value) in network.certificate_variables() {
            if !spec.env.iter().any(|(own, _)| *own == name) {
                spec.env.push((name, value));
            }
        }
    }
    // As with srt, programs can detect the sandbox.
    spec.env.push(("SANDBOX_RUNTIME".into(), "1".into()));

    // Handled before the command starts, so that none is lost and none kills only this process.
    let mut signals = receive_signals()?;
    let (mut running, held) = {
        let (stdin, mut held) = (stdin(), HeldOutput::default());
        let [stdout, stderr] = if args.network.asks() {
            hold(&mut held).map_err(Failure::not_run)?
        } else {
            output_streams().map_err(Failure::not_run)?
        };
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        (sandbox.start(&spec, streams).await.map_err(Failure::not_run)?, held)
    };
    if let Some(control) = &mut control {
        control.begin(&options);
    }
    let (mut has_control, mut killed_at) = (control.is_some(), None);
    let outcome = loop {
        tokio::select! {
            event = running.next_event() => match event.map_err(Failure::not_run)? {
                AttachedEvent::Ended(outcome) => break outcome,
                _ => running.stop_with_command(),
            },
            Some(signal) = signals.recv() => running.signal(signal),
            message = next_message(control.as_mut()), if has_control => {
                let Some(control) = &mut control else { continue };
                if control.apply(&message, network.as_ref()).is_err() {
                    has_control = false;
                    running.signal(TERMINATE);
                    killed_at = Some(Instant::now() + GRACE);
                }
            }
            () = sleep_until(killed_at.unwrap_or_else(Instant::now)), if killed_at.is_some() => {
                killed_at = None;
                running.kill();
            }
        }
    };
    let is_uncontrolled = control.is_some() && !has_control;
    sandbox.close().await;
    held.finish(None).await.map_err(|error| {
        Failure::failed_text(format!("cannot write the output of the command: {error}"))
    })?;
    report_end(&outcome);
    if let Some(network) = network {
        report_refusals(&network);
        network.close().await;
    }
    // Its standard error is not read, so the text of the command has to do.
    if outcome.exit_code() != 0 && may_be_refused {
        errln!(
            "agent-tools: hint: commands cannot write git's configuration, hooks, new \
             repositories, worktrees and unfinished rebases of yours; run such a git command on \
             the host"
        );
    }
    if is_uncontrolled {
        return Err(Failure::ended(NOT_RUN));
    }
    Ok(ExitCode::from(u8::try_from(outcome.exit_code()).unwrap_or(1)))
}

/// Returns copies of standard output and standard error.
fn output_streams() -> io::Result<[OwnedFd; 2]> {
    Ok([stdout().as_fd().try_clone_to_owned()?, stderr().as_fd().try_clone_to_owned()?])
}

/// Returns the output streams of a command whose output waits while a question is open.
fn hold(held: &mut HeldOutput) -> io::Result<[OwnedFd; 2]> {
    let [out, error] = output_streams()?;
    let are_one = are_one(&out, &error)?;
    let out = held.stream(out)?;
    // One destination of both shows them in their order.
    let error = if are_one { out.try_clone()? } else { held.stream(error)? };
    Ok([out, error])
}

async fn next_message(control: Option<&mut Control>) -> Message {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// Prints what the command has left behind.
fn report_end(outcome: &AttachedOutcome) {
    if !outcome.killed.is_empty() {
        errln!("agent-tools: killed after the command: {}", names(&outcome.killed));
    }
    for file in &outcome.quarantined {
        errln!("agent-tools: {file}");
    }
    if let Some(reason) = outcome.sandbox_ended {
        errln!("agent-tools: the sandbox has ended: {reason}");
    }
}

fn report_refusals(network: &SandboxNetwork) {
    let (refused, omitted) = network.refusals();
    for denial in refused {
        errln!("agent-tools: denied: {}", printable(&denial.to_string()));
    }
    if omitted > 0 {
        let hosts = if omitted == 1 { "host" } else { "hosts" };
        errln!("agent-tools: denied: and {omitted} more {hosts}");
    }
}

/// Returns the parent of the certificates of this process: in the home, or else a new directory.
fn trust_directory(home: Option<&Home>) -> Result<PathBuf, Failure> {
    if let Some(home) = home {
        return Ok(home.path().join("trust"));
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let dir = std::env::temp_dir().join(format!("agent-tools-{}-{now}", std::process::id()));
    // Another user's directory of this name is an error.
    DirBuilder::new().mode(0o700).create(&dir).map_err(Failure::not_run)?;
    Ok(dir)
}

/// Returns whether a command runs git for what protected names belong to.
fn uses_protected_names(command: &str) -> bool {
    let words = || command.split(|c: char| !c.is_alphanumeric() && c != '-');
    words().any(|word| word == "git") && words().any(|word| WITH_PROTECTED_NAMES.contains(&word))
}

/// Subcommands of git that write protected names.
const WITH_PROTECTED_NAMES: [&str; 7] =
    ["am", "clone", "config", "init", "rebase", "submodule", "worktree"];

/// Returns the names of processes, which commands choose.
fn names(killed: &[String]) -> String {
    let names: Vec<String> = killed.iter().map(|name| printable(name).into()).collect();
    names.join(", ")
}

/// Returns whether a command inherits a variable. Those of this program can contain the passphrase
/// and the password of the database.
fn is_passed_on(name: &OsStr) -> bool {
    name != "TMPDIR" && !name.as_bytes().starts_with(b"AGENT_TOOLS_")
}

/// Time for a command to end if the descriptor of its settings cannot be read.
const GRACE: Duration = Duration::from_secs(2);

/// `SIGTERM`, `SIGCONT` and `SIGTSTP` (`signal(7)`).
const TERMINATE: i32 = 15;
const CONTINUE: i32 = 18;
const KEYBOARD_STOP: i32 = 20;

/// Receives the signals that this process forwards to the command.
fn receive_signals() -> Result<UnboundedReceiver<i32>, Failure> {
    let (sender, receiver) = unbounded_channel();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::alarm(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
        SignalKind::from_raw(KEYBOARD_STOP),
        SignalKind::from_raw(CONTINUE),
    ] {
        // With `nohup`, the command outlives the terminal.
        if kind == SignalKind::hangup() && is_ignored(kind) {
            continue;
        }
        let mut stream = signal(kind).map_err(Failure::not_run)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(kind.as_raw_value()).is_ok() {}
        });
    }
    Ok(receiver)
}

/// Reads the settings. The default file may be absent, a requested one may not. Returns the file
/// too, if there is one.
fn read_settings(file: Option<&Path>) -> Result<(SandboxRuntimeConfig, Option<PathBuf>), Failure> {
    let default = settings::default_file();
    match file {
        None if !default.exists() => Ok((SandboxRuntimeConfig::default(), None)),
        file => {
            let file = file.unwrap_or(&default);
            Ok((settings::read(file)?, Some(file.to_owned())))
        }
    }
}

/// Creates the home if it is absent and a command could create it. What exists is hidden as a
/// whole, and another process can then use it while the command runs.
fn create_home_where_commands_could(home: &Home, config: &SandboxRuntimeConfig) {
    let Ok(policy) = Policy::from_config(config.clone(), &settings::home()) else { return };
    if !home.path().exists() && policy.explain(home.path(), Access::Write).allowed {
        // If it cannot be created here, no command creates it either.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(home.path());
    }
}

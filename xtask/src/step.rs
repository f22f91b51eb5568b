//! Runs steps one after another, logs their output and reports their results.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use crate::summary::Tests;

/// Lines shown from the end of a failed step's log.
const SHOWN_LINES: usize = 300;

/// Unit of times in `/proc`, the same on all architectures here (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Result of a step.
pub(crate) type Outcome = Result<(), Ended>;

/// Reasons for a step to stop early.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The check failed, with the reason.
    Failed(String),
    /// This machine cannot run the check.
    Skipped,
}

/// A command that runs beside others.
pub(crate) struct Beside {
    child: Child,
    log: PathBuf,
}

/// A step's name and function.
pub(crate) type Step = (&'static str, fn(&mut Runner) -> Outcome);

/// Place of a runner's steps among those of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Alone,
    /// Another runner has steps meanwhile.
    Beside,
    /// The steps of the other runner come first: this one's calls of cargo leave it the processors.
    Yielding,
}

/// Runs steps and collects their results.
#[derive(Default)]
pub(crate) struct Runner {
    workspace: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    passed: usize,
    failed: Vec<&'static str>,
    /// A line for each skipped step.
    skipped: Vec<String>,
    tests: Tests,
    order: Order,
}

impl Runner {
    /// Creates a runner that writes its logs to `target/xtask` of the workspace.
    pub(crate) fn new(workspace: &Path) -> io::Result<Self> {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let directory = workspace.join(target).join("xtask");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            workspace: workspace.to_owned(),
            log: directory.join("ci.log"),
            directory,
            ..Self::default()
        })
    }

    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Directory for files that steps create.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs steps in virtual machines, and beside them others that can wait for a processor.
    pub(crate) fn run_beside_machines(&mut self, machines: &[Step], others: &[Step]) {
        let mut beside = Self {
            log: self.log.clone(),
            workspace: self.workspace.clone(),
            directory: self.directory.clone(),
            ..Self::default()
        };
        if !machines.is_empty() && !others.is_empty() {
            (beside.order, self.order) = (Order::Beside, Order::Yielding);
        }
        thread::scope(|scope| {
            scope.spawn(|| machines.iter().for_each(|(name, step)| beside.run(name, *step)));
            others.iter().for_each(|(name, step)| self.run(name, *step));
        });
        self.order = Order::Alone;
        self.passed += beside.passed;
        self.failed.append(&mut beside.failed);
        self.skipped.append(&mut beside.skipped);
        self.tests.add(beside.tests);
    }

    /// Runs one step and prints its line.
    pub(crate) fn run(&mut self, name: &'static str, step: fn(&mut Self) -> Outcome) {
        let is_alone = self.order == Order::Alone;
        if is_alone {
            print!("{name:<10}");
            // Without the flush the name would only appear later.
            let _ = io::stdout().flush();
        }
        self.log = self.directory.join(format!("{name}.log"));
        let started = Instant::now();
        let outcome = File::create(&self.log).map_err(failed).and_then(|_| step(self));
        let seconds = started.elapsed().as_secs_f64();
        let mut lines = if is_alone { String::new() } else { format!("{name:<10}") };
        lines += &match outcome {
            Ok(()) => {
                self.passed += 1;
                format!("ok       {seconds:7.1} s\n")
            }
            Err(Ended::Skipped) => format!("skipped  {seconds:7.1} s\n"),
            Err(Ended::Failed(why)) => {
                self.failed.push(name);
                format!("FAILED   {seconds:7.1} s\n{}", self.end_of_log(&why))
            }
        };
        // One call, so that the lines of two steps do not mix.
        print!("{lines}");
    }

    /// Returns a call of cargo in the workspace, without the variables that cargo set for xtask.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut cargo = match self.order {
            Order::Yielding => {
                let mut nice = Command::new("nice");
                nice.arg(cargo);
                nice
            }
            Order::Alone | Order::Beside => Command::new(cargo),
        };
        for (name, _) in env::vars_os() {
            let own =
                ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
            if name.to_str().is_some_and(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
                cargo.env_remove(name);
            }
        }
        cargo.args(arguments).current_dir(&self.workspace);
        cargo
    }

    /// Returns a call of a program of the Rust toolchain.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut tool = Command::new(self.sysroot().join("bin").join(name));
        tool.current_dir(&self.workspace);
        tool
    }

    /// Skips the step if the toolchain lacks a component.
    pub(crate) fn need_component(&mut self, component: &str) -> Outcome {
        let program = self.sysroot().join("bin").join(if component == "clippy" {
            "clippy-driver"
        } else {
            component
        });
        if program.exists() {
            return Ok(());
        }
        self.skip(component, &format!("rustup component add {component}"))
    }

    /// Skips the step and reports how the machine could run it.
    pub(crate) fn skip(&mut self, what: &str, how: &str) -> Outcome {
        self.skipped.push(format!("SKIPPED: {what} ({how})"));
        Err(Ended::Skipped)
    }

    /// Reports a check that the step omits on purpose.
    pub(crate) fn leave_out(&mut self, what: String) {
        self.tests.left_out.insert(what);
    }

    /// Opens the step's log for appending.
    pub(crate) fn log(&self) -> Result<File, Ended> {
        File::options().append(true).open(&self.log).map_err(failed)
    }

    /// Runs a command into the step's log.
    pub(crate) fn command(&self, command: Command) -> Outcome {
        end(start(command, &self.log)?)
    }

    /// Starts a command that runs beside the next ones of the step.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Beside, Ended> {
        let log = self.directory.join(format!("{name}.log"));
        File::create(&log).map_err(failed)?;
        Ok(Beside { child: start(command, &log)?, log })
    }

    /// Waits for a command that runs beside others. Its output goes to the step's log.
    pub(crate) fn end(&self, beside: Beside) -> Outcome {
        let outcome = end(beside.child);
        let output = fs::read(&beside.log).map_err(failed)?;
        self.log()?.write_all(&output).map_err(failed)?;
        outcome
    }

    /// Waits for tests that run beside others and counts them.
    pub(crate) fn end_tests(&mut self, beside: Beside) -> Outcome {
        let log = beside.log.clone();
        let outcome = self.end(beside);
        let output = fs::read(log).map_err(failed)?;
        self.tests.read(&String::from_utf8_lossy(&output));
        outcome
    }

    /// Runs tests or benchmarks, counts them and collects their skips.
    pub(crate) fn tests(&mut self, command: Command) -> Outcome {
        let outcome = self.command(command);
        let log = fs::read(&self.log).map_err(failed)?;
        self.tests.read(&String::from_utf8_lossy(&log));
        outcome
    }

    /// Runs tests that omit some checks on purpose: a skip that begins with an entry of `left_out`
    /// does not count as one. Returns the log.
    pub(crate) fn tests_elsewhere(
        &mut self,
        command: Command,
        left_out: &[&str],
    ) -> Result<String, Ended> {
        let outcome = self.command(command);
        let log = fs::read(&self.log).map_err(failed)?;
        let log = String::from_utf8_lossy(&log).into_owned();
        self.tests.read_without(&log, left_out);
        outcome.map(|()| log)
    }

    /// Returns the standard output of a command.
    pub(crate) fn output(&self, mut command: Command) -> Result<String, Ended> {
        let output = command.stdin(Stdio::null()).output().map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Ended::Failed(format!(
            "$ {}\n{}",
            for_display(&command),
            String::from_utf8_lossy(&output.stderr)
        )))
    }

    /// Prints the closing lines and returns the exit code.
    pub(crate) fn finish(self) -> ExitCode {
        let mut skips: BTreeMap<&str, usize> =
            self.skipped.iter().map(|line| (line.as_str(), 1)).collect();
        for line in &self.tests.skips {
            *skips.entry(line).or_default() += 1;
        }
        println!();
        for line in &self.tests.failures {
            println!("{line}");
        }
        for (line, times) in &skips {
            println!(
                "{line}{}",
                if *times > 1 { format!(" [{times} times]") } else { String::new() }
            );
        }
        for line in &self.tests.left_out {
            println!("LEFT OUT in a virtual machine: {line}");
        }
        let strict = env::var_os("CI").is_some_and(|ci| ci == "true");
        let fails_by_skips = strict && !skips.is_empty();
        if fails_by_skips {
            println!("with CI=true nothing may be skipped");
        }
        print!(
            "steps: {} ok, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        );
        println!(
            "{}",
            if self.failed.is_empty() {
                String::new()
            } else {
                format!(": {}", self.failed.join(" "))
            }
        );
        println!("processor time: {:.0} s", processor_seconds());
        println!(
            "{} passed, {} failed, {} skipped",
            self.tests.passed, self.tests.failed, self.tests.skipped
        );
        if fails_by_skips || !self.failed.is_empty() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn sysroot(&self) -> PathBuf {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--print", "sysroot"]).current_dir(&self.workspace);
        self.output(rustc).unwrap_or_default().trim().into()
    }

    /// Returns the last lines of the step's log, and the reason of its failure.
    fn end_of_log(&self, why: &str) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        let more = format!("… {from} more lines in {}", self.log.display());
        let more = (from > 0).then_some(more.as_str());
        let shown = more.into_iter().chain(lines[from..].iter().copied()).chain([why]);
        shown.map(|line| format!("    {line}\n")).collect()
    }
}

/// Starts a command that appends its output to a log.
fn start(mut command: Command, log: &Path) -> Result<Child, Ended> {
    let mut log = File::options().append(true).open(log).map_err(failed)?;
    writeln!(log, "$ {}", for_display(&command)).map_err(failed)?;
    let output = log.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(output).stderr(log).spawn().map_err(|error| {
        Ended::Failed(format!("cannot start {}: {error}", command.get_program().display()))
    })
}

/// Waits for a command.
fn end(mut child: Child) -> Outcome {
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(Ended::Failed(format!("the last command exited with {status}")))
    }
}

/// Returns the processor time of all commands that have ended, with their own ones. It tells what
/// the steps cost on a machine that has other work.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    processor_ticks(&stat) as f64 / TICKS_PER_SECOND
}

/// Returns the fields `cutime` and `cstime` of `/proc/PID/stat` together (proc_pid_stat(5)).
fn processor_ticks(stat: &str) -> u64 {
    // The name of the program may have spaces. The fields after it begin with the third.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_whitespace()
        .skip(16 - 3)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}

fn for_display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn failed(error: io::Error) -> Ended {
    Ended::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_ended_commands_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 9 8 0 0 11 12 130 14 20 0 1 0 5 6 7";
        assert_eq!(processor_ticks(stat), 130 + 14);
    }

    #[test]
    fn steps_beside_machines_are_counted_together() {
        let directory = env::temp_dir().join(format!("xtask-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut runner = Runner { directory: directory.clone(), ..Runner::default() };
        let machines: [Step; 2] = [
            ("one", |machine| {
                assert_eq!(machine.order, Order::Beside);
                machine.tests.passed = 2;
                Ok(())
            }),
            ("two", |_| Err(Ended::Failed("it broke".to_owned()))),
        ];
        let others: [Step; 2] = [
            ("three", |runner| {
                assert!(runner.cargo(["check"]).get_program() == "nice");
                runner.tests.passed += 1;
                Ok(())
            }),
            ("four", |runner| runner.skip("it", "package it")),
        ];
        runner.run_beside_machines(&machines, &others);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((runner.passed, runner.tests.passed), (2, 3));
        assert_eq!((&runner.failed[..], runner.skipped.len()), (&["two"][..], 1));
        assert_eq!(runner.order, Order::Alone);
    }
}

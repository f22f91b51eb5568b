//! The engine on another kernel, in a virtual machine: Debian's kernel for clouds is older, and has
//! the control groups that few build machines delegate.
//!
//! The machine's root is an archive of the tests, the programs that they call, and their libraries.
//! So it needs no disk and no network. A second machine has a disk, and loses its power.

mod archive;
pub(crate) mod arm;
mod contents;
mod packages;
mod power;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Ended, Outcome, Runner};

const QEMU: &str = "qemu-system-x86_64";
/// Tests that depend on the kernel most. The others are left out without hardware virtualisation,
/// because the machine is then some twenty times slower than this one.
const WITHOUT_HARDWARE: [&str; 4] = ["groups::", "limits::", "native::", "network::"];
/// The runs of the tests, each as the script reports it before the exit code.
const RUNS: [&str; 3] = ["of the library", "as root", "as an ordinary user with a delegated group"];
/// The run of the tests of mirrors, if the machine has them.
const RUN_OF_MIRRORS: &str = "of mirrors";
/// Tests of mirrors that depend on the clock that stamps files. It is coarse before Linux 6.13.
const OF_MIRRORS: [&str; 2] = ["model::", "racy::"];
/// Tests that may skip: they need programs that the machine lacks, or a newer kernel.
const LEFT_OUT: [&str; 11] = [
    "/usr/bin/python3",
    "files with times of whole seconds",
    "gpg",
    "repositories of the user",
    "ssh-agent",
    "the error without executable files in memory",
    "the same settings run by the real srt",
    "the streams of a child of node",
    "the tier without namespaces",
    "a race for a protected name",
    "tmux",
];

/// The step `vm`: a machine like this one.
pub(crate) fn test(runner: &mut Runner) -> Outcome {
    let what = "the engine in a virtual machine";
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return runner.skip(what, "run it on x86-64 Linux");
    }
    let (Some(kernel), Some(qemu), Some(mkfs)) = (kernel(), contents::find(QEMU), mkfs()) else {
        return runner
            .skip(what, "packages qemu-system-x86, linux-image-cloud-amd64 and e2fsprogs");
    };
    let tests = build_tests(runner, |cargo| {
        cargo.arg("--workspace");
    })?;
    let tests = tests.stripped(runner, Command::new("strip"), "vm")?;
    let root = contents::of_this_system(runner, &tests, &kernel);
    let mut qemu = Command::new(qemu);
    let (speed, selected): (_, &[&str]) = if has_hardware() {
        qemu.args(["-accel", "kvm"]);
        (Speed::Native, &[])
    } else {
        runner.leave_out(format!(
            "all tests but {}, without hardware for it",
            WITHOUT_HARDWARE.join(" ")
        ));
        qemu.args(["-accel", "tcg,thread=multi"]);
        (Speed::Emulated, &WITHOUT_HARDWARE)
    };
    let machine = Machine {
        name: "vm",
        qemu,
        kernel,
        console: "ttyS0",
        speed,
        as_root: selected,
        as_user: selected,
        of_mirrors: &OF_MIRRORS,
        time_limit_seconds: 1_200,
    };
    machine.run(runner, root)?;
    let Some(program) = tests.mirrors else {
        return Err(Ended::Failed("cargo built no tests of artifact-sync".to_owned()));
    };
    power::test(runner, &machine.qemu, &machine.kernel, &mkfs, &program)
}

/// Arguments of the kernel of each machine. When the host is busy, an emulated timer may tick too
/// late for the check of x86, which then panics.
const KERNEL: &str = "quiet panic=-1 no_timer_check";

/// A virtual machine that runs the tests and stops.
struct Machine<'t> {
    /// Name of the step.
    name: &'t str,
    /// The emulator, with the arguments that choose the machine.
    qemu: Command,
    kernel: PathBuf,
    /// Name of the device that the kernel prints to.
    console: &'t str,
    speed: Speed,
    /// Arguments of the API tests as root. Without a name of tests, all of them run.
    as_root: &'t [&'t str],
    /// Arguments of the API tests as an ordinary user.
    as_user: &'t [&'t str],
    /// Arguments of the tests of mirrors. Without a name of tests, none of them run.
    of_mirrors: &'t [&'t str],
    time_limit_seconds: u32,
}

/// Speed of a machine. Random tests have fewer cases in an emulated one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speed {
    Native,
    Emulated,
}

impl Machine<'_> {
    fn run(&self, runner: &mut Runner, root: Result<Vec<u8>, String>) -> Outcome {
        let root = root.map_err(|why| Ended::Failed(format!("the machine's root: {why}")))?;
        let image = runner.directory().join(format!("{}.cpio", self.name));
        fs::write(&image, root)
            .map_err(|error| Ended::Failed(format!("{}: {error}", image.display())))?;
        let mut machine = Command::new("timeout");
        machine.arg(self.time_limit_seconds.to_string());
        machine.arg(self.qemu.get_program()).args(self.qemu.get_args());
        for (name, value) in self.qemu.get_envs() {
            if let Some(value) = value {
                machine.env(name, value);
            }
        }
        machine.args(["-smp", "2", "-m", "2G", "-nographic", "-no-reboot", "-nic", "none"]);
        machine.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(image);
        let emulated = if self.speed == Speed::Emulated { " emulated" } else { "" };
        machine.arg("-append").arg(format!(
            "console={} {KERNEL} rdinit=/init{emulated} root={} ordinary={} mirrors={}",
            self.console,
            self.as_root.join(","),
            self.as_user.join(","),
            self.of_mirrors.join(","),
        ));
        let log = runner.tests_elsewhere(machine, &LEFT_OUT)?;
        let of_mirrors = (!self.of_mirrors.is_empty()).then_some(RUN_OF_MIRRORS);
        for run in RUNS.into_iter().chain(of_mirrors) {
            if !log.lines().any(|line| line.trim_end() == format!("{run}: 0")) {
                return Err(Ended::Failed(format!(
                    "the tests {run} failed in the machine, or did not end"
                )));
            }
        }
        Ok(())
    }
}

/// Returns the newest of Debian's kernels for clouds, which has the drivers for this built in.
fn kernel() -> Option<PathBuf> {
    let entries = fs::read_dir("/boot").ok()?.flatten().map(|entry| entry.path());
    let is_cloud = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && name.ends_with("-cloud-amd64")
    };
    entries.filter(is_cloud).max()
}

/// Returns the program that creates a file system. The `PATH` of ordinary users may lack it.
fn mkfs() -> Option<PathBuf> {
    const NAME: &str = "mke2fs";
    let elsewhere = || ["/usr/sbin", "/sbin"].into_iter().map(|dir| Path::new(dir).join(NAME));
    contents::find(NAME).or_else(|| elsewhere().find(|path| path.is_file()))
}

/// Returns whether the processor can run the machine directly. A `/dev/kvm` alone is no proof: some
/// kinds of it run only kernels that are made for them.
fn has_hardware() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let is_able = processors.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    is_able && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Test programs.
struct Tests {
    /// Tests inside the library of sandbox-core.
    library: PathBuf,
    /// Tests of the public API of sandbox-core.
    api: PathBuf,
    /// Tests of artifact-sync, if cargo built them.
    mirrors: Option<PathBuf>,
}

impl Tests {
    /// Copies the programs without their debug information, half of their size, which a machine
    /// would unpack and copy with an emulated processor.
    fn stripped(&self, runner: &Runner, strip: Command, name: &str) -> Result<Self, Ended> {
        let directory = runner.directory().join(format!("{name}-tests"));
        fs::create_dir_all(&directory)
            .map_err(|error| Ended::Failed(format!("{}: {error}", directory.display())))?;
        let copy = |program: &PathBuf, name| -> Result<PathBuf, Ended> {
            let copy = directory.join(name);
            let mut command = Command::new(strip.get_program());
            for (name, value) in strip.get_envs() {
                if let Some(value) = value {
                    command.env(name, value);
                }
            }
            command.arg("--strip-debug").arg("-o").arg(&copy).arg(program);
            runner.command(command).map(|()| copy)
        };
        Ok(Self {
            library: copy(&self.library, "library")?,
            api: copy(&self.api, "api")?,
            mirrors: self.mirrors.as_ref().map(|program| copy(program, "mirrors")).transpose()?,
        })
    }
}

/// Builds the tests with what `configure` adds to cargo's arguments.
fn build_tests(runner: &Runner, configure: impl FnOnce(&mut Command)) -> Result<Tests, Ended> {
    let mut build = runner.cargo(["test", "--locked", "--all-features", "--no-run"]);
    configure(&mut build);
    build.args(["--lib", "--bins", "--tests", "--message-format", "json"]);
    let messages = runner.output(build)?;
    let messages: Vec<serde_json::Value> =
        messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |source: &str| {
        let is_built = |message: &&serde_json::Value| {
            message["target"]["src_path"].as_str().is_some_and(|path| path.ends_with(source))
                && message["executable"].is_string()
        };
        let found = messages.iter().find(is_built).and_then(|found| found["executable"].as_str());
        found.map(PathBuf::from)
    };
    let need = |source: &str| {
        find(source).ok_or_else(|| Ended::Failed(format!("cargo built no tests from {source}")))
    };
    Ok(Tests {
        library: need("/sandbox-core/src/lib.rs")?,
        api: need("/sandbox-core/tests/main/main.rs")?,
        mirrors: find("/artifact-sync/tests/main/main.rs"),
    })
}

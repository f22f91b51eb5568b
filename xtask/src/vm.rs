//! The engine on another kernel, in a virtual machine: Debian's kernel for clouds has the control
//! groups that few build machines hand on, and is older.
//!
//! The machine's root is an archive of the test program, the programs that the tests call, and
//! their libraries; so it needs no disk and no network.

mod archive;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::Archive;

use crate::step::{Ended, Outcome, Runner};

const QEMU: &str = "qemu-system-x86_64";
/// What the tests and the script of the machine call.
const PROGRAMS: [&str; 64] = [
    "bash", "cat", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "dirname", "du", "env",
    "expr", "false", "find", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir",
    "mkfifo", "mknod", "mktemp", "mount", "mv", "nproc", "nsenter", "perl", "prlimit", "ps", "pwd",
    "readlink", "realpath", "renice", "rm", "rmdir", "sed", "seq", "setpriv", "setsid", "sh",
    "sleep", "sort", "stat", "sync", "tail", "taskset", "tee", "test", "timeout", "touch", "tr",
    "true", "truncate", "umount", "uname", "uniq", "unlink", "unshare", "wc", "xargs",
];
/// Modules of perl-base.
const PERL: &str = "/usr/lib/x86_64-linux-gnu/perl-base";
/// Where Debian and others have symlinks into `/usr`.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
const SCRIPT: &str = include_str!("vm/init.sh");
const TESTS: &str = "sandbox-core-tests";
/// Without hardware for it the machine is some twenty times slower than this one; then these are
/// run, of what depends on the kernel most.
const WITHOUT_HARDWARE: [&str; 3] = ["groups::", "limits::", "native::"];
/// What the script says of each run, before its exit code.
const RUNS: [&str; 2] = ["as root", "as an ordinary user with a delegated group"];
/// What tests leave out here, and should: programs that are not in the machine, and what its kernel
/// is too old for.
const LEFT_OUT: [&str; 3] = [
    "the same settings run by the real srt",
    "the tier without namespaces",
    "a race for a protected name",
];
const TIME_LIMIT_SECONDS: &str = "600";

pub(crate) fn test(runner: &mut Runner) -> Outcome {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return runner.skip("the engine in a virtual machine", "run it on x86-64 Linux");
    }
    let (Some(kernel), Some(_)) = (kernel(), find(QEMU)) else {
        return runner.skip(
            "the engine in a virtual machine",
            "packages qemu-system-x86 and linux-image-cloud-amd64",
        );
    };
    let program = test_program(runner)?;
    let image = runner.directory().join("vm.cpio");
    let archive = archive_of(runner, &program)
        .map_err(|why| Ended::Failed(format!("the machine's root: {why}")))?;
    fs::write(&image, archive)
        .map_err(|error| Ended::Failed(format!("{}: {error}", image.display())))?;
    let mut machine = Command::new("timeout");
    let tests = if has_hardware() {
        machine.args([TIME_LIMIT_SECONDS, QEMU, "-accel", "kvm"]);
        String::new()
    } else {
        runner.leave_out(format!(
            "all tests but {}, without hardware for it",
            WITHOUT_HARDWARE.join(" ")
        ));
        machine.args([TIME_LIMIT_SECONDS, QEMU, "-accel", "tcg,thread=multi"]);
        WITHOUT_HARDWARE.join(",")
    };
    machine.args(["-smp", "2", "-m", "2G", "-nographic", "-no-reboot", "-nic", "none"]);
    machine.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
    machine.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 rdinit=/init tests={tests}"));
    let log = runner.tests_elsewhere(machine, &LEFT_OUT)?;
    for run in RUNS {
        if !log.lines().any(|line| line == format!("{run}: 0")) {
            return Err(Ended::Failed(format!(
                "the tests {run} failed in the machine, or did not end"
            )));
        }
    }
    Ok(())
}

/// The newest of Debian's kernels for clouds, whose drivers for this are built in.
fn kernel() -> Option<PathBuf> {
    let entries = fs::read_dir("/boot").ok()?.flatten().map(|entry| entry.path());
    let is_cloud = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && name.ends_with("-cloud-amd64")
    };
    entries.filter(is_cloud).max()
}

/// Whether the processor runs the machine itself. A `/dev/kvm` alone does not say so: there are
/// kinds that run kernels made for them only.
fn has_hardware() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let is_able = processors.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    is_able && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|found| found.is_file())
}

/// The tests of sandbox-core, as the step `test` has built them.
fn test_program(runner: &Runner) -> Result<PathBuf, Ended> {
    let mut build = runner.cargo(["test", "--locked", "--workspace", "--all-features", "--no-run"]);
    build.args(["--lib", "--bins", "--tests", "--message-format", "json"]);
    let messages = runner.output(build)?;
    let is_ours = |line: &&str| line.contains("/sandbox-core/tests/main/main.rs\"");
    let executable =
        |line: &str| line.split_once("\"executable\":\"")?.1.split('"').next().map(PathBuf::from);
    let found = messages.lines().filter(is_ours).find_map(executable);
    found.ok_or_else(|| {
        Ended::Failed("cargo does not say where the tests of sandbox-core are".to_owned())
    })
}

fn archive_of(runner: &Runner, tests: &Path) -> Result<Vec<u8>, String> {
    let mut archive = Archive::default();
    for dir in MERGED {
        if let Ok(target) = fs::read_link(Path::new("/").join(dir)) {
            archive.symlink(dir, &target.to_string_lossy());
        }
    }
    for dir in [
        "proc", "sys", "dev", "root", "mnt", "home", "run", "srv", "opt", "new", "var/lib",
        "var/tmp", "tmp",
    ] {
        archive.directory(Path::new(dir));
    }
    archive.file(Path::new("init"), SCRIPT.as_bytes(), 0o755);
    archive.file(
        Path::new("etc/passwd"),
        b"root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/sh\n",
        0o644,
    );
    archive.file(Path::new("etc/group"), b"root:x:0:\nnogroup:x:65534:\n", 0o644);
    archive.file(Path::new("etc/shadow"), b"root:*:1::::::\n", 0o600);
    let mut needed: BTreeSet<PathBuf> = PROGRAMS.iter().filter_map(|name| find(name)).collect();
    let mut programs: Vec<PathBuf> = needed.iter().cloned().collect();
    programs.push(tests.to_owned());
    for program in programs {
        let mut ldd = Command::new("ldd");
        ldd.arg(program);
        // What has no libraries is no error.
        let libraries = runner.output(ldd).unwrap_or_default();
        needed.extend(
            libraries.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from),
        );
    }
    files_below(Path::new(PERL), &mut needed);
    for path in needed {
        let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let dir = path.parent().and_then(|dir| dir.canonicalize().ok()).unwrap_or_default();
        let place = dir.join(path.file_name().unwrap_or_default());
        archive.file(place.strip_prefix("/").unwrap_or(&place), &content, 0o755);
    }
    let content = fs::read(tests).map_err(|error| format!("{}: {error}", tests.display()))?;
    archive.file(Path::new(TESTS), &content, 0o755);
    Ok(archive.finish())
}

fn files_below(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, files),
            path => drop(files.insert(path)),
        }
    }
}

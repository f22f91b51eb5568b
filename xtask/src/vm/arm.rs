//! The engine on AArch64, in an emulated machine with Debian's kernel for clouds.
//!
//! Compiler, emulator, kernel and programs are Debian packages, unpacked beside the system.

use std::process::Command;

use super::packages::Packages;
use super::{Machine, Speed, build_tests, contents};
use crate::step::{Ended, Outcome, Runner};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const TRIPLET: &str = "aarch64-linux-gnu";
/// Tests that run others again as an ordinary user. The second run of the machine does the same.
const RERUNS: [&str; 2] =
    ["the_engine_works_for_an_ordinary_user", "the_table_holds_for_an_ordinary_user"];
/// Tests of the second run: those in which both the user and the processor matter. The step `test`
/// runs the others as an ordinary user.
const AS_USER: [&str; 4] = ["groups::", "limits::", "native::", "network::"];
/// A test that is slow, and depends on limits that are the same for every user.
const SLOW_AS_USER: &str = "a_command_cannot_fill_the_machine";
/// A test that needs the source files, those that need minutes, for a thousand commands or for
/// thousands of mounts, and one in which a slow kernel kills the command's worker too.
const ELSEWHERE: [&str; 7] = [
    "copies::",
    "many_sessions_and_commands_leave_nothing_behind",
    "directories_of_any_depth_prevent_no_session",
    "no_link_and_no_repository_closes_a_session",
    "a_session_of_any_depth_is_removed",
    "a_repository_that_names_too_many_files",
    "memory_of_files_counts_against_the_command_that_writes_them",
];

pub(crate) fn test(runner: &mut Runner) -> Outcome {
    let what = "the engine on AArch64 in a virtual machine";
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return runner.skip(what, "run it on x86-64 Linux");
    }
    let packages = match Packages::install(runner) {
        Ok(packages) => packages,
        Err(Ended::Failed(reason)) => {
            let reason = reason.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
            let remedy = format!("apt-get with Debian's packages for arm64: {reason}");
            return runner.skip(what, &remedy);
        }
        Err(ended) => return Err(ended),
    };
    let Some(kernel) = packages.kernel() else {
        return runner.skip(what, "package linux-image-cloud-arm64");
    };
    let tools = packages.tools();
    let libraries = tools.join("usr/lib/x86_64-linux-gnu");
    let bin = tools.join("usr/bin");
    let sysroot = format!("--sysroot={}", tools.display());
    let tests = build_tests(runner, |cargo| {
        cargo.args(["--package", "sandbox-core", "--target", TARGET]);
        cargo.env("CARGO_TARGET_DIR", packages.target());
        // The machine gets none of it.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
        cargo.env("LD_LIBRARY_PATH", &libraries).env("RUSTC", bin.join("rustc"));
        let linker = bin.join("aarch64-linux-gnu-gcc-12");
        let name = TARGET.replace('-', "_");
        cargo.env(format!("CC_{name}"), &linker).env(format!("CFLAGS_{name}"), &sysroot);
        cargo.env(format!("AR_{name}"), bin.join("aarch64-linux-gnu-ar"));
        let name = name.to_uppercase();
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), linker);
        cargo.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), format!("-C link-arg={sysroot}"));
    })?;
    let mut strip = Command::new(bin.join("aarch64-linux-gnu-strip"));
    strip.env("LD_LIBRARY_PATH", &libraries);
    let tests = tests.stripped(runner, strip, "vm-arm")?;
    let root = contents::of_packages(&packages.root(), TRIPLET, &tests, &kernel);
    let mut qemu = Command::new(bin.join("qemu-system-aarch64"));
    qemu.env("LD_LIBRARY_PATH", &libraries);
    qemu.args(["-machine", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi"]);
    runner.leave_out(format!(
        "as an ordinary user on AArch64, all tests but {}, and {SLOW_AS_USER}",
        AS_USER.join(" "),
    ));
    runner.leave_out(format!("on AArch64, {}", ELSEWHERE.join(" and ")));
    let as_root = [&RERUNS[..], &ELSEWHERE].concat();
    let as_root: Vec<_> = as_root.into_iter().flat_map(|name| ["--skip", name]).collect();
    let as_user = [&AS_USER[..], &["--skip", SLOW_AS_USER], &as_root].concat();
    Machine {
        name: "vm-arm",
        qemu,
        kernel,
        console: "ttyAMA0",
        speed: Speed::Emulated,
        as_root: &as_root,
        as_user: &as_user,
        of_mirrors: &[],
        time_limit_seconds: 1_800,
    }
    .run(runner, root)
}

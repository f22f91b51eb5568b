//! `cargo xtask ci fuzz`: runs the fuzz targets of `fuzz/` for a while.
//!
//! The compiler's own instrumentation suffices for libFuzzer, so this needs neither a nightly
//! toolchain nor cargo-fuzz.

use std::env;
use std::fs;
use std::process::Command;

use crate::step::{Ended, Outcome, Runner};

const TARGETS: [&str; 17] = [
    "plan",
    "wire",
    "glob",
    "settings",
    "domains",
    "cryptojs",
    "dotenv",
    "redactor",
    "skill_file",
    "skill_manifest",
    "skill_zip",
    "first_bytes",
    "client_hello",
    "dns_query",
    "canonical_host",
    "substitute",
    "sigv4",
];
/// Processor time of all targets together.
const SECONDS: usize = 60;
/// Number of targets that run at the same time, one on each processor of a small machine.
const AT_ONCE: usize = 2;
/// Variable with the duration of each target.
const SECONDS_VARIABLE: &str = "FUZZ_SECONDS";
/// The instrumentation that libFuzzer reads (`SanitizerCoverage` of LLVM).
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares";

pub(crate) fn run(runner: &mut Runner) -> Outcome {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return runner.skip("the fuzz targets", "run them on x86-64 or AArch64 Linux");
    }
    if !has("c++") {
        return runner.skip("the fuzz targets", "package g++");
    }
    let failed = |error: std::io::Error| Ended::Failed(error.to_string());
    let seconds =
        env::var(SECONDS_VARIABLE).unwrap_or_else(|_| (SECONDS / TARGETS.len()).to_string());
    let directory = runner.directory().join("fuzz");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut build = runner.cargo(["build", "--locked", "--release", "--target", &triple]);
    // With a target, the flags are not for build scripts.
    build.args(["--manifest-path", "fuzz/Cargo.toml"]).env("RUSTFLAGS", COVERAGE);
    build.env("CARGO_TARGET_DIR", &directory);
    runner.command(build)?;
    for targets in TARGETS.chunks(AT_ONCE) {
        let mut running = Vec::new();
        for target in targets {
            let corpus = directory.join("corpus").join(target);
            fs::create_dir_all(&corpus).map_err(failed)?;
            let mut fuzz = Command::new(directory.join(&triple).join("release").join(target));
            fuzz.arg(&corpus).current_dir(runner.workspace());
            fuzz.arg(format!("-max_total_time={seconds}"))
                .arg(format!("-artifact_prefix={}-", directory.join(target).display()));
            fuzz.args(["-timeout=5", "-max_len=4096", "-print_final_stats=1", "-verbosity=0"]);
            running.push(runner.start(&format!("fuzz-{target}"), fuzz)?);
        }
        let ended: Vec<_> = running.into_iter().map(|fuzz| runner.end(fuzz)).collect();
        ended.into_iter().collect::<Outcome>()?;
    }
    Ok(())
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

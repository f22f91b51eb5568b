//! The steps of `cargo xtask ci`.

use std::path::Path;
use std::process::ExitCode;

use crate::layers;
use crate::peers;
use crate::step::{Outcome, Runner};
use crate::tidy;
use crate::vm;

/// What a step is called, and what it does.
type Step = (&'static str, fn(&mut Runner) -> Outcome);

const STEPS: [Step; 11] = [
    ("fmt", fmt),
    ("tidy", tidy::check),
    ("layers", layers::check),
    ("clippy", clippy),
    ("init", init),
    ("features", features),
    ("test", test),
    ("vm", vm::test),
    ("doctest", doctest),
    ("doc", doc),
    ("bench", bench),
];

/// The session's init: a build script compiles it, so cargo's own commands do not reach it.
const INIT: &str = "crates/sandbox-core/init/main.rs";

/// `--show-output` also prints what passing tests say, among it what they skipped.
const TEST: [&str; 5] = ["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"];

/// Runs the named steps, or all when none is named.
pub(crate) fn run(workspace: &Path, only: &[String]) -> ExitCode {
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|(step, _)| step == name)) {
        let known = STEPS.map(|(name, _)| name).join(" ");
        eprintln!("xtask: there is no step {unknown:?}; the steps are: {known}");
        return ExitCode::from(2);
    }
    let mut runner = match Runner::new(workspace) {
        Ok(runner) => runner,
        Err(error) => {
            eprintln!("xtask: cannot write to target/xtask: {error}");
            return ExitCode::FAILURE;
        }
    };
    for (name, step) in STEPS {
        // Only by name until the workspace has no findings.
        let is_default = only.is_empty() && name != "tidy";
        if is_default || only.iter().any(|one| one == name) {
            runner.run(name, step);
        }
    }
    runner.finish()
}

fn fmt(runner: &mut Runner) -> Outcome {
    runner.need_component("rustfmt")?;
    let all = runner.cargo(["fmt", "--all", "--check", "--", "--color", "never"]);
    runner.command(all)?;
    let mut init = runner.tool("rustfmt");
    init.args(["--check", "--color", "never", "--edition", "2024", INIT]);
    runner.command(init)
}

fn clippy(runner: &mut Runner) -> Outcome {
    runner.need_component("clippy")?;
    let mut clippy =
        runner.cargo(["clippy", "--locked", "--workspace", "--all-targets", "--all-features"]);
    clippy.args(["--", "-D", "warnings"]);
    runner.command(clippy)
}

fn init(runner: &mut Runner) -> Outcome {
    runner.need_component("clippy")?;
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return runner.skip("lints of the session's init", "run them on x86-64 Linux");
    }
    let mut clippy = runner.tool("clippy-driver");
    clippy.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "session_init", INIT]);
    clippy.args(["--emit", "metadata", "-C", "panic=abort", "-D", "warnings"]);
    clippy.arg("-o").arg(runner.directory().join("session-init.rmeta"));
    runner.command(clippy)
}

/// Each library compiles without its optional features.
fn features(runner: &mut Runner) -> Outcome {
    for library in layers::LIBRARIES {
        let check =
            runner.cargo(["check", "--locked", "--no-default-features", "--package", library]);
        runner.command(check)?;
    }
    Ok(())
}

fn test(runner: &mut Runner) -> Outcome {
    let mut test = runner.cargo(TEST);
    test.envs(peers::variables(runner.workspace()));
    test.args(["--lib", "--bins", "--tests", "--", "--show-output"]);
    runner.tests(test)
}

fn doctest(runner: &mut Runner) -> Outcome {
    let mut test = runner.cargo(TEST);
    test.args(["--doc", "--", "--show-output"]);
    runner.tests(test)
}

fn doc(runner: &mut Runner) -> Outcome {
    let mut doc = runner.cargo(["doc", "--locked", "--workspace", "--all-features", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    runner.command(doc)
}

/// Runs every benchmark once, without measuring; so the profile of the tests does, which is
/// compiled by now.
fn bench(runner: &mut Runner) -> Outcome {
    let mut bench =
        runner.cargo(["bench", "--locked", "--workspace", "--all-features", "--profile", "dev"]);
    bench.args(["--bench", "*", "--", "--test"]);
    runner.tests(bench)
}

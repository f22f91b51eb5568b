//! `cargo xtask ci`: the steps, and the tiers that select them.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::api;
use crate::deny;
use crate::dependencies;
use crate::examples;
use crate::features;
use crate::fuzz;
use crate::layers;
use crate::package;
use crate::peers;
use crate::step::{Outcome, Runner, Step};
use crate::tidy;
use crate::vm;

/// Steps in virtual machines. They begin at once, and have the processors first.
const MACHINES: [Step; 2] = [("vm-arm", vm::arm::test), ("vm", vm::test)];

/// Steps that compile and check, beside the machines.
const CHECKS: [Step; 13] = [
    ("fmt", fmt),
    ("tidy", tidy::check),
    ("layers", layers::check),
    ("deps", dependencies::check),
    ("deny", deny::check),
    ("clippy", clippy),
    ("init", init),
    ("features", features::check),
    ("package", package::check),
    ("doc", doc),
    ("api", api::check),
    ("fuzz", fuzz::run),
    ("build", build),
];

/// Steps that run what is compiled. They come last, because many tests watch the time.
const RUNS: [Step; 6] = [
    ("unit", unit),
    ("test", test),
    ("doctest", doctest),
    ("examples", examples::run),
    ("bench", bench),
    ("soak", soak),
];

/// Names of sets of steps.
const TIERS: [(&str, &[&str]); 3] = [
    // Minutes, before every commit.
    ("quick", &["fmt", "tidy", "layers", "deps", "deny", "clippy", "init", "unit"]),
    // Everything that a change must pass, as `.ci/run` does.
    (
        "full",
        &[
            "vm-arm", "vm", "fmt", "tidy", "layers", "deps", "deny", "clippy", "init", "features",
            "package", "doc", "api", "fuzz", "build", "test", "doctest", "examples", "bench",
        ],
    ),
    // By hand, for an hour or more.
    ("soak", &["soak"]),
];
const DEFAULT_TIER: &str = "full";

/// Source of the session's init. A build script compiles it, so cargo's commands miss it.
const INIT: &str = "crates/sandbox-core/init/main.rs";

/// Arguments of all test runs, which are followed by `--show-output`: it prints the output of tests
/// that pass, such as their lines `SKIPPED: …`.
const TEST: [&str; 5] = ["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"];

/// Arguments that select all programs with tests.
const PROGRAMS_WITH_TESTS: [&str; 3] = ["--lib", "--bins", "--tests"];

/// Counts for the step `test`: sequences of each test of the rules of a session, and seconds of the
/// run of three processes. The random cases are always the same, so that the result depends on the
/// change alone; `soak` tries others.
const FULL: [(&str, &str); 3] = [
    ("ARTIFACT_SYNC_SEQUENCES", "2000"),
    ("SHARED_STORE_SECONDS", "120"),
    ("PROPTEST_RNG_SEED", "1"),
];
/// Counts for the step `soak`, also the cases of random tests, kills in the crash tests, states of
/// each search in the model of the session log, seconds of the random attacker, and connections of
/// each of a thousand sessions.
const SOAK: [(&str, &str); 8] = [
    ("PROPTEST_CASES", "50000"),
    ("ARTIFACT_SYNC_KILLS", "5000"),
    ("AGENT_TOOLS_KILLS", "5000"),
    ("LOG_MODEL_STATES", "500000"),
    ("ARTIFACT_SYNC_SEQUENCES", "50000"),
    ("SHARED_STORE_SECONDS", "1800"),
    ("SANDBOX_CORE_ATTACK_SECONDS", "600"),
    ("EGRESS_CROWD_CONNECTIONS", "256"),
];

/// The run of three processes. It mostly waits, so it takes place beside the other tests.
const BESIDE: &str = "shared_store::acknowledged_changes_survive_partitions_zombies_and_kills";

/// Runs the named tiers and steps, or the default tier.
pub(crate) fn run(workspace: &Path, names: &[String]) -> ExitCode {
    let selected = match select(names) {
        Ok(selected) => selected,
        Err(unknown) => {
            let tiers = TIERS.map(|(name, _)| name).join(" ");
            let steps = steps().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
            eprintln!("xtask: {unknown:?} is neither a tier ({tiers}) nor a step ({steps})");
            return ExitCode::from(2);
        }
    };
    let mut runner = match Runner::new(workspace) {
        Ok(runner) => runner,
        Err(error) => {
            eprintln!("xtask: cannot write to target/xtask: {error}");
            return ExitCode::FAILURE;
        }
    };
    let of = |steps: &[Step]| -> Vec<Step> {
        steps.iter().filter(|(name, _)| selected.contains(name)).copied().collect()
    };
    runner.run_beside_machines(&of(&MACHINES), &of(&CHECKS));
    for (name, step) in of(&RUNS) {
        runner.run(name, step);
    }
    runner.finish()
}

/// Returns all steps.
fn steps() -> impl Iterator<Item = Step> {
    MACHINES.into_iter().chain(CHECKS).chain(RUNS)
}

/// Returns the steps of the named tiers and steps. The error is a name that is neither.
fn select(names: &[String]) -> Result<Vec<&'static str>, String> {
    let mut selected = Vec::new();
    let default = [DEFAULT_TIER.to_owned()];
    for name in if names.is_empty() { &default[..] } else { names } {
        if let Some((_, steps)) = TIERS.iter().find(|(tier, _)| tier == name) {
            selected.extend_from_slice(steps);
        } else if let Some((step, _)) = steps().find(|(step, _)| step == name) {
            selected.push(step);
        } else {
            return Err(name.clone());
        }
    }
    Ok(selected)
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
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return runner.skip("lints of the session's init", "run them on x86-64 or AArch64 Linux");
    }
    let mut clippy = runner.tool("clippy-driver");
    clippy.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "session_init", INIT]);
    clippy.args(["--emit", "metadata", "-C", "panic=abort", "-D", "warnings"]);
    clippy.arg("-o").arg(runner.directory().join("session-init.rmeta"));
    runner.command(clippy)
}

/// Compiles what the steps `test`, `examples` and `bench` run.
fn build(runner: &mut Runner) -> Outcome {
    let mut tests = runner.cargo(TEST);
    tests.args(PROGRAMS_WITH_TESTS).arg("--no-run");
    runner.command(tests)?;
    examples::build(runner)?;
    let mut benches = benches(runner);
    benches.arg("--no-run");
    runner.command(benches)
}

fn test(runner: &mut Runner) -> Outcome {
    let tests = |runner: &Runner, arguments: &[&str]| {
        let mut test = runner.cargo(TEST);
        test.envs(peers::variables(runner.workspace())).envs(FULL).args(arguments);
        test
    };
    // Two builds at a time would wait for each other.
    runner.command(tests(runner, &[&PROGRAMS_WITH_TESTS[..], &["--no-run"]].concat()))?;
    let beside = tests(runner, &["--test", "main", "--", "--show-output", "--exact", BESIDE]);
    let beside = runner.start("test-beside", beside)?;
    let others = [&PROGRAMS_WITH_TESTS[..], &["--", "--show-output", "--skip", BESIDE]].concat();
    let others = runner.tests(tests(runner, &others));
    others.and(runner.end_tests(beside))
}

/// Tests in the libraries and programs themselves, without those that start servers.
fn unit(runner: &mut Runner) -> Outcome {
    let mut test = runner.cargo(TEST);
    test.args(["--lib", "--bins", "--", "--show-output"]);
    runner.tests(test)
}

/// The step `test` with many more random cases.
fn soak(runner: &mut Runner) -> Outcome {
    let mut test = runner.cargo(TEST);
    test.envs(peers::variables(runner.workspace())).envs(SOAK);
    test.args(PROGRAMS_WITH_TESTS).args(["--", "--show-output"]);
    runner.tests(test)
}

fn doctest(runner: &mut Runner) -> Outcome {
    let mut test = runner.cargo(TEST);
    test.args(["--doc", "--", "--show-output"]);
    runner.tests(test)
}

pub(crate) fn doc(runner: &mut Runner) -> Outcome {
    let mut doc = runner.cargo(["doc", "--locked", "--workspace", "--all-features", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    runner.command(doc)
}

/// Runs every benchmark once without measuring.
fn bench(runner: &mut Runner) -> Outcome {
    let mut bench = benches(runner);
    bench.args(["--", "--test"]).envs(peers::variables(runner.workspace()));
    runner.tests(bench)
}

/// Returns a call of cargo with all benchmarks. The profile of the tests suffices for running them
/// once, and is compiled by then.
fn benches(runner: &Runner) -> Command {
    let mut bench =
        runner.cargo(["bench", "--locked", "--workspace", "--all-features", "--profile", "dev"]);
    bench.args(["--bench", "*"]);
    bench
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_consist_of_existing_steps() {
        for name in TIERS.iter().flat_map(|(_, steps)| *steps) {
            assert!(steps().any(|(step, _)| step == *name), "{name}");
        }
    }

    #[test]
    fn names_select_tiers_and_steps_and_no_name_selects_the_default() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(select(&names(&["soak", "vm"])).unwrap(), ["soak", "vm"]);
        assert!(select(&[]).unwrap().contains(&"vm"));
        assert_eq!(select(&names(&["fmt", "fast"])).unwrap_err(), "fast");
    }
}

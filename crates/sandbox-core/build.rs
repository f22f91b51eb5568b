//! Compiles the session's init (`init/main.rs`), a program of a few kilobytes without any library,
//! and passes its path to the crate, which embeds it.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Architectures that init has a system-call table for (`init/arch`).
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

fn main() {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rustc-check-cfg=cfg(native_init)");
    let is_wanted = env::var_os("CARGO_FEATURE_NATIVE").is_some();
    let architecture = variable("CARGO_CFG_TARGET_ARCH");
    // On another system the engine reports that it is unsupported.
    if !is_wanted
        || variable("CARGO_CFG_TARGET_OS") != "linux"
        || !ARCHITECTURES.contains(&architecture.as_str())
    {
        return;
    }
    let program = PathBuf::from(variable("OUT_DIR")).join("session-init");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "session_init"]);
    rustc.arg("init/main.rs").arg("-o").arg(&program);
    rustc.args(["--target", &variable("TARGET")]);
    for option in [
        "opt-level=s",
        "codegen-units=1",
        "panic=abort",
        "relocation-model=static",
        "strip=symbols",
    ] {
        rustc.args(["-C", option]);
    }
    for argument in ["-nostartfiles", "-nostdlib", "-static"] {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if architecture == "aarch64" {
        // The other way needs a C library that detects the atomic instructions of the processor.
        rustc.args(["-C", "target-feature=-outline-atomics"]);
    }
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|found| found == "musl") {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let status = rustc.status().expect("rustc can be started");
    assert!(status.success(), "the session's init (crates/sandbox-core/init) does not compile");
    println!("cargo::rustc-env=SESSION_INIT={}", program.display());
    println!("cargo::rustc-cfg=native_init");
}

/// Returns a variable that cargo sets for every build script.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

//! Compiles the session's init (`init/main.rs`), a program of a few kilobytes without any library,
//! and hands its path to the crate, which carries it inside.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rerun-if-changed=../policy/src/glob.rs");
    println!("cargo::rustc-check-cfg=cfg(native_init)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let wanted = env::var_os("CARGO_FEATURE_NATIVE").is_some();
    // Its system calls are written for this machine; elsewhere the engine reports that it is not
    // there.
    if !wanted || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("session-init");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "session_init",
            "init/main.rs",
            "-o",
        ])
        .arg(&out)
        .args(["--target", &env::var("TARGET").expect("cargo sets TARGET")])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "relocation-model=static",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-C",
            "link-arg=-static",
        ]);
    if is("CARGO_CFG_TARGET_ENV", "musl") {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg({
            let mut option = std::ffi::OsString::from("linker=");
            option.push(linker);
            option
        });
    }
    let status = rustc.status().expect("rustc can be started");
    assert!(status.success(), "the session's init (crates/sandbox-core/init) does not compile");
    println!("cargo::rustc-env=SESSION_INIT={}", out.display());
    println!("cargo::rustc-cfg=native_init");
}

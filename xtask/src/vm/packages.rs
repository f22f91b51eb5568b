//! Debian packages for another architecture, unpacked in a directory of their own.
//!
//! apt keeps its state there too, so this needs no privileges and does not change the system.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Ended, Runner};

/// Compiler, linker and emulator, for this system.
const TOOLS: [&str; 4] =
    ["rustc-web", "gcc-12-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm"];
/// Standard library for the other architecture. The packages that it depends on are not needed.
const LIBRARY: &str = "libstd-rust-web-dev:arm64";
/// Programs of the machine.
const PROGRAMS: [&str; 13] = [
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "grep",
    "hostname",
    "mount",
    "perl-base",
    "procps",
    "sed",
    "util-linux",
];
/// Keeps apt from choosing packages that convert a system to a merged `/usr`.
const MERGED: &str = "usr-is-merged";
/// A package that depends on the newest kernel.
const KERNEL: &str = "linux-image-cloud-arm64";

/// The unpacked packages.
#[derive(Debug)]
pub(super) struct Packages {
    directory: PathBuf,
}

impl Packages {
    /// Downloads and unpacks the packages, unless an earlier run has done so.
    pub(super) fn install(runner: &Runner) -> Result<Self, Ended> {
        let packages = Self { directory: runner.directory().join("arm") };
        let mark = packages.directory.join("packages");
        let wanted = [&TOOLS[..], &[LIBRARY], &PROGRAMS[..], &[MERGED, KERNEL]].concat().join("\n");
        if fs::read_to_string(&mark).is_ok_and(|unpacked| unpacked == wanted) {
            return Ok(packages);
        }
        packages.clear().map_err(failed)?;
        packages.download_and_unpack(runner)?;
        fs::write(&mark, wanted).map_err(failed)?;
        Ok(packages)
    }

    /// Directory of the tools for this system.
    pub(super) fn tools(&self) -> PathBuf {
        self.directory.join("tools")
    }

    /// Directory of the programs for the machine.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Directory for what cargo builds with these tools.
    pub(super) fn target(&self) -> PathBuf {
        self.directory.join("target")
    }

    /// Returns the kernel of the machine.
    pub(super) fn kernel(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.root().join("boot")).ok()?.flatten();
        let is_kernel = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        };
        entries.map(|entry| entry.path()).find(is_kernel)
    }

    fn clear(&self) -> io::Result<()> {
        for dir in ["tools", "root", "apt"] {
            match fs::remove_dir_all(self.directory.join(dir)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for dir in ["lists/partial", "tools/partial", "root/partial", "state"] {
            fs::create_dir_all(self.directory.join("apt").join(dir))?;
        }
        // The machine's programs are chosen as for a system without any package.
        fs::write(self.directory.join("apt/no-packages"), "")
    }

    /// Writes the list of installed packages without the tools, so that apt downloads them anyway.
    fn system_without_tools(&self) -> io::Result<PathBuf> {
        const TOOLS: [&str; 4] =
            ["rust-web", "aarch64-linux-gnu", "arm64-cross", "qemu-system-arm"];
        let is_tool = |package: &&str| {
            let name = package.lines().next().unwrap_or_default();
            TOOLS.iter().any(|tool| name.contains(tool))
        };
        let installed = fs::read_to_string("/var/lib/dpkg/status")?;
        let others = installed.split_inclusive("\n\n").filter(|package| !is_tool(package));
        let path = self.directory.join("apt/system");
        fs::write(&path, others.collect::<String>())?;
        Ok(path)
    }

    fn download_and_unpack(&self, runner: &Runner) -> Result<(), Ended> {
        let system = self.system_without_tools().map_err(failed)?;
        let tools = self.configure("tools", &system, &["amd64", "arm64"]).map_err(failed)?;
        let none = self.directory.join("apt/no-packages");
        let root = self.configure("root", &none, &["arm64"]).map_err(failed)?;
        self.apt(runner, &tools, "apt-get", ["update", "--quiet"])?;
        let install = ["install", "--yes", "--quiet", "--download-only"];
        self.apt(runner, &tools, "apt-get", install.iter().chain(&TOOLS))?;
        self.apt(runner, &tools, "apt-get", ["download", LIBRARY])?;
        let programs = install.iter().chain(&PROGRAMS).chain(&[MERGED]);
        self.apt(runner, &root, "apt-get", programs)?;
        let depends = self.apt(runner, &root, "apt-cache", ["depends", KERNEL])?;
        let kernel =
            depends.split_whitespace().find(|word| word.ends_with("-arm64") && *word != KERNEL);
        let kernel = kernel.ok_or_else(|| Ended::Failed(format!("{KERNEL} names no kernel")))?;
        self.apt(runner, &root, "apt-get", ["download", kernel])?;
        for part in ["tools", "root"] {
            let archives = self.directory.join("apt").join(part);
            for entry in fs::read_dir(&archives).map_err(failed)?.flatten() {
                if entry.path().extension() == Some(OsStr::new("deb")) {
                    let mut unpack = Command::new("dpkg");
                    unpack.arg("--extract").arg(entry.path()).arg(self.directory.join(part));
                    runner.output(unpack)?;
                }
            }
            fs::remove_dir_all(&archives).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes a configuration of apt with which packages go to the archives of `part`.
    fn configure(&self, part: &str, status: &Path, architectures: &[&str]) -> io::Result<PathBuf> {
        let apt = self.directory.join("apt");
        let settings = [
            ("Dir::State", apt.join("state")),
            ("Dir::State::lists", apt.join("lists")),
            ("Dir::State::status", status.to_owned()),
            ("Dir::Cache", apt.join(format!("cache-{part}"))),
            ("Dir::Cache::archives", apt.join(part)),
            ("APT::Architecture", PathBuf::from(architectures[0])),
            ("APT::Install-Recommends", PathBuf::from("false")),
            // Root would give up its rights for downloads, and then could not write here.
            ("APT::Sandbox::User", PathBuf::from("root")),
            ("Debug::NoLocking", PathBuf::from("true")),
        ];
        let mut text: String = settings
            .iter()
            .map(|(name, value)| format!("{name} \"{}\";\n", value.display()))
            .collect();
        let list: String = architectures.iter().map(|name| format!("\"{name}\"; ")).collect();
        text.push_str(&format!("APT::Architectures {{ {list}}};\n"));
        let path = apt.join(format!("{part}.conf"));
        fs::create_dir_all(apt.join(format!("cache-{part}")))?;
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs a program of apt in the directory of the archives, to which `download` writes.
    fn apt(
        &self,
        runner: &Runner,
        configuration: &Path,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, Ended> {
        let mut apt = Command::new(program);
        apt.args(arguments).env("APT_CONFIG", configuration).env("LC_ALL", "C");
        apt.current_dir(configuration.with_extension(""));
        runner.output(apt)
    }
}

fn failed(error: io::Error) -> Ended {
    Ended::Failed(error.to_string())
}

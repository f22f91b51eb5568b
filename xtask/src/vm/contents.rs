//! Contents of a machine's root: the tests, the programs that they call, and their libraries.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Tests;
use super::archive::Archive;
use crate::step::Runner;

/// Programs that the tests and the script of the machine call.
const PROGRAMS: [&str; 66] = [
    "bash", "cat", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "dirname", "du", "env",
    "expr", "false", "find", "grep", "head", "hostname", "id", "ipcmk", "kill", "ln", "ls",
    "mkdir", "mkfifo", "mknod", "mktemp", "mount", "mv", "nproc", "nsenter", "perl", "prlimit",
    "ps", "pwd", "readlink", "realpath", "renice", "rm", "rmdir", "sed", "seq", "setpriv",
    "setsid", "sh", "sleep", "sort", "stat", "stty", "sync", "tail", "taskset", "tee", "test",
    "timeout", "touch", "tr", "true", "truncate", "umount", "uname", "uniq", "unlink", "unshare",
    "wc", "xargs",
];
/// Directories with programs, below `/` or `/usr`.
const PROGRAM_DIRECTORIES: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
/// Directories that are symlinks into `/usr` on Debian and others.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Modules of the kernel for the network of a session, each after those that it needs.
const MODULES: [&str; 8] = [
    "lib/libcrc32c.ko",
    "net/netfilter/nfnetlink.ko",
    "net/netfilter/nf_tables.ko",
    "net/ipv4/netfilter/nf_defrag_ipv4.ko",
    "net/ipv6/netfilter/nf_defrag_ipv6.ko",
    "net/ipv4/netfilter/nf_tproxy_ipv4.ko",
    "net/ipv6/netfilter/nf_tproxy_ipv6.ko",
    "net/netfilter/nft_tproxy.ko",
];
const EMPTY_DIRECTORIES: [&str; 13] = [
    "proc", "sys", "dev", "root", "mnt", "home", "run", "srv", "opt", "new", "var/lib", "var/tmp",
    "tmp",
];
const SCRIPT: &str = include_str!("init.sh");
const POWER_SCRIPT: &str = include_str!("power.sh");
/// Names of the test programs in the root.
const LIBRARY_TESTS: &str = "sandbox-core-library-tests";
const API_TESTS: &str = "sandbox-core-tests";
const TESTS_OF_MIRRORS: &str = "artifact-sync-tests";

/// Returns the root with programs and libraries of this system.
pub(super) fn of_this_system(
    runner: &Runner,
    tests: &Tests,
    kernel: &Path,
) -> Result<Vec<u8>, String> {
    let mut archive = skeleton(tests)?;
    add_modules(&mut archive, Path::new("/"), kernel)?;
    let tests: Vec<&PathBuf> =
        [&tests.library, &tests.api].into_iter().chain(&tests.mirrors).collect();
    let mut needed = with_libraries(runner, &PROGRAMS, &tests);
    files_below(Path::new("/usr/lib/x86_64-linux-gnu/perl-base"), &mut needed);
    add_from_this_system(&mut archive, needed)?;
    Ok(archive.finish())
}

/// Returns the root of a machine whose disk has a test program.
pub(super) fn with_disk(runner: &Runner, program: &Path) -> Result<Vec<u8>, String> {
    let mut archive = Archive::default();
    for dir in ["proc", "dev", "tmp", "mnt"] {
        archive.directory(Path::new(dir));
    }
    archive.file(Path::new("init"), POWER_SCRIPT.as_bytes(), 0o755);
    let needed = with_libraries(runner, &["bash", "mount", "sleep"], &[program]);
    add_from_this_system(&mut archive, needed)?;
    Ok(archive.finish())
}

/// Returns the files of named programs, and the libraries of these and of the test programs.
fn with_libraries(
    runner: &Runner,
    names: &[&str],
    tests: &[impl AsRef<Path>],
) -> BTreeSet<PathBuf> {
    let mut needed: BTreeSet<PathBuf> = names.iter().filter_map(|name| find(name)).collect();
    let mut programs: Vec<PathBuf> = needed.iter().cloned().collect();
    programs.extend(tests.iter().map(|test| test.as_ref().to_owned()));
    for program in programs {
        let mut ldd = Command::new("ldd");
        ldd.arg(program);
        // It fails for a program without libraries.
        let libraries = runner.output(ldd).unwrap_or_default();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        needed.extend(paths.map(PathBuf::from));
    }
    needed
}

fn add_from_this_system(archive: &mut Archive, needed: BTreeSet<PathBuf>) -> Result<(), String> {
    for dir in MERGED {
        if let Ok(target) = fs::read_link(Path::new("/").join(dir)) {
            archive.symlink(dir, &target.to_string_lossy());
        }
    }
    for path in needed {
        let dir = path.parent().and_then(|dir| dir.canonicalize().ok()).unwrap_or_default();
        let place = dir.join(path.file_name().unwrap_or_default());
        archive.file(place.strip_prefix("/").unwrap_or(&place), &content(&path)?, 0o755);
    }
    Ok(())
}

/// Returns the root with programs and libraries from Debian packages that are unpacked in `root`,
/// for the architecture with the triplet.
pub(super) fn of_packages(
    root: &Path,
    triplet: &str,
    tests: &Tests,
    kernel: &Path,
) -> Result<Vec<u8>, String> {
    let mut archive = skeleton(tests)?;
    add_modules(&mut archive, root, kernel)?;
    for dir in MERGED {
        archive.directory(&Path::new("usr").join(dir));
        archive.symlink(dir, &format!("usr/{dir}"));
    }
    let mut needed = BTreeSet::new();
    for program in PROGRAMS {
        let mut places = PROGRAM_DIRECTORIES.iter().map(|dir| root.join(dir).join(program));
        let place = places.find(|place| place.is_file());
        needed.insert(place.ok_or_else(|| format!("no package has {program}"))?);
    }
    for lib in ["lib", "usr/lib"] {
        let libraries = entries(&root.join(lib).join(triplet));
        needed.extend(libraries.into_iter().filter(|path| path.is_file()));
        let loaders = entries(&root.join(lib));
        needed.extend(loaders.into_iter().filter(|path| path.is_file()));
    }
    files_below(&root.join("usr/lib").join(triplet).join("perl-base"), &mut needed);
    for path in needed {
        let place = path.strip_prefix(root).unwrap_or(&path);
        let place = Path::new("usr").join(place.strip_prefix("usr").unwrap_or(place));
        archive.file(&place, &content(&path)?, 0o755);
    }
    Ok(archive.finish())
}

/// Adds the modules that belong to the kernel, in the order in which the script loads them. A
/// kernel may lack some, or have them built in.
fn add_modules(archive: &mut Archive, root: &Path, kernel: &Path) -> Result<(), String> {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let release = name.strip_prefix("vmlinuz-").unwrap_or_default();
    let modules = root.join("lib/modules").join(release).join("kernel");
    archive.directory(Path::new("modules"));
    for (number, module) in MODULES.into_iter().enumerate() {
        let module = modules.join(module);
        if module.is_file() {
            let place = format!("modules/{number}.ko");
            archive.file(Path::new(&place), &content(&module)?, 0o644);
        }
    }
    Ok(())
}

/// Returns an archive with the tests, the script of the machine, and the files that every system
/// has.
fn skeleton(tests: &Tests) -> Result<Archive, String> {
    let mut archive = Archive::default();
    for dir in EMPTY_DIRECTORIES {
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
    archive.file(Path::new(LIBRARY_TESTS), &content(&tests.library)?, 0o755);
    archive.file(Path::new(API_TESTS), &content(&tests.api)?, 0o755);
    if let Some(mirrors) = &tests.mirrors {
        archive.file(Path::new(TESTS_OF_MIRRORS), &content(mirrors)?, 0o755);
    }
    Ok(archive)
}

/// Finds a program on this system.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|found| found.is_file())
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn files_below(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for path in entries(dir) {
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.insert(path);
        }
    }
}

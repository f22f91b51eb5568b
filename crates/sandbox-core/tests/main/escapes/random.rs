//! A random attacker: sequences of moves in three shells at once, on every kind of input, beside a
//! host that has forked.

use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_core::{CommandStatus, Sandbox};

use super::target::{CONTENT, Target, target};
use crate::calls::number;
use crate::fixture::{repetitions, spec};
use crate::kills::copies_of_sockets;

/// Moves that change names, links and directories during other accesses.
const MOVES: [&str; 59] = [
    "mkdir -p a/b",
    "ln -sfn ../ghost a/l; echo x > a/l",
    "echo x > a/x; mv -T a/x ghost; ln a/x .gitconfig",
    "mkdir -p a/where; mv -T a no; mkdir -p no; \
     perl -e 'syscall(RENAMEAT2, -100, \"a\", -100, \"no\", 2)'",
    "ln -sfn a no; ln -sfn a .vscode; mkdir .vscode",
    "mv -T no a; rm -rf no",
    "ln -sfn OUTSIDE a/out",
    "ln -sfn ../s2 a/out",
    "ln -sfn /proc/self/root a/out",
    "ln -sfn /proc/self/cwd a/out",
    "echo x > a/out/canary",
    "echo x > a/out/file",
    "rm -rf a/out/*",
    "mv -T a locked/a",
    "mv -T locked a",
    "mv -T a deep",
    "mv -T deep a",
    "cp -r . a/copy",
    "echo x > a/.git/config",
    "rm -rf a",
    "ln denied.txt a/hard; echo x > a/hard",
    "exec 4<a; cd a; echo x > /proc/self/fd/4/../denied.txt; cd -",
    "mv -T a secret; cat secret/*",
    "chmod -R 777 . ; chmod 000 locked",
    "truncate -s 0 a/out/* a/* denied.txt",
    "perl -e 'syscall(RENAMEAT2, -100, \"a\", -100, \"locked\", 2)'",
    "perl -e 'syscall(RENAMEAT2, -100, \"deep/repo/.git\", -100, \"a\", 2)'",
    // Modes that hide a tree from the host.
    "chmod 000 a deep/repo",
    "chmod 300 a; chmod 100 deep",
    "chmod 000 .",
    "chmod 755 . a deep deep/repo; echo x > deep/repo/.git/hooks/pre-commit; echo x > deep/.bashrc",
    "chmod 4777 a/x a; perl -e 'mkdir q(a/set); chmod 06777, q(a/set)'",
    // Layouts of git.
    "git init -q a; echo ../../../a/.git > deep/repo/.git/commondir",
    "mkdir -p a/objects a/refs; echo 'ref: refs/heads/x' > a/HEAD; mv -T a deep/repo/.git/a",
    "printf 'gitdir: a' > deep/repo/sub; printf 'gitdir: ../a' > a/.git",
    "ln -sfn ../../a deep/repo/.git/hooks; ln -sfn ../../../a deep/repo/.git/modules",
    "rm -f deep/repo/.git/HEAD; ln -s ../../../a/x deep/repo/.git/HEAD",
    "git -C deep/repo config core.hooksPath ../../a; git -C deep/repo worktree add -q ../../a",
    "echo x > deep/repo/.git/config.worktree; mkdir -p deep/repo/.git/info/attributes",
    // Symlinks that lead to each other.
    "ln -sfn l a/l; ln -sfn ../a/b a/b; ln -sfn . a/again",
    "ln -sfn .zshrc .zshrc; ln -sfn .bashrc a/.bashrc; ln -sfn a/.git a/.git",
    "ln -sfn ../deep a/way; echo x > a/way/repo/.git/config; echo x > a/way/a/way/.bashrc",
    // Hidden and protected names, and repositories, that lead to what the session needs.
    "mkdir -p a; ln -sfn / a/x.pem; ln -sfn .. x.pem",
    "ln -sfn /usr/bin a/x.pem; ln -sfn /proc/self/fd/0 x.pem",
    "ln -sfn /dev/null a/x.pem; ln -sfn a x.pem; ln -sfn ../secret a/x.pem",
    "rm -rf x.pem; mkfifo x.pem; ln -sfn $(printf %4095s | tr ' ' x) a/x.pem",
    "ln -sfn .. a/.vscode; ln -sfn / a/.bashrc; ln -sfn ../deep a/.idea",
    "git init -q a; git -C a config core.hooksPath ..; git -C a config include.path ../..",
    "git init -q a; git -C a config core.hooksPath / ; git -C a config init.templateDir ..",
    "mkdir -p a/d; echo 'gitdir: ../..' > a/d/.git; mkdir -p objects refs; echo x > HEAD; \
     echo ../.. > a/.git/commondir; ln -sfn / a/.git/modules",
    // Trees that are deeper than a path is long.
    "perl -e 'for (1..150) { mkdir q(deep-directory) and chdir q(deep-directory) or last }'",
    "(cd a && for i in {1..60}; do mkdir -p q && cd q || break; done; mkdir .git .vscode)",
    "mv -T deep-directory a/deep; rm -rf deep-directory",
    // The input, which a host may have opened for more than reading.
    "echo x >&0",
    "echo x > /proc/self/fd/0; echo x >> /dev/stdin; exec 5<>/proc/self/fd/0 && echo x >&5",
    "perl -e 'truncate(STDIN, 0); seek(STDIN, 0, 0); syswrite(STDIN, q(x)); chmod 0666, *STDIN'",
    "cat /proc/self/fd/0/../../../outside/canary; ls -l /proc/self/fd/0/..; cd /proc/self/fd/0",
    "ln -L /proc/self/fd/0 a/input; timeout 1 cp /proc/self/fd/0 a/input2",
    "flock -n 0 true; read -t 1 -r line <&0",
];

/// Content of a file on which a command runs.
const INPUT: &str = "input";

/// Number of sequences, unless the variable sets a time.
const SEQUENCES: usize = 80;
/// Variable with the duration of the attack in seconds.
const SECONDS: &str = "SANDBOX_CORE_ATTACK_SECONDS";
/// Number of sequences after which the attacker begins again, so that its files stay few.
const GENERATION: u64 = 40;

/// Random numbers that are the same on every machine (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn sequence(&mut self, target: &Target) -> String {
        let outside = target.root.join("outside").display().to_string();
        let moves = (0..6).map(|_| {
            MOVES[self.below(MOVES.len())]
                .replace("OUTSIDE", &outside)
                .replace("RENAMEAT2", &number("renameat2").to_string())
        });
        moves.collect::<Vec<_>>().join("; ")
    }
}

#[tokio::test]
async fn concurrent_random_moves_lead_nowhere() {
    let seconds = std::env::var(SECONDS).ok().map(|text| text.parse().expect("seconds"));
    let (began, time) = (Instant::now(), seconds.map(Duration::from_secs));
    let mut target = target();
    for seed in 1.. {
        let is_over = match time {
            Some(time) => began.elapsed() >= time,
            None => seed > repetitions(SEQUENCES) as u64,
        };
        if is_over {
            break;
        }
        if seed % GENERATION == 0 {
            target = super::target::target();
        }
        attack(&mut target, seed).await;
    }
}

/// Runs one sequence.
async fn attack(target: &mut Target, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut sequence = || random.sequence(target);
    let command = format!("( {} ) & ( {} ) & {}; wait", sequence(), sequence(), sequence());
    let after = format!("seed {seed}: {command}");
    let children = if random.below(4) == 0 { fork() } else { Vec::new() };
    let (seen, has_ended) = match random.below(5) {
        0 => {
            // The command may read this file, and write to no file. A later command may print what
            // it copied.
            let input = tempfile::NamedTempFile::new().unwrap();
            fs::write(input.path(), INPUT).unwrap();
            let file = File::options().read(true).write(true).open(input.path()).unwrap();
            let ran = run_on(target, file.into(), &command).await.unwrap();
            assert_eq!(fs::read_to_string(input.path()).unwrap(), INPUT, "{after}");
            ran
        }
        1 => {
            let input = File::open(&target.root).unwrap();
            assert!(run_on(target, input.into(), "true").await.is_err(), "a directory is refused");
            return end(children);
        }
        2 => {
            let input = File::options().read(true).write(true).open("/dev/null").unwrap();
            run_on(target, input.into(), &command).await.unwrap()
        }
        _ => {
            let ran = target.run(&command).await;
            (String::from_utf8_lossy(&ran.stdout.bytes).into(), ran.sandbox_ended.is_some())
        }
    };
    assert!(!seen.contains(CONTENT), "read a hidden file, {after}");
    open_directories(&target.dir());
    target.is_untouched(&after);
    if has_ended || !children.is_empty() || random.below(3) == 0 {
        let closed = tokio::time::timeout(Duration::from_secs(20), target.sandbox.close()).await;
        assert!(closed.is_ok(), "closing waits for a child of the host, {after}");
        target.reopen();
        let write = "ls > /dev/null && echo x > written && rm written";
        let ran = target.run(write).await;
        assert_eq!(ran.status, CommandStatus::Exited(0), "{ran:?} {after}");
    }
    end(children);
}

/// Runs a command on this input. Returns its output, and whether the sandbox has ended.
async fn run_on(
    target: &Target,
    input: OwnedFd,
    command: &str,
) -> Result<(String, bool), sandbox_core::ExecError> {
    let (reader, writer) = std::io::pipe().unwrap();
    let read = tokio::task::spawn_blocking(move || read_to_end(reader));
    let null = File::options().write(true).open("/dev/null").unwrap();
    let streams = [input.as_fd(), writer.as_fd(), null.as_fd()];
    let mut running = target.sandbox.start(&spec(command), streams).await?;
    let ended = tokio::time::timeout(Duration::from_secs(60), running.wait()).await;
    let ended = ended.expect("the command ends").unwrap();
    drop(writer);
    Ok((read.await.unwrap(), ended.sandbox_ended.is_some()))
}

fn read_to_end(mut reader: PipeReader) -> String {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into()
}

/// Starts children that have the sockets of this process, like those of a host that forks.
fn fork() -> Vec<Child> {
    let start = |socket: OwnedFd| {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
        sleep.spawn().unwrap()
    };
    copies_of_sockets().into_iter().map(start).collect()
}

fn end(children: Vec<Child>) {
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Opens directories that a command has closed, so that this process can look into them.
fn open_directories(dir: &Path) {
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        // A path can be too long for a system call.
        let Ok(metadata) = fs::symlink_metadata(&dir) else { continue };
        let mode = metadata.permissions().mode();
        if mode & 0o700 != 0o700 {
            let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(mode | 0o700));
        }
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        rest.extend(below.map(|entry| entry.path()));
    }
}

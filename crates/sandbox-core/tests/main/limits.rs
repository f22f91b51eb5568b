//! The limits of a process, each reached by a command.

use std::time::Duration;

use sandbox_core::{CommandOutput, CommandStatus, Limit, Limits, NativeSandbox, Sandbox};

use crate::fixture::{Fixture, fixture, open_with, pause, spec};
use testkit::skipped;

/// Opens a sandbox of the fixture with one limit changed.
fn limited(fixture: &Fixture, set: impl FnOnce(&mut Limits)) -> NativeSandbox {
    let mut limits = Limits::default();
    set(&mut limits);
    open_with(&fixture.policy(), &fixture.dir, &limits)
}

async fn run(sandbox: &NativeSandbox, command: &str) -> CommandOutput {
    sandbox.exec(spec(command)).await.unwrap()
}

fn stdout(output: &CommandOutput) -> String {
    String::from_utf8_lossy(&output.stdout.bytes).into_owned()
}

#[tokio::test]
async fn processor_time_is_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.cpu_time = Some(Duration::from_secs(1)));
    for command in ["while :; do :; done", "trap '' XCPU; (trap - XCPU; while :; do :; done)"] {
        let ran = run(&sandbox, command).await;
        assert_eq!(ran.limit_reached(), Some(Limit::CpuTime), "{command}: {ran:?}");
    }
    assert_eq!(run(&sandbox, "true").await.limit_reached(), None);
}

#[tokio::test]
async fn memory_is_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.memory_bytes = 128 << 20);
    assert_eq!(
        stdout(&run(&sandbox, "head -c 20M /dev/zero | tail -c 20M | wc -c").await),
        "20971520\n"
    );
    let ran = run(&sandbox, "head -c 500M /dev/zero | tail -c 500M | wc -c").await;
    assert_eq!(stdout(&ran), "0\n", "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr.bytes).contains("memory exhausted"), "{ran:?}");
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.processes = 100);
    if sandbox.report().resources.to_string().contains("the number of processes is not limited") {
        return skipped("the limit on processes, for root", "Linux 6.14");
    }
    if stdout(&run(&sandbox, "command -v perl").await).is_empty() {
        return skipped("the limit on processes", "package perl-base");
    }
    const MANY: &str = "perl -e 'while (defined($child = fork)) \
                        { if (!$child) { sleep 100; exit } last if ++$n == 1000 } print $n'";
    let started: u32 = stdout(&run(&sandbox, MANY).await).parse().unwrap();
    assert!((1..320).contains(&started), "{started}");
    assert_eq!(stdout(&run(&sandbox, "echo again").await), "again\n");
}

#[tokio::test]
async fn open_files_are_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.open_files = 100);
    assert_eq!(stdout(&run(&sandbox, "ulimit -n; ulimit -Hn").await), "100\n100\n");
    let ran =
        run(&sandbox, "for i in {1..200}; do exec {fd}</dev/null || break; done; echo $i").await;
    assert!(String::from_utf8_lossy(&ran.stderr.bytes).contains("Too many open files"), "{ran:?}");
}

#[tokio::test]
async fn the_size_of_a_file_is_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.file_bytes = 1 << 20);
    let ran = run(&sandbox, "head -c 2000000 /dev/zero > f").await;
    assert_eq!(ran.limit_reached(), Some(Limit::FileSize), "{ran:?}");
    assert_eq!(std::fs::metadata(fixture.dir.join("f")).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn private_directories_are_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.tmp_mib = 1);
    let ran = run(&sandbox, "head -c 2000000 /dev/zero > /tmp/f").await;
    assert!(String::from_utf8_lossy(&ran.stderr.bytes).contains("No space left"), "{ran:?}");
}

#[tokio::test]
async fn the_number_of_files_in_private_directories_is_limited() {
    let fixture = fixture();
    let sandbox = limited(&fixture, |limits| limits.tmp_files = 100);
    for (dir, limit) in [("/tmp", 100), ("/var/tmp", 100), ("/dev/shm", 16_383)] {
        let command = format!(
            "cd {dir} && for i in {{1..20000}}; do : > $i || break; done 2> /dev/null; \
             ls | wc -l; rm -f [0-9]*; : > again && echo again"
        );
        let mut spec = spec(&command);
        spec.timeout = pause(spec.timeout);
        let ran = sandbox.exec(spec).await.unwrap();
        let text = stdout(&ran);
        let created: u32 = text.strip_suffix("\nagain\n").unwrap().parse().unwrap();
        // The directories on the way to the session are in the private one too.
        assert!((limit - 10..=limit).contains(&created), "{dir}: {created}");
    }
    assert_eq!(stdout(&run(&sandbox, "stat -f -c %c /tmp").await), "101\n");
}

#[tokio::test]
async fn wall_time_and_output_are_limited() {
    let fixture = fixture();
    let mut short = spec("sleep 100");
    short.timeout = Duration::from_millis(200);
    let ran = fixture.sandbox.exec(short).await.unwrap();
    assert_eq!((ran.status, ran.limit_reached()), (CommandStatus::TimedOut, Some(Limit::WallTime)));
    let mut long = spec("head -c 3000 /dev/zero");
    long.max_output_bytes = 1000;
    let ran = fixture.sandbox.exec(long).await.unwrap();
    assert_eq!((ran.limit_reached(), ran.stdout.dropped_bytes), (Some(Limit::Output), 2000));
}

//! Prestarted shells: a command behaves the same as in a new `bash -c`.

use std::time::{Duration, Instant};

use sandbox_core::{CommandOutput, CommandStatus, Sandbox};

use crate::fixture::{
    Fixture, alive, eventually, fixture, spec, unique_seconds, without_namespaces,
};

/// Time after which an idle session has prestarted a shell.
const IDLE: Duration = Duration::from_millis(40);
/// Prints the age of the shell in hundredths of a second.
const AGE: &str =
    "read -r up _ < /proc/uptime; read -ra stat < /proc/$$/stat; echo $((10#${up/./} - stat[21]))";

/// Scripts that inspect the shell that runs them.
const SCRIPTS: &[&str] = &[
    "true",
    "false",
    "exit 7",
    "echo \"$0\" $# \"$@\" \"$_\"",
    "echo $- $SHLVL $SECONDS $LINENO $BASH_SUBSHELL $$ $PPID $?",
    "echo $LINENO\necho $LINENO",
    "printf '%s|' \"$BASH_EXECUTION_STRING\"",
    "printf '%s|' \"it's $BASH_EXECUTION_STRING\" 'a'\"'\"'b' \"\\\\\"",
    "echo ${#BASH_SOURCE[@]} ${#FUNCNAME[@]} ${#BASH_LINENO[@]} ${#BASH_ARGV[@]}",
    "f() { echo ${FUNCNAME[*]} ${BASH_LINENO[*]}; return 4; }; f",
    "set -e; false; echo not reached",
    "set -u; echo $undefined; echo not reached",
    "set -o pipefail; false | true",
    "set -x; echo traced",
    "echo 'an open quote",
    "if true; then",
    "echo before\n)",
    "nosuchcommand",
    "echo one\nnosuchcommand\necho three",
    "/",
    "cat <<END\nhere $0\nEND",
    "cat <<'END'\n$unexpanded\nEND",
    "cat <<< string",
    "cat; echo \"input $?\"",
    "read -r line; echo \"$? [$line]\"",
    "exec echo replaced",
    "exec 3>&1; echo three >&3",
    "exec {fd}>&1; echo $fd; echo by number >&$fd",
    "trap 'echo bye' EXIT; echo hello",
    "trap 'echo bye' EXIT; exit 3",
    "trap 'echo caught' TERM; kill -TERM $$; echo after",
    "trap",
    "kill -TERM $$",
    "kill -KILL $$",
    "ulimit -c; umask",
    "alias x='echo aliased'; x",
    "shopt -s expand_aliases\nalias x='echo aliased'\nx",
    "shopt",
    "set -o",
    "declare -F; declare -f; alias",
    "compgen -v | grep -v -e '^BASHPID$' -e '^PIPESTATUS$'",
    "env | sort; export -p",
    "declare -p BASH_EXECUTION_STRING SECONDS SHLVL PWD PATH IFS PS4 OPTIND",
    "declare -p OLDPWD BASH_ENV REPLY",
    "return 3",
    "caller; echo $?",
    "jobs; true & wait $!; echo $?",
    "sleep 0.01 & echo $!; wait; jobs",
    "echo $(echo nested $LINENO $BASH_SUBSHELL)",
    "(exit 5); echo $?",
    "bash -c 'echo $0 $SHLVL; exit 6'; echo $?",
    "ls /proc/self/fd | wc -l; echo /proc/$$/fd/*",
    "tr '\\0' ' ' < /proc/$$/cmdline",
    "tr '\\0' '\\n' < /proc/$$/environ | sort | grep -v '^BASH_ENV='",
    "ps -o pid=,ppid=,pgid=,sid=,args= 2>/dev/null || true",
    "cat /proc/$$/comm; readlink /proc/$$/exe /proc/$$/cwd",
    "history; echo $HISTCMD; set +o | grep history",
    "echo ünïcödé; printf '\\xff\\n'; printf %q $'\\t'",
    "echo '!!' !$ \\!",
    "TIMEFORMAT=timed; time true",
    "eval 'echo $LINENO'; source /dev/stdin <<< 'echo sourced $LINENO'",
    "# a comment",
    "",
    "\n\n",
    "   ",
    "echo a; # b",
    "printf '%s\\n' ~ $HOME $RANDOM | wc -l",
    "type cd; hash; command -v cat",
    "echo $BASH_COMMAND; echo \"$BASH\"",
    "exec -a other bash -c 'echo $0'",
    "cd /; pwd; cd -",
    "select_out() { select x in a b; do break; done; }; select_out < /dev/null; echo $?",
    "echo out; echo err >&2; exit 9",
    "echo ${x:?is not set}; echo not reached",
    "readonly r=1; r=2; echo not reached",
    "mapfile -t lines < <(printf 'a\\nb\\n'); echo ${#lines[@]}",
    "coproc cat; echo through >&${COPROC[1]}; read -r -u ${COPROC[0]} x; echo $x",
    "let x=1/0; echo $?",
    "echo $((08))",
    "test -t 0; echo $?; test -t 1; echo $?",
    "times >/dev/null; echo $?; echo $EPOCHSECONDS | wc -c",
];

/// Output, error output, and status of a command.
type Observed = (String, String, CommandStatus);

fn observed(output: &CommandOutput) -> Observed {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout.bytes), text(&output.stderr.bytes), output.status)
}

impl Fixture {
    /// Runs a script after an idle period.
    async fn idle_then(&self, script: &str) -> CommandOutput {
        tokio::time::sleep(IDLE).await;
        self.run(script).await
    }

    /// Runs a script in a new shell, and then in a prestarted one.
    async fn run_in_both(&self, script: &str) -> (Observed, Observed) {
        // The arguments are one line padded with spaces; see `init/prestart.rs`.
        let trimmed = |(out, error, status): Observed| (out.trim_end().to_owned(), error, status);
        let new = self.again().run(script).await;
        let prestarted = self.idle_then(script).await;
        (trimmed(observed(&new)), trimmed(observed(&prestarted)))
    }

    /// Returns whether the shell of a command was prestarted. Tries several times, because the
    /// machine may be busy.
    async fn is_prestarted(&self) -> bool {
        for _ in 0..20 {
            let (age, ..) = observed(&self.idle_then(AGE).await);
            if age.trim().parse::<i32>().unwrap() >= 2 {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn every_script_behaves_like_in_a_new_shell() {
    let fixture = fixture();
    assert!(fixture.is_prestarted().await);
    for script in SCRIPTS {
        if without_namespaces()
            && ["$$", "$!", "$PPID", "/proc", "/tmp"].iter().any(|what| script.contains(what))
        {
            // The process ids are those of the host, and these directories do not exist.
            continue;
        }
        let (mut new, mut prestarted) = fixture.run_in_both(script).await;
        // `SECONDS` differs if a second passes during a start, so an unequal pair runs again.
        for _ in 0..4 {
            if prestarted != new {
                (new, prestarted) = fixture.run_in_both(script).await;
            }
        }
        assert_eq!(prestarted, new, "{script}");
    }
    assert!(fixture.is_prestarted().await);
}

#[tokio::test]
async fn a_script_of_any_length_runs() {
    let fixture = fixture();
    fixture.run("true").await;
    for length in [16_000, 16_382, 16_383, 16_384, 100_000] {
        let script = format!("echo ${{#BASH_EXECUTION_STRING}} #{}", "'".repeat(length - 32));
        let (stdout, ..) = observed(&fixture.idle_then(&script).await);
        assert_eq!(stdout, format!("{}\n", script.len()));
    }
}

#[tokio::test]
async fn a_command_with_another_environment_gets_a_new_shell() {
    let fixture = fixture();
    fixture.run("mkdir sub").await;
    let mut other = spec("echo $X; pwd");
    other.env.push(("X".into(), "1".into()));
    other.cwd = Some(fixture.dir.join("sub"));
    tokio::time::sleep(IDLE).await;
    let (stdout, ..) = observed(&fixture.sandbox.exec(other).await.unwrap());
    assert_eq!(stdout, format!("1\n{}\n", fixture.dir.join("sub").display()));
    let mut reading = spec("cat");
    reading.stdin = b"given".to_vec();
    tokio::time::sleep(IDLE).await;
    assert_eq!(observed(&fixture.sandbox.exec(reading).await.unwrap()).0, "given");
    let mut hooked = spec("echo mine");
    hooked.env.push(("BASH_ENV".into(), "/proc/self/fd/60".into()));
    assert_eq!(observed(&fixture.sandbox.exec(hooked.clone()).await.unwrap()).0, "mine\n");
    tokio::time::sleep(IDLE).await;
    assert_eq!(observed(&fixture.sandbox.exec(hooked).await.unwrap()).0, "mine\n");
}

#[tokio::test]
async fn a_prestarted_shell_is_killed_with_all_its_processes() {
    let fixture = fixture();
    fixture.run("true").await;
    let seconds = unique_seconds();
    let mut slow = spec(&format!("trap '' TERM; setsid sleep {seconds} & sleep 1000"));
    slow.timeout = Duration::from_millis(300);
    tokio::time::sleep(IDLE).await;
    assert_eq!(fixture.sandbox.exec(slow.clone()).await.unwrap().status, CommandStatus::TimedOut);
    assert!(!alive(&seconds));
    slow.timeout = Duration::from_secs(60);
    tokio::time::sleep(IDLE).await;
    let dropped =
        tokio::time::timeout(Duration::from_millis(300), fixture.sandbox.exec(slow)).await;
    assert!(dropped.is_err());
    eventually("the dropped command is dead", || !alive(&seconds)).await;
    fixture.run("true").await;
    assert!(fixture.is_prestarted().await);
}

#[tokio::test]
async fn a_timeout_before_the_shell_receives_its_command_is_a_timeout() {
    let fixture = fixture();
    let mut hasty = spec("sleep 1000");
    hasty.timeout = Duration::ZERO;
    for pause in 0..60 {
        fixture.run("true").await;
        // In some rounds the shell has been started and is not ready yet.
        tokio::time::sleep(Duration::from_micros(2000 + pause % 20 * 100)).await;
        assert_eq!(
            fixture.sandbox.exec(hasty.clone()).await.unwrap().status,
            CommandStatus::TimedOut
        );
    }
}

/// Returns the processes on this machine that have this text in their environment.
fn with_environment(mark: &str) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(mark)
    });
    marked.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[tokio::test]
async fn a_killed_prestarted_shell_is_replaced() {
    let fixture = fixture();
    let mark = unique_seconds();
    let mut marked = spec("env; echo $0");
    marked.env.push(("MARK".into(), mark.clone().into()));
    let first = fixture.sandbox.exec(marked.clone()).await.unwrap();
    eventually("a shell is waiting", || !with_environment(&mark).is_empty()).await;
    for pid in with_environment(&mark) {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    eventually("it is dead", || with_environment(&mark).is_empty()).await;
    let second = fixture.sandbox.exec(marked).await.unwrap();
    assert_eq!(observed(&second), observed(&first));
}

#[tokio::test]
async fn a_closed_session_leaves_no_prestarted_shell() {
    let fixture = fixture();
    let mark = unique_seconds();
    let mut marked = spec("true");
    marked.env.push(("MARK".into(), mark.clone().into()));
    fixture.sandbox.exec(marked).await.unwrap();
    eventually("a shell is waiting", || !with_environment(&mark).is_empty()).await;
    let begun = Instant::now();
    fixture.sandbox.close().await;
    assert!(with_environment(&mark).is_empty(), "after {:?}", begun.elapsed());
}

//! The search, from the host, for a secret value in all that a session and the home have.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::skipped;

use super::secure_origin::SecureOrigin;
use super::terminated::{VALUE, home, with_text};

/// Searches the environment, the arguments and the memory of processes for texts. Prints the number
/// of processes whose memory it has read, and one line for each place with a text.
const SEARCH: &str = r"
import sys
processes, texts = sys.argv[1].split(','), [text.encode() for text in sys.argv[2:]]
searched = set()
def search(process, place, content):
    for number, text in enumerate(texts):
        if text in content:
            print('found', number, process, place)
for process in processes:
    root = '/proc/' + process
    try:
        for name in ['environ', 'cmdline']:
            search(process, name, open(root + '/' + name, 'rb').read())
        with open(root + '/mem', 'rb', 0) as memory:
            for line in open(root + '/maps').read().split('\n'):
                if ' r' not in line or '[v' in line:
                    continue
                start, end = (int(part, 16) for part in line.split(' ')[0].split('-'))
                try:
                    memory.seek(start)
                    search(process, line, memory.read(end - start))
                    searched.add(process)
                except OSError:
                    pass
    except FileNotFoundError:
        pass
print('searched', len(searched))
";

/// Each program uses the key in another way, and stays. The shell knows the placeholder too.
const SCRIPT: &str = r#"
cat > stay.py <<'END'
import os, time, urllib.request as r
headers = {"authorization": "Bearer " + os.environ["KEY"]}
answer = r.urlopen(r.Request("https://origin.test/", headers=headers)).read()
open("python", "wb").write(answer)
time.sleep(1000)
END
python3 stay.py &
curl -sS --keepalive-time 9 -H "x-key: $KEY" https://origin.test/ https://origin.test/ -o curl \
    --next -sS -u "x:$KEY" "https://origin.test/?k=$KEY" -o basic
if command -v node > /dev/null; then
    node -e 'fetch("https://origin.test/", {headers: {"x-key": process.env.KEY}}).then(async it => {
        globalThis.answer = await it.text(); require("fs").writeFileSync("node", answer)
        setInterval(() => answer.length, 1000) })' &
else
    : > node
fi
printf %s "$KEY" > placeholder
until [ -e python -a -e node ]; do sleep 0.05; done
: > ready
until [ -e end ]; do sleep 0.05; done
kill $(jobs -p)
"#;

/// Returns the processes below one.
fn descendants(process: u32) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut unread = vec![process];
    while let Some(next) = unread.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{next}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
            unread.extend(children.inspect(|pid| found.push(*pid)));
        }
    }
    found
}

/// Runs the search on these processes.
fn search(processes: &[u32], texts: &[&str]) -> String {
    let list: Vec<String> = processes.iter().map(u32::to_string).collect();
    let output = Command::new("/usr/bin/python3")
        .args(["-c", SEARCH, &list.join(",")])
        .args(texts)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for(file: &Path) {
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} appears", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_host_finds_a_used_value_in_no_process_file_log_or_span() {
    if !rustix::process::geteuid().is_root() {
        return skipped("the memory of a session's processes", "run the test as root");
    }
    let Some(origin) = SecureOrigin::start() else {
        return skipped("TLS with masked variables", "install openssl and python3");
    };
    let cli = home(&origin);
    let at = format!("origin.test:443:127.0.0.1:{}", origin.port);
    let (stdout, stderr) = (cli.dir().join("stdout"), cli.dir().join("stderr"));
    // Nothing but the gate keeps the value away: neither output nor the log is redacted.
    let options = ["--no-redact", "bash", "--allow-host", "origin.test:443", "--resolve", &at];
    let mut command = cli.command(&[&options[..], &[SCRIPT]].concat());
    command.stdin(Stdio::null());
    command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
    let mut host = super::programs::Process(command.spawn().unwrap());
    let dir = cli.home().join("sessions/default");
    wait_for(&dir.join("ready"));

    let basic = STANDARD.encode(format!("x:{VALUE}"));
    let placeholder = std::fs::read_to_string(dir.join("placeholder")).unwrap();
    let texts = [VALUE, basic.trim_end_matches('='), &placeholder];
    let inside = descendants(host.0.id());
    let found = search(&inside, &texts);
    let values: Vec<&str> =
        found.lines().filter(|it| it.starts_with("found 0") || it.starts_with("found 1")).collect();
    assert_eq!(values, Vec::<&str>::new());
    // The search finds what is there: the placeholder, and the value in the process of the gate.
    let in_memory = |it: &&str| it.starts_with("found 2") && !it.ends_with("environ");
    assert!(found.lines().filter(in_memory).count() > 2, "{found}");
    let searched = found.lines().find_map(|line| line.strip_prefix("searched ")).unwrap();
    assert!(searched.parse::<usize>().unwrap() >= 4, "{found}");
    assert!(search(&[host.0.id()], &texts).contains("found 0"));

    std::fs::write(dir.join("end"), "").unwrap();
    assert!(host.0.wait().unwrap().success(), "{}", std::fs::read_to_string(&stderr).unwrap());
    let log = std::fs::read_to_string(&stderr).unwrap();
    assert!(log.contains("network{session=default}"), "the log has spans");
    for text in &texts[..2] {
        // The files are those of the session, the store, the state, the trust and the log.
        assert_eq!(with_text(cli.dir(), text), Vec::<String>::new());
        for arguments in [
            &["--no-redact", "session", "show", "default", "--network"][..],
            &["--no-redact", "--json", "session", "show", "default", "--network"],
            &["--no-redact", "logs"],
            &["--no-redact", "variable", "list"],
        ] {
            let shown = cli.run(arguments);
            assert!(!shown.stdout.contains(text) && !shown.stderr.contains(text), "{arguments:?}");
        }
    }
    assert!(with_text(&dir, &placeholder).len() >= 4, "the answers have placeholders");
    let received = origin.requests();
    let keys = received.iter().filter(|request| request["headers"]["x-key"] == VALUE).count();
    assert!(keys >= 2, "{received:?}");
}

//! Paths and scripts on the command line: any bytes, and no character has a meaning.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use super::Cli;

/// Names that a shell, a list or a pattern would take apart.
const NAMES: [&[u8]; 9] =
    [b"a b", b"a:b", b"a[b", b"a[b]", b"a*", b"a\nb", b"a,b", b"%41?#", b"\xff\xfe"];

fn run(cli: &Cli, args: &[&OsStr]) -> Output {
    cli.command(&[]).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_path_in_an_option_is_one_path_with_any_bytes() {
    let cli = Cli::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        let dir = cli.dir().join(OsStr::from_bytes(name));
        for below in ["read", "write", "venv/bin"] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        fs::write(dir.join("read/f"), "content").unwrap();
        let settings = dir.join("settings.json");
        let config = cli.run(&["policy", "show"]).ok().stdout;
        fs::write(&settings, config).unwrap();
        let script = [b"cat '", dir.as_os_str().as_bytes(), b"/read/f' && cp -r '"].concat();
        let script = [&script, dir.as_os_str().as_bytes(), b"/read' '"].concat();
        let script = [&script, dir.as_os_str().as_bytes(), b"/write'"].concat();
        let (read, write) = (dir.join("read"), dir.join("write"));
        let session = format!("s{number}");
        let args: [&OsStr; 9] = [
            "bash".as_ref(),
            "--session".as_ref(),
            session.as_ref(),
            "--policy".as_ref(),
            settings.as_ref(),
            "--allow-read".as_ref(),
            read.as_ref(),
            "--allow-write".as_ref(),
            write.as_ref(),
        ];
        let ran = run(&cli, &[&args[..], &[OsStr::from_bytes(&script)]].concat());
        assert_eq!(text(&ran.stdout), "content", "{}: {}", text(name), text(&ran.stderr));
        assert_eq!(fs::read_to_string(dir.join("write/read/f")).unwrap(), "content");
    }
}

#[test]
fn a_variable_with_a_path_is_one_path() {
    let cli = Cli::new();
    let dir = cli.dir().join("a:b");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "content").unwrap();
    let script = format!("cat '{}/f'", dir.display());
    let mut command = cli.command(&["bash", &script]);
    let ran = command.env("AGENT_TOOLS_ALLOW_READ", &dir).output().unwrap();
    assert_eq!(text(&ran.stdout), "content", "{}", text(&ran.stderr));
}

#[test]
fn a_home_may_have_any_bytes_with_its_variables() {
    let cli = Cli::new();
    let store = format!("file://{}/store", cli.dir().display());
    for name in NAMES {
        let home = cli.dir().join(OsStr::from_bytes(&[b"home ", name].concat()));
        let args = |more: &[&str]| {
            let first: [&OsStr; 4] =
                ["--store".as_ref(), store.as_ref(), "--home".as_ref(), home.as_ref()];
            let all = first.into_iter().chain(more.iter().map(OsStr::new));
            all.map(OsStr::to_owned).collect::<Vec<OsString>>()
        };
        let mut set = cli.command(&[]);
        set.args(args(&["variable", "set", "V"])).stdin(std::process::Stdio::null());
        assert!(set.output().unwrap().status.success(), "{}", text(name));
        assert!(home.join("agent-tools.db").is_file());
        let session = format!("s{}", NAMES.iter().position(|known| *known == name).unwrap());
        let script = "pwd; echo ${V-unset}; echo x > f";
        let ran =
            cli.command(&[]).args(args(&["bash", "--session", &session, script])).output().unwrap();
        let dir = home.canonicalize().unwrap().join("sessions").join(session);
        let expected = [dir.as_os_str().as_bytes(), b"\n\n"].concat();
        assert_eq!(text(&ran.stdout), text(&expected), "{}", text(&ran.stderr));
        assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "x\n");
    }
}

#[test]
fn explain_and_scripts_accept_bytes_that_are_not_utf8() {
    let cli = Cli::new();
    let bytes = OsStr::from_bytes;
    let explain = |target: &[u8]| {
        let ran = run(&cli, &["policy".as_ref(), "explain".as_ref(), bytes(target)]);
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        text(&ran.stdout)
    };
    assert!(explain(b"/root/\xff").contains("read: denied: denyRead has /root"));
    assert!(explain(b"\xff").contains(&format!("{}/\u{fffd}", cli.dir().display())));
    let ran = run(&cli, &["bash".as_ref(), bytes(b"printf '\xff'; exit 3")]);
    assert_eq!((&*ran.stdout, ran.status.code()), (&b"\xff"[..], Some(3)));
    let ran = run(&cli, &["sandbox".as_ref(), "-c".as_ref(), bytes(b"printf '\xff'")]);
    assert_eq!(ran.stdout, b"\xff");
}

#[test]
fn a_path_that_no_artifact_can_have_is_refused_with_the_reason() {
    let cli = Cli::new();
    let calls: [&[&str]; 4] = [
        &["read-file"],
        &["write-file"],
        &["session", "undelete", "default"],
        &["session", "history", "default"],
    ];
    for call in calls {
        let ran = cli.command(call).arg(OsStr::from_bytes(b"\xff")).output().unwrap();
        assert_eq!(ran.status.code(), Some(2));
        assert!(text(&ran.stderr).contains("it is not UTF-8"), "{}", text(&ran.stderr));
    }
    let home = cli.dir().join(OsStr::from_bytes(b"\xff"));
    let ran = run(&cli, &["--home".as_ref(), home.as_ref(), "bash".as_ref(), "true".as_ref()]);
    assert_eq!(ran.status.code(), Some(125));
    assert!(text(&ran.stderr).contains("name another one with --store"), "{}", text(&ran.stderr));
    let venv = cli.dir().join("v:w");
    fs::create_dir_all(venv.join("bin")).unwrap();
    let ran =
        run(&cli, &["--python-venv".as_ref(), venv.as_ref(), "bash".as_ref(), "true".as_ref()]);
    assert!(text(&ran.stderr).contains("contains a colon"), "{}", text(&ran.stderr));
}

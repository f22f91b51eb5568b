//! `policy explain` and `policy check` for the command `sandbox`: they agree with the kernel.

use std::process::{Command, Output};

use testkit::{as_ordinary_user, skipped};

/// A working directory below `/tmp`, with a file of settings outside it.
struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("work/a")).unwrap();
        std::fs::create_dir_all(root.path().join("work/b")).unwrap();
        Self { root }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.root.path().canonicalize().unwrap().join("work")
    }

    fn set(&self, lists: &str) {
        let text = format!(
            r#"{{"network":{{"allowedDomains":[],"deniedDomains":[]}},"filesystem":{{{lists}}}}}"#
        );
        std::fs::write(self.root.path().join("settings.json"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_agent-tools"))
            .args(arguments)
            .current_dir(self.dir())
            .env("HOME", self.root.path())
            .output()
            .unwrap();
        outcome(&output)
    }

    fn explain(&self, options: &[&str], path: &str) -> String {
        let arguments = [options, &["policy", "explain", "--settings", "../settings.json", path]];
        let (code, stdout, stderr) = self.run(&arguments.concat());
        assert_eq!(code, 0, "{stderr}");
        stdout
    }

    /// Returns whether a command can write to a path, which it then changes.
    fn writes(&self, options: &[&str], path: &str) -> bool {
        let script = format!("echo x >> {path}");
        let arguments = [options, &["sandbox", "-s", "../settings.json", "-c", &script]];
        self.run(&arguments.concat()).0 == 0
    }
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn is_allowed(explained: &str, access: &str) -> bool {
    explained.contains(&format!("  {access}: allowed: "))
}

fn has_namespaces() -> bool {
    let usable = std::process::Command::new(env!("CARGO_BIN_EXE_agent-tools"))
        .args(["sandbox", "--", "true"])
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    usable.status.success()
}

#[test]
fn a_path_to_come_is_writable_exactly_if_the_kernel_lets_it_be_created() {
    if !has_namespaces() {
        return skipped("explanations of the native engine", "user namespaces");
    }
    let fixture = Fixture::new();
    for (entries, path, is_writable) in [
        (r#""*""#, "./top", false),
        (r#""a","*/y*""#, "./b/yy", false),
        (r#""a","*/y*""#, "./a/yy", true),
        (r#""notyet""#, "./notyet", false),
        (r#"".""#, "./notyet", true),
    ] {
        fixture.set(&format!(r#""denyRead":[],"allowWrite":[{entries}],"denyWrite":[]"#));
        let explained = fixture.explain(&[], path);
        assert_eq!(is_allowed(&explained, "write"), is_writable, "{explained}");
        assert_eq!(fixture.writes(&[], path), is_writable, "{path}");
        if is_writable {
            std::fs::remove_file(fixture.dir().join(path)).unwrap();
            continue;
        }
        assert!(explained.contains("it does not exist yet"), "{explained}");
        // The remedy works.
        let rest = explained.split_once("create ").unwrap().1;
        let created = rest.split_once(" and add it to filesystem.allowWrite").unwrap().0;
        std::fs::write(created, "").unwrap();
        fixture.set(&format!(r#""denyRead":[],"allowWrite":["{created}"],"denyWrite":[]"#));
        assert!(fixture.writes(&[], path), "{path}");
        std::fs::remove_file(fixture.dir().join(path)).unwrap();
    }
}

#[test]
fn a_writable_root_includes_a_working_directory_below_tmp() {
    if !has_namespaces() {
        return skipped("a writable root", "user namespaces");
    }
    let fixture = Fixture::new();
    fixture.set(r#""denyRead":[],"allowWrite":["/"],"denyWrite":[]"#);
    assert!(fixture.writes(&[], "./f"));
}

#[test]
fn rules_inside_a_writable_directory_are_explained_as_the_landlock_tier_enforces_them() {
    const LANDLOCK: &[&str] = &["--engine", "landlock", "--accept", "inner-rules"];
    let fixture = Fixture::new();
    for name in [".git", ".git/objects", ".git/refs", "sub"] {
        std::fs::create_dir(fixture.dir().join(name)).unwrap();
    }
    for (name, content) in [(".git/HEAD", "ref: refs/heads/main\n"), (".git/config", ""), ("h", "")]
    {
        std::fs::write(fixture.dir().join(name), content).unwrap();
    }
    fixture.set(r#""denyRead":["./h"],"allowWrite":["."],"denyWrite":["./later"]"#);
    if fixture.run(&[LANDLOCK, &["sandbox", "-s", "../settings.json", "true"]].concat()).0 != 0 {
        return skipped("explanations of the Landlock tier", "Linux 6.2 with Landlock");
    }
    for path in ["./.git/config", "./h", "./.git/hooks", "./later", "./sub/f"] {
        let explained = fixture.explain(LANDLOCK, path);
        let is_writable = fixture.writes(LANDLOCK, path);
        assert_eq!(is_allowed(&explained, "write"), is_writable, "{explained}");
    }
}

#[test]
fn a_file_of_the_host_below_tmp_is_hidden_from_a_session() {
    if !has_namespaces() {
        return skipped("a private /tmp", "user namespaces");
    }
    let fixture = Fixture::new();
    let file = fixture.root.path().join("host-file");
    std::fs::write(&file, "x").unwrap();
    let path = file.to_str().unwrap();
    let (_, explained, _) = fixture.run(&["policy", "explain", path]);
    let hidden = "read: denied: hidden: each session has its own /tmp\n";
    assert!(explained.contains(hidden), "{explained}");
    assert!(explained.contains(&format!("use --allow-read {path}")), "{explained}");
    let (_, explained, _) = fixture.run(&["policy", "explain", &format!("{path}-absent")]);
    assert!(is_allowed(&explained, "write"), "{explained}");
}

#[test]
fn settings_that_hide_the_shell_are_refused_with_a_remedy_that_works() {
    let fixture = Fixture::new();
    for engine in ["native", "landlock"] {
        let mut shown = vec!["/usr/share".to_owned()];
        let sandbox = ["--engine", engine, "sandbox", "-s", "../settings.json", "true"];
        fixture.set(r#""denyRead":[],"allowWrite":[],"denyWrite":[]"#);
        if fixture.run(&sandbox).0 != 0 {
            skipped("settings that hide the shell", "this engine");
            continue;
        }
        // One remedy names all that is needed.
        for _ in 0..2 {
            let list = format!("\"{}\"", shown.join("\",\""));
            fixture.set(&format!(
                r#""denyRead":["/usr"],"allowRead":[{list}],"allowWrite":[],"denyWrite":[]"#
            ));
            let (code, _, stderr) = fixture.run(&sandbox);
            let checked = fixture.run(&["--engine", engine, "policy", "check", "../settings.json"]);
            if code == 0 {
                assert_eq!(checked.0, 0, "{}", checked.2);
                break;
            }
            assert_eq!((code, checked.0, &checked.2), (125, 1, &stderr));
            assert!(stderr.contains(": denyRead has /usr; use --allow-read "), "{stderr}");
            let (_, remedy) = stderr.split_once("; use --allow-read ").unwrap();
            let dirs = remedy.split_once(" (filesystem.allowRead in settings)").unwrap().0;
            shown.extend(dirs.split(" --allow-read ").map(str::to_owned));
        }
        assert_eq!(fixture.run(&sandbox).0, 0, "{engine}: {shown:?}");
    }
}

#[test]
fn the_permissions_of_the_host_are_the_reason_if_they_deny_an_access() {
    let fixture = Fixture::new();
    // Every user can execute the copy.
    let program = fixture.root.path().join("agent-tools");
    std::fs::copy(env!("CARGO_BIN_EXE_agent-tools"), &program).unwrap();
    let home = fixture.root.path().join("home");
    for dir in [fixture.root.path().to_owned(), home.clone()] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut command = as_ordinary_user(&program);
        command.args(["--home", home.to_str().unwrap()]).args(arguments).current_dir("/");
        outcome(&command.env("HOME", &home).output().unwrap())
    };
    if !rustix::process::geteuid().is_root() || run(&["policy", "show"]).0 != 0 {
        return skipped("a file of root", "root, and setpriv");
    }
    let (_, explained, _) =
        run(&["policy", "explain", "--allow-read", "/etc/shadow", "/etc/shadow"]);
    let reason = "the permissions of the host deny it to this user";
    assert!(explained.contains(&format!("read: denied: {reason}\n")), "{explained}");
    let (_, _, stderr) = run(&["bash", "--allow-read", "/etc/shadow", "head -c 4 /etc/shadow"]);
    assert!(stderr.contains(&format!("read /etc/shadow: {reason}")), "{stderr}");
}

#[test]
fn rules_for_what_a_session_has_of_its_own_are_reported_and_explained() {
    let fixture = Fixture::new();
    fixture.set(
        r#""denyRead":["/dev/urandom","/dev/shm"],
           "allowWrite":["/dev/null","/dev/tty1","/proc/self","."],"denyWrite":["/proc/self/fd"]"#,
    );
    let (code, stdout, stderr) = fixture.run(&["policy", "check", "../settings.json"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let expected = [
        "filesystem.denyRead[0]",
        "filesystem.denyRead[1]",
        "filesystem.allowWrite[1]",
        "filesystem.allowWrite[2]",
        "filesystem.denyWrite[0]",
    ];
    let paths: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("warning[unenforced]: ")?.split(": ").next())
        .collect();
    assert_eq!(paths, expected, "{stdout}");
    for path in ["/dev/urandom", "/dev/shm/f", "/dev/null", "/dev/tty1", "/proc/self/comm"] {
        let explained = fixture.explain(&[], path);
        let is_writable = explained.contains("write: allowed");
        assert_eq!(is_writable, fixture.writes(&[], path), "{explained}");
        let script = format!("head -c 1 {path}; test -r {path}");
        let read = ["sandbox", "-s", "../settings.json", "-c", &script];
        let is_readable = path == "/dev/shm/f" || fixture.run(&read).0 == 0;
        assert_eq!(explained.contains("read: allowed"), is_readable, "{explained}");
    }
}

#[test]
fn the_root_and_the_working_directory_of_a_process_are_those_of_the_session() {
    let fixture = Fixture::new();
    fixture.set(r#""denyRead":["/etc/passwd"],"allowWrite":["a"],"denyWrite":[]"#);
    for path in [
        "/proc/self/root/etc/passwd",
        "/proc/self/root/etc/group",
        "/proc/self/root/dev/null",
        "/proc/self/cwd/a/f",
        "/proc/self/cwd/b/f",
    ] {
        let explained = fixture.explain(&[], path);
        let is_writable = explained.contains("write: allowed");
        assert_eq!(is_writable, fixture.writes(&[], path), "{path}: {explained}");
    }
    let explained = fixture.explain(&[], "/proc/self/root/etc/passwd");
    assert!(explained.contains("read: denied: denyRead has /etc/passwd"), "{explained}");
}

#[test]
fn a_finding_about_an_entry_in_the_home_directory_has_its_place() {
    let fixture = Fixture::new();
    fixture.set(r#""denyRead":["/etc/shadow","~/absent"],"allowWrite":[],"denyWrite":[]"#);
    let (_, stdout, _) = fixture.run(&["--json", "policy", "check", "../settings.json"]);
    assert!(stdout.contains(r#""pointer":"/filesystem/denyRead/1""#), "{stdout}");
}

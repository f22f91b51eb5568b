//! Permissions and sizes of copies.

use std::fs::{File, Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use super::Cli;

#[test]
fn a_copy_keeps_what_only_its_owner_may_enter() {
    let cli = Cli::new();
    cli.run(&["bash", "mkdir -p src/priv; echo a > src/priv/a; chmod 444 src/priv/a"]).ok();
    cli.run(&["bash", "chmod 700 src/priv; mkdir own; chmod 700 own"]).ok();
    cli.run(&["cp", ":src", "out"]).ok();
    cli.run(&["cp", ":own", "mine"]).ok();
    let mode = |name: &str| cli.dir().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("out/priv"), mode("out/priv/a"), mode("mine")), (0o700, 0o444, 0o700));
    // Into a session, too.
    set_permissions(cli.dir().join("out/priv"), Permissions::from_mode(0o750)).unwrap();
    cli.run(&["cp", "out", ":back"]).ok();
    assert_eq!(cli.run(&["bash", "stat -c %a back/priv"]).ok().stdout, "750\n");
}

#[test]
fn a_copy_that_is_too_large_is_refused_before_it_begins() {
    let cli = Cli::new();
    File::create(cli.dir().join("sparse")).unwrap().set_len(70 << 30).unwrap();
    let refused = cli.run(&["cp", "sparse", ":sparse"]);
    let expected = "sparse: that would be 75161927680 bytes, and 68719476736 are the most";
    assert!(refused.code == 1 && refused.stderr.contains(expected), "{}", refused.stderr);
    cli.run(&["bash", "truncate -s 33M large"]).ok();
    for verb in ["read-file", "cat"] {
        let refused = cli.run(&["--json", verb, "large"]).json();
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("without --json, a file may have any size"), "{error}");
    }
}

#[test]
fn copies_have_the_modes_of_the_session() {
    let cli = Cli::new();
    cli.run(&[
        "bash",
        "mkdir -m 755 d; mkdir -m 700 p; for f in 600 755; do > $f; chmod $f $f; done",
    ])
    .ok();
    for (name, mode) in [("d", 0o755), ("p", 0o700), ("600", 0o600), ("755", 0o755)] {
        cli.run(&["cp", &format!(":{name}"), "copied"]).ok();
        let copied = cli.dir().join("copied");
        assert_eq!(copied.metadata().unwrap().permissions().mode() & 0o777, mode, "{name}");
        if name.starts_with(['d', 'p']) {
            std::fs::remove_dir(copied).unwrap();
        } else {
            std::fs::remove_file(copied).unwrap();
        }
    }
}

#[test]
fn a_copy_to_a_path_of_the_system_names_the_place_in_the_session() {
    let cli = Cli::new();
    cli.write("conf", "x");
    let copied = cli.run(&["cp", "conf", ":/etc/conf"]).ok();
    assert_eq!(copied.stdout, "/etc/conf\n");
    let note = "/sessions/default/etc/conf for this tool: it cannot reach files of the system";
    assert!(copied.stderr.contains(note), "{}", copied.stderr);
    assert_eq!(cli.run(&["cp", "conf", ":etc/other"]).ok().stderr, "");
    let json = cli.run(&["cp", "--json", "conf", ":/etc/conf"]).ok().json();
    assert!(json["note"].as_str().is_some_and(|note| copied.stderr.contains(note)), "{json}");
    let refused = cli.run(&["cp", "conf", ":etc/conf/"]);
    assert_eq!(
        (refused.code, &*refused.stderr),
        (1, "agent-tools: etc/conf/ is not a directory\n")
    );
    let empty = cli.run(&["cp", "", ":x"]);
    assert!(empty.code == 2 && empty.stderr.contains("a path is empty"), "{}", empty.stderr);
    let missing = cli.run(&["cp", ":/etc/os-release", "."]);
    let command = "`cat /etc/os-release` reads the one of the system";
    assert!(missing.code == 1 && missing.stderr.contains(command), "{}", missing.stderr);
}

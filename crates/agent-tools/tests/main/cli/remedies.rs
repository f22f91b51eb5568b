//! Each remedy of a hint works if it is followed to the letter.

use std::path::Path;
use std::process::Command;

use super::{Cli, Ran};

/// Runs `agent-tools bash` with options as a shell reads them.
pub(crate) fn bash(cli: &Cli, options: &str, script: &str) -> Ran {
    let command = cli.command(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" bash {options} -- \"$1\"")]);
    shell.arg(command.get_program()).arg(script).env_clear().current_dir(cli.dir());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap();
    Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs a script that fails, and returns the remedy of its only hint.
#[track_caller]
pub(crate) fn remedy(cli: &Cli, options: &str, script: &str) -> String {
    let failed = bash(cli, options, script);
    let mut hints = failed.stderr.lines().filter(|line| line.starts_with("hint: "));
    let hint = hints.next().unwrap_or_else(|| panic!("{script}: {}", failed.stderr));
    assert_eq!(hints.next(), None, "{script}");
    hint.split_once("; ").unwrap_or_else(|| panic!("{hint}")).1.to_owned()
}

/// Returns the option of a remedy: `use OPTION (SETTING)`.
fn option(remedy: &str) -> &str {
    let option = remedy.split_once("use ").unwrap().1.split(" (filesystem.").next().unwrap();
    option.split(", and create ").next().unwrap()
}

#[test]
fn the_options_that_open_a_path_work_as_a_shell_reads_them() {
    // Sessions see no home directories, and have a /tmp and a /var/tmp of their own.
    let outside = std::env::home_dir().and_then(|home| tempfile::tempdir_in(home).ok());
    let Some(outside) = outside else {
        return testkit::skipped("the options that open a path", "a home directory");
    };
    let cli = Cli::new();
    let dir = outside.path().canonicalize().unwrap().join("it's here");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("d.txt"), "data\n").unwrap();
    let inside = |name: &str| format!("\"{}/{name}\"", dir.display());

    let read = format!("cat {}", inside("d.txt"));
    let opened = remedy(&cli, "", &read);
    assert_eq!(bash(&cli, option(&opened), &read).ok().stdout, "data\n", "{opened}");

    let hidden = format!("echo x > {}", inside("hidden"));
    let opened = remedy(&cli, "", &hidden);
    assert!(opened.contains("and create ") && opened.contains("before if it does not exist"));
    std::fs::write(dir.join("hidden"), "").unwrap();
    bash(&cli, option(&opened), &hidden).ok();
    assert_eq!(std::fs::read_to_string(dir.join("hidden")).unwrap(), "x\n", "{opened}");

    let shown = format!("--allow-read {}", inside(""));
    let new = format!("echo x > {}", inside("new"));
    let opened = remedy(&cli, &shown, &new);
    assert!(opened.starts_with("create "), "{opened}");
    std::fs::write(dir.join("new"), "").unwrap();
    bash(&cli, &format!("{shown} {}", option(&opened)), &new).ok();

    let skills = "mkdir -p skills && echo x > skills/x";
    let opened = remedy(&cli, "--read-only-skills", "mkdir skills");
    assert!(opened.starts_with("leave out --read-only-skills, or remove "), "{opened}");
    bash(&cli, "", skills).ok();
}

#[test]
fn a_protected_name_is_explained_although_the_kernel_calls_it_busy() {
    let cli = Cli::new();
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    let dir = outside.path().canonicalize().unwrap().join("repo");
    let init = Command::new("git").args(["init", "-q"]).arg(&dir).status().unwrap();
    assert!(init.success());
    let options = format!("--allow-write {}", dir.display());
    let at = |script: &str| format!("cd {} && {script}", dir.display());

    let configure = at("git config a.b c");
    let opened = remedy(&cli, &options, &configure);
    let expected = "save the output of `agent-tools policy show` as a file, set \
                    filesystem.allowGitConfig to true in it, and use --policy with the file";
    assert_eq!(opened, expected);
    let mut policy = cli.run(&["policy", "show"]).ok().json();
    policy["filesystem"]["allowGitConfig"] = true.into();
    let file = cli.write("policy.json", &policy.to_string());
    let options_with_policy = format!("{options} --policy {}", file.display());
    bash(&cli, &options_with_policy, &configure).ok();
    assert_eq!(git_value(&dir), "c\n");

    // For other names there is no way, and so no remedy.
    for script in ["mv .git g", "rm -f .git/hooks/x; echo x > .git/hooks/x", "echo x > .bashrc"] {
        let refused = bash(&cli, &options, &at(script)).stderr;
        let hint = refused.lines().find(|line| line.starts_with("hint: write ")).unwrap();
        assert!(hint.ends_with(" is always protected from writing"), "{script}: {refused}");
    }
}

fn git_value(dir: &Path) -> String {
    let output = Command::new("git").arg("-C").arg(dir).args(["config", "a.b"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

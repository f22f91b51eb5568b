//! Repositories of the user: no command can make a later git of the user, on the host, run a
//! program, load configuration, or write outside the repository.

mod refs;
mod sequences;
mod vectors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use policy::Policy;
use sandbox_core::{CommandOutput, CommandStatus, NativeSandbox, Sandbox, SessionDir};
use testkit::{rerun_as_ordinary_user, skipped};

use crate::fixture::{spec, without_namespaces};
use sequences::{RACE, SEQUENCES};
use vectors::{EFFECTIVE, REFUSED, SETUP, TOOLS, WORK};

/// Commands that the user runs on the host, until one of them does harm.
const HOST_COMMANDS: &str = "safe() { [ ! -e CANARY ] && [ \"$(< VICTIM)\" = safe ]; }
    git status; safe && git log -1; safe && git fetch -q; safe && git diff
    if safe && [ -e .git/MERGE_RR ]; then echo z > z; git add z; git commit -q -m z; git status; fi
    if safe && [[ $(< .git/refs/heads/main) == ref:* ]]; then git reset -q --hard origin/main; fi
    safe && git checkout -q . && git status; git branch -q new
    safe && git checkout -q other; safe && git checkout -q main
    safe && git commit -q --allow-empty -m work
    if safe && [ -e .git/rebase-merge ]; then git rebase --continue; fi
    safe && git push -q . HEAD:refs/heads/pushed";

/// Directories of one user: `user` is writable in the sandbox, and `home` and `victim` are not.
struct Host {
    _temporary: tempfile::TempDir,
    root: PathBuf,
    session: PathBuf,
}

impl Host {
    fn new() -> Option<Self> {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let session = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
        fs::create_dir(root.join("home")).unwrap();
        fs::create_dir_all(root.join("git-template/hooks")).unwrap();
        fs::create_dir_all(root.join("git-template/info")).unwrap();
        let config = "[user]\nname = Ann\nemail = ann@example.com\n[init]\ndefaultBranch = main\n\
                      [protocol \"file\"]\nallow = always\n[core]\neditor = true\n\
                      [gc]\nautoDetach = false\n[maintenance]\nautoDetach = false\n";
        let template = format!("[init]\ntemplateDir = {}\n", root.join("git-template").display());
        fs::write(root.join("home/.gitconfig"), config.to_owned() + &template).unwrap();
        let host = Self { _temporary: temporary, root, session };
        if !host.bash("git --version", &host.root) {
            return None;
        }
        assert!(host.bash(SETUP, &host.root));
        Some(host)
    }

    /// Runs a script as the user, and returns whether it succeeded.
    fn bash(&self, script: &str, dir: &Path) -> bool {
        let script = self.with_paths(script);
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir(dir).env_clear();
        bash.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.root.join("home"));
        bash.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        bash.status().unwrap().success()
    }

    fn with_paths(&self, script: &str) -> String {
        script
            .replace("CANARY", self.canary().to_str().unwrap())
            .replace("VICTIM", self.victim().to_str().unwrap())
    }

    fn victim(&self) -> PathBuf {
        self.root.join("victim")
    }

    fn canary(&self) -> PathBuf {
        self.root.join("canary")
    }

    /// Restores the repositories.
    fn reset(&self) {
        let _ = fs::remove_file(self.canary());
        let restore =
            "chmod -R u+rwx user; rm -rf user && cp -a template user && echo safe > victim";
        assert!(self.bash(restore, &self.root));
    }

    /// Runs the user's git in a directory. Returns whether a program of the agent ran, or whether
    /// git has written outside the repositories.
    fn is_harmed(&self, dir: &str) -> bool {
        self.bash(HOST_COMMANDS, &self.root.join("user").join(dir));
        self.has_acted()
    }

    fn has_acted(&self) -> bool {
        self.canary().exists() || fs::read_to_string(self.victim()).unwrap() != "safe\n"
    }

    fn sandbox(&self) -> NativeSandbox {
        self.sandbox_that_writes("user")
    }

    fn sandbox_that_writes(&self, path: &str) -> NativeSandbox {
        let policy = Policy::session(&self.session)
            .home(&self.root.join("home"))
            .allow_write(&self.root.join(path))
            .build()
            .unwrap();
        NativeSandbox::builder(&policy, self.root.join("user")).open().unwrap()
    }

    async fn run(&self, sandbox: &NativeSandbox, script: &str) -> CommandOutput {
        let mut spec = spec(&self.with_paths(&format!("{TOOLS}\n{script}")));
        spec.env.push(("HOME".into(), self.session.clone().into()));
        sandbox.exec(spec).await.unwrap()
    }
}

fn host() -> Option<Host> {
    if without_namespaces() {
        return None;
    }
    let host = Host::new();
    if host.is_none() {
        skipped("repositories of the user", "package git");
    }
    host
}

#[tokio::test]
async fn nothing_that_a_command_writes_makes_the_users_git_act_for_it() {
    let Some(host) = host() else { return };
    let mut wrong = Vec::new();
    for (name, dir, script) in EFFECTIVE {
        host.reset();
        let sandbox = host.sandbox();
        host.run(&sandbox, script).await;
        // A second command benefits from the files of the first one.
        host.run(&sandbox, script).await;
        sandbox.close().await;
        if host.is_harmed(dir) {
            wrong.push(format!("{name}: the user's git acted for the agent"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_sandbox_the_users_git_acts_for_the_agent() {
    let Some(host) = host() else { return };
    let mut wrong = Vec::new();
    for (name, dir, script) in EFFECTIVE {
        host.reset();
        host.bash(&format!("{TOOLS}\n{script}"), &host.root.join("user"));
        if !host.is_harmed(dir) {
            wrong.push(format!("{name}: does not work on the host either"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn no_sequence_of_sandboxes_makes_the_users_git_act_for_them() {
    let Some(host) = host() else { return };
    let mut wrong = Vec::new();
    for sequence in SEQUENCES {
        host.reset();
        let user = host.root.join("user");
        assert!(host.bash(sequence.setup, &user), "{}", sequence.name);
        for script in sequence.attack {
            let sandbox = host.sandbox();
            host.run(&sandbox, script).await;
            sandbox.close().await;
        }
        host.bash(sequence.user, &user);
        if host.has_acted() {
            wrong.push(format!("{}: the user's git acted for the agent", sequence.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_sandbox_each_sequence_makes_the_users_git_act() {
    let Some(host) = host() else { return };
    let mut wrong = Vec::new();
    for sequence in SEQUENCES {
        host.reset();
        let user = host.root.join("user");
        assert!(host.bash(sequence.setup, &user), "{}", sequence.name);
        for script in sequence.attack {
            host.bash(&format!("{TOOLS}\n{script}"), &user);
        }
        host.bash(sequence.user, &user);
        if !host.has_acted() {
            wrong.push(format!("{}: does not work on the host either", sequence.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_link_of_a_won_race_is_quarantined_below_node_modules_too() {
    let Some(host) = host() else { return };
    host.reset();
    let user = host.root.join("user");
    assert!(host.bash("git -C checkout branch node_modules/x", &user));
    let log = ".git/logs/refs/heads/node_modules/x";
    let race = format!("evil = '{log}'\n{RACE}");
    fs::write(user.join("race.py"), host.with_paths(&race)).unwrap();
    let script = format!(
        "cd checkout; command -v python3 >/dev/null || exit 9; rm {log}; \
             git symbolic-ref HEAD refs/heads/node_modules/x; python3 ../race.py"
    );
    let ran = host.run(&host.sandbox(), &script).await;
    if ran.status == CommandStatus::Exited(9) {
        return skipped("a race for a link", "package python3");
    }
    let has_won = String::from_utf8_lossy(&ran.stdout.bytes).contains("won");
    let mut found = ran.quarantined.iter().map(|file| file.path.clone());
    assert_eq!(found.any(|path| path.ends_with(log)), has_won, "{ran:?}");
    host.bash("cd checkout; git commit -q --allow-empty -m x", &user);
    assert!(!host.has_acted(), "{ran:?}");
}

#[tokio::test]
async fn a_repository_that_evades_the_denial_is_quarantined_after_the_command() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    // Init sees the name of the link, and the kernel creates the file that it leads to.
    let steps = [
        ("mkdir checkout/s && ln -s .git checkout/s/l && echo gitdir: ../x > checkout/s/l", true),
        ("mkdir checkout/n && ln -s HEAD checkout/n/l && echo ref: x > checkout/n/l", false),
        ("mkdir checkout/n/objects checkout/n/refs", true),
        ("cd checkout && rm -r s n && echo y >> src/f && commit -a -m x && git gc -q", false),
    ];
    let mut found = Vec::new();
    for (step, is_quarantined) in steps {
        let ran = host.run(&sandbox, step).await;
        assert_eq!(ran.status, CommandStatus::Exited(0), "{step}: {ran:?}");
        assert_eq!(!ran.quarantined.is_empty(), is_quarantined, "{step}: {ran:?}");
        assert!(ran.sandbox_ended.is_none(), "{step}: {ran:?}");
        found.extend(ran.quarantined.into_iter().map(|entry| entry.path));
    }
    let checkout = host.root.join("user/checkout");
    assert_eq!(found, [checkout.join("s/.git"), checkout.join("n/HEAD")]);
}

#[tokio::test]
async fn a_bare_repository_without_its_head_is_not_completed_by_a_later_session() {
    let Some(host) = host() else { return };
    host.reset();
    let steps = [
        ("mv bare.git/HEAD bare.git/H", CommandStatus::Exited(0)),
        ("mv bare.git/H bare.git/HEAD", CommandStatus::Exited(1)),
    ];
    for (step, status) in steps {
        let sandbox = host.sandbox();
        assert_eq!(host.run(&sandbox, step).await.status, status, "{step}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn an_index_that_a_killed_host_left_is_quarantined_after_the_next_command() {
    let Some(host) = host() else { return };
    host.reset();
    let bad = "cd checkout; entry 100644 .git/config $(git rev-parse HEAD:file)";
    assert!(host.bash(&format!("{TOOLS}\n{bad}"), &host.root.join("user")));
    let ran = host.run(&host.sandbox(), "true").await;
    let index = host.root.join("user/checkout/.git/index");
    assert_eq!(ran.quarantined.first().map(|found| &found.path), Some(&index), "{ran:?}");
}

#[tokio::test]
async fn an_index_that_leads_out_of_its_work_tree_is_quarantined_with_the_reason() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    let git = host.root.join("user/checkout/.git");
    for (script, name) in [
        ("nested e; cd checkout; entry 160000 ../e $(git -C ../e rev-parse HEAD)", "index"),
        ("cd checkout; entry 100644 .git/config $(git rev-parse HEAD:file)", "index"),
        ("cd checkout; git read-tree HEAD; echo broken > .git/index", "index"),
        ("cd checkout; git update-index --split-index; echo > .git/sharedindex.*", "index"),
    ] {
        let ran = host.run(&sandbox, script).await;
        let found = ran.quarantined.iter().find(|file| file.path == git.join(name));
        let found = found.unwrap_or_else(|| panic!("{script}: {ran:?}"));
        assert!(found.reason.is_some() && found.moved_to.is_some(), "{script}: {ran:?}");
        assert!(ran.sandbox_ended.is_none(), "{script}: {ran:?}");
        // Git builds the index again from the last commit.
        let again = host.run(&sandbox, "cd checkout && git reset -q && git status").await;
        assert_eq!(again.status, CommandStatus::Exited(0), "{script}: {again:?}");
        assert!(again.quarantined.is_empty(), "{script}: {again:?}");
    }
}

#[tokio::test]
async fn names_that_lead_git_elsewhere_cannot_be_written() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    for script in REFUSED {
        let ran = host.run(&sandbox, script).await;
        assert_ne!(ran.status, CommandStatus::Exited(0), "{script}");
    }
    assert!(!host.is_harmed("checkout"));
}

#[tokio::test]
async fn a_directory_that_looks_like_a_repository_hides_no_protected_name() {
    let Some(host) = host() else { return };
    host.reset();
    let create = "mkdir -p user/plain/sub; echo safe > user/plain/.bashrc; \
                  echo safe > user/plain/sub/.mcp.json";
    assert!(host.bash(create, &host.root));
    let sandbox = host.sandbox();
    let disguise = "cd plain && mkdir objects refs && echo 'ref: refs/heads/main' > HEAD";
    host.run(&sandbox, disguise).await;
    // The next sandbox searches again.
    for sandbox in [sandbox, host.sandbox()] {
        for file in ["plain/.bashrc", "plain/sub/.mcp.json"] {
            let ran = host.run(&sandbox, &format!("echo evil > {file}")).await;
            assert_ne!(ran.status, CommandStatus::Exited(0), "{file}: {ran:?}");
            let path = host.root.join("user").join(file);
            assert_eq!(fs::read_to_string(path).unwrap(), "safe\n", "{file}");
        }
    }
}

#[tokio::test]
async fn ordinary_work_in_a_repository_of_the_user_succeeds() {
    let Some(host) = host() else { return };
    host.reset();
    let sandbox = host.sandbox();
    for script in WORK {
        let ran = host.run(&sandbox, script).await;
        assert_eq!(ran.status, CommandStatus::Exited(0), "{script}: {ran:?}");
        assert!(ran.quarantined.is_empty(), "{script}: {ran:?}");
    }
    assert!(host.bash("test -f user/made/.git/HEAD", &host.root));
}

#[tokio::test]
async fn work_succeeds_where_only_the_git_directory_is_writable() {
    let Some(host) = host() else { return };
    host.reset();
    for git_dir in ["user/checkout/.git", "user/checkout"] {
        let sandbox = host.sandbox_that_writes(git_dir);
        let script = "cd checkout && commit --allow-empty -m x && git branch b && git branch -D b";
        let ran = host.run(&sandbox, script).await;
        assert_eq!(ran.status, CommandStatus::Exited(0), "{git_dir}: {ran:?}");
        for name in ["config", "hooks/pre-commit", "commondir", "logs/objects", "modules"] {
            let ran = host.run(&sandbox, &format!("echo x > checkout/.git/{name}")).await;
            let is_log = name.starts_with("logs");
            assert_eq!(ran.status == CommandStatus::Exited(0), is_log, "{git_dir}: {name}");
        }
    }
}

#[test]
fn an_ordinary_users_repositories_are_safe_too() {
    if rustix::process::geteuid().is_root() && !without_namespaces() {
        let what = "repositories of an ordinary user";
        for test in [
            "git::nothing_that_a_command_writes_makes_the_users_git_act_for_it",
            "git::no_sequence_of_sandboxes_makes_the_users_git_act_for_them",
            "git::names_that_lead_git_elsewhere_cannot_be_written",
            "git::a_repository_that_evades_the_denial_is_quarantined_after_the_command",
            "git::an_index_that_leads_out_of_its_work_tree_is_quarantined_with_the_reason",
            "git::ordinary_work_in_a_repository_of_the_user_succeeds",
        ] {
            rerun_as_ordinary_user(test, what);
        }
    }
}

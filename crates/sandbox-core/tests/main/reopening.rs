//! Files, links and repositories by which a command tries to make a session impossible to open, or
//! unable to run or write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use policy::{PathEntry, Policy, SandboxRuntimeConfig};
use sandbox_core::{NativeSandbox, OpenError, Sandbox, SessionDir, Tier, Weakness};
use testkit::{rerun_as_ordinary_user, skipped};

use crate::creation::works;
use crate::fixture::{open, without_namespaces};

/// Commands in a directory of the user. `OWN` is the session directory, and the policy hides
/// `x.pem` wherever it is.
const TRAPS: [&str; 31] = [
    // Links with a name that is hidden.
    "ln -s / x.pem",
    "ln -s . x.pem",
    "ln -s .. x.pem",
    "mkdir d; ln -s .. d/x.pem; ln -s ../.. d/.x.pem",
    "ln -s OWN x.pem",
    "ln -s /usr x.pem; mkdir e; ln -s /etc e/x.pem; mkdir f; ln -s /bin/bash f/x.pem",
    "ln -s /proc/self/cwd x.pem",
    "ln -s /proc/self/fd/0 x.pem; mkdir d; ln -s /proc d/x.pem",
    "ln -s /dev/null x.pem; mkdir d; ln -s /dev d/x.pem; mkdir e; ln -s /tmp e/x.pem",
    "ln -s x.pem x.pem; mkdir d; ln -s ../x.pem d/x.pem",
    "ln -s a b; ln -s b a; ln -s a x.pem",
    "ln -s $(printf %4095s | tr ' ' x) x.pem",
    "ln -s $(printf %2040s | sed 's: :x/:g') x.pem; mkdir d; ln -s /nowhere/at/all d/x.pem",
    "mkfifo x.pem; mkdir d; perl -MSocket -e \
     'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un(q(d/x.pem)))'",
    "ln -s /root x.pem; mkdir d; ln -s /root/no d/x.pem; mkdir e; ln -s HIDDEN/no e/x.pem",
    "mkdir -p closed/in d; ln -s ../closed/in d/x.pem; chmod 000 closed",
    // Links with a name that is protected.
    "mkdir d; ln -s .. d/.vscode",
    "mkdir d; ln -s / d/.idea; ln -s OWN d/.bashrc",
    "mkdir d; ln -s ../.. d/.claude; ln -s /proc/self/root d/.mcp.json; ln -s /root/x d/.zshrc",
    // Repositories whose configuration names what the session needs.
    "git init -q r; git -C r config core.hooksPath .",
    "git init -q r; git -C r config core.hooksPath ..",
    "git init -q r; git -C r config core.hooksPath /",
    "git init -q r; git -C r config core.hooksPath OWN",
    "git init -q r; git -C r config core.hooksPath OWN/_; mkdir -p OWN/_",
    "git init -q r; git -C r config include.path ..; git -C r config --add include.path ../..; \
     git -C r config --add include.path OWN",
    "git init -q r; git -C r config init.templateDir OWN; git -C r config alias.x '!OWN/x'",
    "git init -q r; git -C r config core.worktree /; git -C r config core.attributesFile OWN; \
     git -C r config core.excludesFile ..; git -C r config remote.o.url ..",
    // Pointers that take the directory around for a repository.
    "mkdir d; echo 'gitdir: ..' > d/.git; mkdir e; ln -s .. e/.git; mkdir f; ln -s / f/.git",
    "mkdir -p r/.git/objects/info r/.git/refs; echo ref: refs/heads/x > r/.git/HEAD; \
     echo ../.. > r/.git/commondir; echo ../.. > r/.git/gitdir; \
     echo .. > r/.git/objects/info/alternates",
    "mkdir -p r/.git/objects r/.git/refs; touch r/.git/HEAD; ln -s / r/.git/modules; \
     ln -s .. r/.git/worktrees; ln -s ../.. r/.git/hooks; ln -s OWN r/.git/config",
    "mkdir -p r/.git/objects r/.git/refs; ln -s .. r/.git/HEAD; ln -s / r/.git/commondir",
];

/// A session whose user has made a directory writable, and has keys in it and elsewhere.
struct User {
    _temporary: tempfile::TempDir,
    root: PathBuf,
    dir: PathBuf,
    policy: Policy,
}

impl User {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let dir = SessionDir::create(&root.join("sessions/s1")).unwrap().path().to_owned();
        let work = root.join("work");
        for dir in ["work/keys", "work/config", "keys", "closed"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for key in ["work/keys/inner", "keys/outer"] {
            fs::write(root.join(key), "secret").unwrap();
        }
        let hidden = [work.join("inner.pem"), work.join("outer.pem")];
        symlink("keys/inner", &hidden[0]).unwrap();
        symlink("../keys/outer", &hidden[1]).unwrap();
        let mut config = SandboxRuntimeConfig::default();
        let mut deny_read: Vec<PathEntry> =
            hidden.iter().map(|path| path.as_path().into()).collect();
        deny_read.push(format!("{}/**/x.pem", work.display()).as_str().into());
        deny_read.push(work.join("x.pem").as_path().into());
        config.filesystem.deny_read = deny_read;
        config.filesystem.allow_write = vec![work.as_path().into()];
        let policy = Policy::custom(&dir, config).home(&root).build().unwrap();
        Self { _temporary: temporary, root, dir, policy }
    }

    fn sandbox(&self) -> NativeSandbox {
        open(&self.policy, &self.dir)
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }
}

/// Asserts that a session runs programs, and that its commands can write where the policy says so.
async fn is_usable(user: &User, sandbox: &NativeSandbox, after: &str) {
    let work = user.work();
    let write = format!(
        "ls -l / > f && cd {} && echo x > g && mkdir -p n/m && echo x > config/f && rm -r n",
        work.display()
    );
    assert!(works(sandbox, &write).await, "{after}");
    for key in ["inner.pem", "outer.pem", "keys/inner", "../keys/outer"] {
        assert!(!works(sandbox, &format!("cat {}/{key}", work.display())).await, "{key}, {after}");
    }
}

#[tokio::test]
async fn no_link_and_no_repository_closes_a_session() {
    if rustix::process::geteuid().is_root() && !without_namespaces() {
        let test = "reopening::no_link_and_no_repository_closes_a_session";
        rerun_as_ordinary_user(test, "links and repositories of an ordinary user");
    }
    // Landlock cannot hide a file in a writable directory.
    if without_namespaces() {
        return;
    }
    for trap in TRAPS {
        let user = User::new();
        let sandbox = user.sandbox();
        is_usable(&user, &sandbox, "nothing").await;
        let own = user.dir.display().to_string();
        let hidden = user.root.join("closed").display().to_string();
        let trap = format!("export HOME=OWN; cd {}; {trap}", user.work().display());
        let trap = trap.replace("OWN", &own).replace("HIDDEN", &hidden);
        works(&sandbox, &trap).await;
        is_usable(&user, &sandbox, &trap).await;
        sandbox.close().await;
        for _ in 0..2 {
            let again = user.sandbox();
            is_usable(&user, &again, &trap).await;
            again.close().await;
        }
    }
}

/// Opens a sandbox without a weakness for inner rules.
fn on_landlock(user: &User) -> Result<NativeSandbox, OpenError> {
    let accepted = vec![Weakness::Signals];
    NativeSandbox::builder(&user.policy, &user.dir).tier(Tier::Landlock { accepted }).open()
}

#[tokio::test]
async fn no_command_makes_a_path_that_landlock_cannot_protect() {
    if rustix::process::geteuid().is_root() && !without_namespaces() {
        let test = "reopening::no_command_makes_a_path_that_landlock_cannot_protect";
        rerun_as_ordinary_user(test, "paths of an ordinary user");
    }
    let mut user = User::new();
    let work = user.work();
    let mut config = user.policy.absolute_config();
    let later: PathEntry = format!("{}/**/x.pem", work.display()).as_str().into();
    config.filesystem.deny_read = vec![later, work.join("later").as_path().into()];
    user.policy = Policy::custom(&user.dir, config).home(&user.root).build().unwrap();
    let mut sandbox = match on_landlock(&user) {
        Ok(sandbox) => sandbox,
        Err(error) => return skipped("the tier without namespaces", &error.to_string()),
    };
    let (own, work) = (user.dir.display().to_string(), work.display().to_string());
    // The last column is a name that is not there afterwards.
    for (command, name) in [
        ("cd WORK; mkdir -p d/.vscode", "d/.vscode"),
        ("cd WORK; mkdir -p d; echo x > d/.bashrc; echo x > d/x.pem", "d/x.pem"),
        ("cd WORK; ln -s keys later; ln -s / x.pem; ln -s .. d/x.pem", "later"),
        ("cd WORK; mkdir -p r/.git/refs r/.git/objects; echo x > r/.git/HEAD", "r/.git"),
        ("cd WORK; mkdir -p b/refs b/objects; echo x > b/HEAD", "b/HEAD"),
        (
            "mkdir -p OWN/m/in/.vscode OWN/m/.git; cd OWN/m; ln -s / x.pem; touch .git/config; \
             mv OWN/m WORK",
            "m/.git",
        ),
        ("mkdir -p OWN/n/d; echo x > OWN/n/d/.zshrc; mv OWN/n/d WORK/config", "config/d/.zshrc"),
        ("mkdir OWN/g; cd OWN/g; mkdir objects refs hooks; touch HEAD; mv OWN/g WORK/g", "g/hooks"),
        ("cd WORK; mkdir -p c/d; mkdir -m 0 c/e c/d/f; chmod 0 c/d", "none"),
        ("mkdir -p OWN/c/i/.idea; mkdir -m 300 OWN/c/k; mv OWN/c WORK/c2", "c2/i/.idea"),
        ("cd WORK; perl -e 'for (1..300) { mkdir q(d); chdir q(d) } mkdir q(.vscode)'", "none"),
    ] {
        let command = command.replace("OWN", &own).replace("WORK", &work);
        works(&sandbox, &command).await;
        assert!(!user.work().join(name).exists(), "{name} after {command}");
        assert!(works(&sandbox, "echo x > f").await, "{command}");
        sandbox.close().await;
        sandbox = on_landlock(&user).unwrap_or_else(|error| panic!("{error} after {command}"));
    }
    assert!(works(&sandbox, &format!("ls {work}/m/in {work}/config/d && echo x > {work}/f")).await);
}

//! Files of the host that no session may read or write.

use crate::session::{Fixture, spec};
use agent_tools::Storage;
use agent_tools::policy::Access;

#[tokio::test]
async fn the_configuration_that_only_root_can_read_is_hidden_from_sessions_of_root() {
    let test =
        "private_files::the_configuration_that_only_root_can_read_is_hidden_from_sessions_of_root";
    const MOUNTED: &str = "AGENT_TOOLS_TEST_MOUNTED_CONFIGURATION";
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if std::env::var_os(MOUNTED).is_none() {
        // In a mount namespace, whose /etc has two more files.
        let script = "mkdir $0/up $0/work && mount -t overlay none -o \
            lowerdir=/etc,upperdir=$0/up,workdir=$0/work /etc && \
            (umask 077; echo secret > /etc/key) && echo open > /etc/public && exec \"$@\"";
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut run = std::process::Command::new("unshare");
        run.args(["--mount", "sh", "-c", script]).arg(place.path());
        run.arg(std::env::current_exe().unwrap()).args(["--exact", test]);
        return testkit::assert_passed(&run.env(MOUNTED, "1").output().unwrap());
    }
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    let ran = session.bash("cat /etc/public /etc/key").await.unwrap();
    assert!(ran.stdout.contains("open") && !ran.stdout.contains("secret"), "{ran:?}");
    let mut shown = spec("s2");
    shown.allow_read.push("/etc/key".into());
    let session = fixture.sessions.open(shown).await.unwrap();
    assert_eq!(session.bash("cat /etc/key").await.unwrap().command_stdout(), "secret\n");
}

#[tokio::test]
async fn no_session_writes_to_the_directory_of_the_store() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let store = root.join("store");
    let storage = Storage::local(&store).unwrap();
    let fixture = Fixture::with(|sessions| sessions.storage(storage));
    for (id, allowed) in [("above", root.clone()), ("itself", store.clone())] {
        let mut spec = spec(id);
        spec.allow_write.push(allowed);
        let session = fixture.sessions.open(spec).await.unwrap();
        let link = store.join(format!("user_7/sessions/{id}/link"));
        let command = format!("echo x > f; ln -s /etc/passwd {}", link.display());
        let ran = session.bash(&command).await.unwrap();
        assert!(ran.exit_code != 0 && link.symlink_metadata().is_err(), "{ran:?}");
        let beside = root.join(format!("beside {id}"));
        session.bash(&format!("echo > '{}'", beside.display())).await.unwrap();
        assert_eq!(beside.exists(), id == "above");
        assert!(!session.policy().explain(&link, Access::Write).allowed);
    }
}

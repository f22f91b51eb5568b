//! Modes of files and directories that commands create or change.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_core::{NativeSandbox, Sandbox, Weakness};
use testkit::skipped;

use crate::calls::find;
use crate::fixture::{Fixture, fixture, spec, without_namespaces};

/// Opens a sandbox whose commands may change modes, on the tier that is being tested.
fn opened(fixture: &Fixture) -> NativeSandbox {
    let tier = match without_namespaces() {
        true => sandbox_core::Tier::Landlock { accepted: vec![Weakness::Attributes] },
        false => sandbox_core::Tier::Namespaces,
    };
    NativeSandbox::builder(&fixture.policy(), &fixture.dir).tier(tier).open().unwrap()
}

#[tokio::test]
async fn no_call_sets_the_set_user_id_or_set_group_id_bit() {
    // How to make `f`, whose mode is MODE, in each way that the kernel has.
    const CALLS: &[(&str, &str)] = &[
        ("chmod", "open(F, q(>), q(f)); syscall(N, q(f), MODE)"),
        ("fchmod", "open(F, q(>), q(f)); syscall(N, fileno(F), MODE)"),
        ("fchmodat", "open(F, q(>), q(f)); syscall(N, -100, q(f), MODE)"),
        ("fchmodat2", "open(F, q(>), q(f)); syscall(N, -100, q(f), MODE, 0)"),
        ("creat", "syscall(N, q(f), MODE)"),
        ("open", "syscall(N, q(f), 0101, MODE)"),
        ("openat", "syscall(N, -100, q(f), 0101, MODE)"),
        ("openat2", "my $how = pack(q(QQQ), 0101, MODE, 0); syscall(N, -100, q(f), $how, 24)"),
        ("mknod", "syscall(N, q(f), 0100000 | MODE, 0)"),
        ("mknodat", "syscall(N, -100, q(f), 0100000 | MODE, 0)"),
        ("mkdir", "syscall(N, q(f), MODE)"),
        ("mkdirat", "syscall(N, -100, q(f), MODE)"),
    ];
    let fixture = fixture();
    let sandbox = opened(&fixture);
    let perl = sandbox.exec(spec("command -v perl")).await.unwrap();
    if perl.stdout.bytes.is_empty() {
        return skipped("modes of files", "package perl-base");
    }
    let file = fixture.dir.join("f");
    let mode = || fs::metadata(&file).map(|file| file.permissions().mode() & 0o7777);
    for (name, script) in CALLS {
        let Some(number) = find(name) else { continue };
        for (given, expected) in [("0711", Some(0o711)), ("04711", None), ("02711", None)] {
            // Perl passes the memory of a variable, never that of a literal.
            let script = script
                .replace("MODE", given)
                .replace("N,", &format!("{number},"))
                .replace("q(f),", "my $f = q(f),");
            let command = format!("rm -rf f; umask 0; perl -e 'umask 0; {script}'");
            let ran = sandbox.exec(spec(&command)).await.unwrap();
            let found = mode().unwrap_or(0);
            assert_eq!(found & 0o6000, 0, "{name} {given}: {ran:?}");
            // The filter denies one of these calls, and kernels before 6.6 lack the other.
            let is_available = !["openat2", "fchmodat2"].contains(name);
            if let Some(expected) = expected.filter(|_| is_available) {
                assert_eq!(found, expected, "{name} {given}: {ran:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_call_sets_the_set_group_id_bit_of_a_directory_and_never_that_of_a_file() {
    // The Landlock tier denies the bit, as the test above shows.
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let sandbox = opened(&fixture);
    if sandbox.exec(spec("command -v perl")).await.unwrap().stdout.bytes.is_empty() {
        return skipped("modes of directories", "package perl-base");
    }
    // How to change the mode of the file or directory `d/x`.
    const CALLS: &[(&str, &str)] = &[
        ("chmod", "syscall(N, P, MODE)"),
        ("fchmod", "open(my $f, q(<), P) or opendir($f, P); syscall(N, fileno($f), MODE)"),
        ("fchmodat", "syscall(N, -100, P, MODE)"),
        ("fchmodat", "opendir(my $d, q(d)); syscall(N, fileno($d), X, MODE)"),
        (
            "fchmodat",
            "open(my $f, q(<), P) or opendir($f, P); my $n = fileno($f); \
                      my $p = qq(/proc/self/fd/$n); syscall(N, -100, $p, MODE)",
        ),
        ("fchmodat2", "syscall(N, -100, P, MODE, 0)"),
        ("fchmodat2", "syscall(N, -100, P, MODE, 0x100)"),
    ];
    const PATHS: &[&str] = &["d/x", "./d/../d/./x", "$ENV{PWD}/d/x", "to-d/x"];
    let target = fixture.dir.join("d/x");
    let mode = || fs::metadata(&target).unwrap().permissions().mode() & 0o7777;
    for (name, script) in CALLS {
        let Some(number) = find(name) else { continue };
        for path in PATHS {
            for (make, expected) in [("mkdir d/x", 0o2711), (": > d/x", 0o644)] {
                let script = script.replace("MODE", "02711").replace("N,", &format!("{number},"));
                let names = format!("my $p = qq({path}); my $x = q(x);");
                let script = script.replace("P,", "$p,").replace("P)", "$p)").replace("X,", "$x,");
                let command = format!(
                    "rm -rf d to-d; mkdir d; ln -s d to-d; {make}; chmod u=rwX,go=rX d/x; \
                     perl -e '{names} {script}'"
                );
                let ran = sandbox.exec(spec(&command)).await.unwrap();
                let expected = if make.contains("mkdir") { expected } else { 0o644 };
                assert_eq!(mode(), expected, "{name} {path} {make}: {ran:?}");
            }
        }
    }
    // A symlink at the end is followed, and init follows none of its own.
    let ran = sandbox
        .exec(spec(
            "cd d; rm x; mkdir x; ln -s x to-x; : > f; ln -s f to-f; \
             chmod 2755 to-x; chmod 2755 to-f; chmod 6755 x; chmod 2755 /proc/self/cwd; \
             ln -s /proc/self/cwd cwd; chmod 2755 cwd; ln -s loop loop; chmod 2755 loop; \
             chmod 2755 absent; chmod 2755 /usr; stat -c '%n %a' . x f",
        ))
        .await
        .unwrap();
    let found = String::from_utf8_lossy(&ran.stdout.bytes);
    assert_eq!(found, ". 755\nx 2755\nf 644\n", "{ran:?}");
}

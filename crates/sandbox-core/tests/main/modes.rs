//! Modes of files that commands create or change.

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

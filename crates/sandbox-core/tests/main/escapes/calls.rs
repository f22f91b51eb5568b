//! System calls that could break the sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_core::CommandStatus;
use testkit::skipped;

use super::target::target;
use crate::calls::number;
use crate::fixture::without_namespaces;

/// Returns a script that makes a system call from perl and prints its error number, or `done`.
pub(super) fn call(number: u32, arguments: &str) -> String {
    // Perl passes the memory of a variable, never that of a literal.
    format!(
        "perl -e 'my @all = ({number}{arguments}); my $n = shift @all; $! = 0; \
         print syscall($n, @all) == -1 ? $! + 0 : \"done\"'"
    )
}

#[tokio::test]
async fn dangerous_system_calls_are_denied() {
    const EPERM: &str = "1";
    const ENOSYS: &str = "38";
    const READ_MEMORY: &str = ", 1, \
                               pack(\"QQ\", unpack(\"Q\", pack(\"p\", my $b = \"x\" x 8)), 8), \
                               1, pack(\"QQ\", 0x400000, 8), 1, 0";
    // pidfd_open has this number on every architecture.
    const GET_FD: &str = ", syscall(434, 1, 0), 0, 0";
    let target = target();
    if target.text("command -v perl").await.is_empty() {
        return skipped("dangerous system calls", "package perl-base");
    }
    assert_eq!(target.text(&call(number("getpid"), "")).await, "done", "getpid works");
    for (name, call_number, arguments, expected) in [
        ("unshare of a user namespace", number("unshare"), ", 0x10000000", EPERM),
        ("unshare of a mount namespace", number("unshare"), ", 0x20000", EPERM),
        ("unshare of a process namespace", number("unshare"), ", 0x20000000", EPERM),
        ("clone of a user namespace", number("clone"), ", 0x10000011, 0, 0, 0, 0", EPERM),
        ("clone3", number("clone3"), ", 0, 0", ENOSYS),
        ("setns", number("setns"), ", 0, 0", EPERM),
        ("mount", number("mount"), ", \"none\", \"/tmp\", \"tmpfs\", 0, 0", EPERM),
        ("umount2", number("umount2"), ", \"/proc\", 2", EPERM),
        ("pivot_root", number("pivot_root"), ", \".\", \".\"", EPERM),
        ("chroot", number("chroot"), ", \".\"", EPERM),
        ("open_tree", number("open_tree"), ", -100, \"/\", 1", EPERM),
        ("move_mount", number("move_mount"), ", 0, \"\", -100, \"/tmp\", 4", EPERM),
        ("fsopen", number("fsopen"), ", \"tmpfs\", 0", EPERM),
        ("fsmount", number("fsmount"), ", 0, 0, 0", EPERM),
        ("mount_setattr", number("mount_setattr"), ", -100, \"/\", 0, 0, 0", EPERM),
        ("open_by_handle_at", number("open_by_handle_at"), ", 0, 0, 0", EPERM),
        ("mknod of a device", number("mknodat"), ", -100, \"device\", 0x2180, 0x103", EPERM),
        ("io_uring_setup", number("io_uring_setup"), ", 8, 0", EPERM),
        ("io_setup", number("io_setup"), ", 8, my $context = \"\\0\" x 8", EPERM),
        ("a lease", number("fcntl"), ", 0, 1024, 0", EPERM),
        ("bpf", number("bpf"), ", 0, 0, 0", EPERM),
        ("perf_event_open", number("perf_event_open"), ", 0, 0, 0, 0, 0", EPERM),
        ("userfaultfd", number("userfaultfd"), ", 0", EPERM),
        ("kexec_load", number("kexec_load"), ", 0, 0, 0, 0", EPERM),
        ("add_key", number("add_key"), ", \"user\", \"a\", \"b\", 1, -3", EPERM),
        ("keyctl", number("keyctl"), ", 0, -3, 0", EPERM),
        ("reboot", number("reboot"), ", 0, 0, 0", EPERM),
        ("sethostname", number("sethostname"), ", \"x\", 1", EPERM),
        ("an x32 call", 0x4000_0027, "", ENOSYS),
        ("a call of the future", 9_999, "", ENOSYS),
        ("a datagram socket", number("socket"), ", 1, 2, 0", EPERM),
        ("a datagram socket by its other name", number("socket"), ", 1, 3, 0", EPERM),
        ("a pair of datagram sockets", number("socketpair"), ", 1, 2, 0, \"12345678\"", EPERM),
        ("a raw socket", number("socket"), ", 2, 3, 1", EPERM),
        ("a packet socket", number("socket"), ", 17, 3, 0", "97"),
        ("a vsock socket", number("socket"), ", 40, 1, 0", "97"),
        ("ptrace of the first process", number("ptrace"), ", 16, 1, 0, 0", EPERM),
        ("process_vm_readv of the first process", number("process_vm_readv"), READ_MEMORY, EPERM),
        ("pidfd_getfd of the first process", number("pidfd_getfd"), GET_FD, EPERM),
    ] {
        let found = target.text(&call(call_number, arguments)).await;
        // On the Landlock tier, another layer may deny the call first, with its own error.
        const EACCES: &str = "13";
        let is_denied = found == expected
            || (without_namespaces() && [EPERM, EACCES].contains(&found.as_str()));
        assert!(is_denied, "{name}: {found} instead of {expected}");
    }
    target.is_untouched("system calls");
}

/// Returns a 32-bit program that exits with 0 after its first system call, which is getpid(2).
fn program_of_32_bits() -> Vec<u8> {
    // The machine and its flags (`elf(5)`), and the code.
    let (machine, flags, code): (u16, u32, &[u8]) = if cfg!(target_arch = "x86_64") {
        // mov eax, 20; int 0x80; mov eax, 1; xor ebx, ebx; int 0x80
        (3, 0, b"\xb8\x14\0\0\0\xcd\x80\xb8\x01\0\0\0\x31\xdb\xcd\x80")
    } else {
        // mov r7, #20; svc 0; mov r7, #1; mov r0, #0; svc 0
        let code = b"\x14\x70\xa0\xe3\0\0\0\xef\x01\x70\xa0\xe3\0\0\xa0\xe3\0\0\0\xef";
        (40, 0x0500_0000, code)
    };
    const HEADERS: u32 = 52 + 32;
    const ADDRESS: u32 = 0x10000;
    let size = HEADERS + u32::try_from(code.len()).unwrap();
    let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |program: &mut Vec<u8>, halves: &[u16]| {
        program.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    };
    let words = |program: &mut Vec<u8>, words: &[u32]| {
        program.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    halves(&mut program, &[2, machine]);
    words(&mut program, &[1, ADDRESS + HEADERS, 52, 0, flags]);
    halves(&mut program, &[52, 32, 1, 0, 0, 0]);
    // One segment, readable and executable, with the whole file.
    words(&mut program, &[1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1000]);
    program.extend_from_slice(code);
    program
}

#[tokio::test]
async fn calls_of_32_bit_programs_are_denied() {
    const SIGSYS: i32 = 31;
    let target = target();
    let program = target.dir().join("program");
    fs::write(&program, program_of_32_bits()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    // The kernel may not support such programs.
    let works = std::process::Command::new(&program).status().is_ok_and(|status| status.success());
    let ran = target.run("./program").await;
    let expected = if works { CommandStatus::Signaled(SIGSYS) } else { CommandStatus::Exited(126) };
    assert_eq!(ran.status, expected, "{ran:?}");
}

#[tokio::test]
async fn a_tagged_address_of_a_path_is_denied_too() {
    // With PR_SET_TAGGED_ADDR_CTRL and PR_TAGGED_ADDR_ENABLE, the kernel ignores the upper byte of
    // addresses, like the processor does. x86-64 has no such calls.
    const CREATE: &str = "perl -e 'my $path = \"ghost\"; \
        my $at = unpack(\"Q\", pack(\"p\", $path)); \
        exit 3 if syscall(PRCTL, 55, 1, 0, 0, 0) != 0; \
        exit(syscall(MKDIRAT, -100, $at | TAG, 0755) == -1 && $! == 30 ? 4 : 0)'";
    if !cfg!(target_arch = "aarch64") {
        return;
    }
    let target = target();
    let command = CREATE
        .replace("PRCTL", &number("prctl").to_string())
        .replace("MKDIRAT", &number("mkdirat").to_string());
    for tag in ["0", "(0x5a << 56)"] {
        let ran = target.run(&command.replace("TAG", tag)).await;
        assert_eq!(ran.status, CommandStatus::Exited(4), "{tag}: {ran:?}");
        assert!(ran.quarantined.is_empty(), "{tag}: {ran:?}");
    }
    target.is_untouched("a tagged address");
}

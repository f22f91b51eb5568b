//! System-call numbers of the running architecture.

use std::env::consts::ARCH;

#[path = "../../init/arch/table.rs"]
#[expect(dead_code, unreachable_pub, reason = "the file is compiled into the init program too")]
mod table;

use table::Architecture;

/// Returns the number of a call.
#[track_caller]
pub(crate) fn number(name: &str) -> u32 {
    find(name).unwrap_or_else(|| panic!("no number for {name} on {ARCH}"))
}

/// Returns the number of a call, if the running architecture has the call.
pub(crate) fn find(name: &str) -> Option<u32> {
    // Calls that neither init nor the filter names.
    let other = match (name, ARCH) {
        ("getpid", "x86_64") => 39,
        ("getpid", "aarch64") => 172,
        ("ptrace", "x86_64") => 101,
        ("ptrace", "aarch64") => 117,
        _ => {
            let calls = architecture().calls;
            return calls.iter().find(|call| call.name == name).map(|call| call.number);
        }
    };
    Some(other)
}

fn architecture() -> &'static Architecture {
    let architectures = [&table::x86_64::ARCHITECTURE, &table::aarch64::ARCHITECTURE];
    let own = architectures.into_iter().find(|architecture| architecture.name == ARCH);
    own.unwrap_or_else(|| panic!("no table for {ARCH}"))
}

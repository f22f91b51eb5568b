//! The processor architecture that init runs on.
//!
//! This is the only file that selects by architecture. `arch/table.rs` has the system calls and
//! flags of each architecture, and `arch/*/machine.rs` has the code that is written in assembly.

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64/machine.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64/machine.rs")]
mod machine;
#[expect(dead_code, reason = "only the host reads the rules of the filters")]
mod table;

pub use machine::{start_sharing, system_call, untagged};
#[cfg(target_arch = "aarch64")]
pub use table::aarch64::ARCHITECTURE;
#[cfg(target_arch = "x86_64")]
pub use table::x86_64::ARCHITECTURE;
pub use table::{Call, CreatedKind, CreatedName};

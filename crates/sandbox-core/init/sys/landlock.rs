//! Landlock rulesets (`landlock(7)`).

use super::{Fd, Result};

/// Returns the kernel's version of Landlock.
pub fn landlock_abi() -> Result<u32> {
    // LANDLOCK_CREATE_RULESET_VERSION
    sys!(landlock_create_ruleset, 0, 0, 1).map(|abi| abi as u32)
}

/// Creates an empty ruleset that restricts the `handled` rights on files, rights on the network,
/// and scopes (`struct landlock_ruleset_attr`).
pub fn landlock_ruleset(handled: &[u64; 3], abi: u32) -> Result<Fd> {
    let size = match abi {
        ..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    sys!(landlock_create_ruleset, handled.as_ptr(), size, 0).map(|fd| fd as Fd)
}

/// Allows `rights` on `target` and everything below it.
pub fn landlock_allow(ruleset: Fd, target: Fd, rights: u64) -> Result<()> {
    // struct landlock_path_beneath_attr, packed: u64 allowed_access, s32 parent_fd
    let mut rule = [0u8; 12];
    rule[..8].copy_from_slice(&rights.to_ne_bytes());
    rule[8..].copy_from_slice(&target.to_ne_bytes());
    // LANDLOCK_RULE_PATH_BENEATH
    sys!(landlock_add_rule, ruleset, 1, rule.as_ptr(), 0).map(drop)
}

/// Confines this process and its later children to the rules.
pub fn landlock_restrict(ruleset: Fd) -> Result<()> {
    sys!(landlock_restrict_self, ruleset, 0).map(drop)
}

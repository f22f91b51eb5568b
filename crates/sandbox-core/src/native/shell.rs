//! The shell of commands, and the check that a policy lets it start.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use policy::{Access, MountPlan, Policy, Rule, Verdict};

use super::error::OpenError;
use super::verdict;
use crate::sandbox::Tier;

/// Size of the header of an ELF file, and of an entry of its program headers (`elf(5)`).
const HEADER: usize = 64;
const ENTRY: usize = 56;
/// Type of the entry that names the loader.
const PT_INTERP: u32 = 3;
/// Maximum number of entries that are read.
const MAX_ENTRIES: u16 = 64;

/// Returns the path of bash: `/bin/bash` if it exists, else the first one on the host's `PATH`.
pub(super) fn find() -> PathBuf {
    let usual = PathBuf::from("/bin/bash");
    if usual.exists() {
        return usual;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("bash"))
        .find(|bash| bash.is_file())
        .unwrap_or(usual)
}

/// Checks that commands see the shell and its loader, without which none of them starts.
///
/// # Errors
/// Returns [`OpenError::ShellHidden`] with the rule.
pub(super) fn check(policy: &Policy, plan: &MountPlan, tier: &Tier) -> Result<(), OpenError> {
    let shell = find();
    let explain = |path: &Path| verdict::explain(policy, plan, tier, path, Access::Read);
    let (mut first, mut dirs) = (None, Vec::new());
    for path in [Some(&shell), loader(&shell).as_ref()].into_iter().flatten() {
        // Without the file, the error of the first command names it.
        let Ok(canonical) = path.canonicalize() else { continue };
        // Commands reach the file only through symlinks that they see.
        let denied = [explain(path), explain(&canonical)].into_iter().find(|it| !it.allowed);
        // Another user may have the only files.
        let Some(Verdict { rule, .. }) = denied.filter(|it| it.rule != Rule::HostPermissions)
        else {
            continue;
        };
        first.get_or_insert_with(|| (path.to_owned(), rule.to_string()));
        // A program needs libraries beside its loader.
        let named = path.parent().and_then(|dir| dir.canonicalize().ok());
        let known = dirs.len();
        for dir in named.into_iter().chain(canonical.parent().map(Path::to_owned)) {
            if !dirs.contains(&dir) && !explain(&dir).allowed {
                dirs.push(dir);
            }
        }
        // The rule may be about the file alone.
        if dirs.len() == known && !explain(&canonical).allowed {
            dirs.push(canonical);
        }
    }
    let Some((path, rule)) = first else { return Ok(()) };
    let options: Vec<_> =
        dirs.iter().map(|dir| format!("--allow-read {}", dir.display())).collect();
    let remedy = format!("use {} (filesystem.allowRead in settings)", options.join(" "));
    Err(OpenError::ShellHidden { path, rule, remedy })
}

/// Returns the loader that a program names, if it is a 64-bit program that has one.
fn loader(program: &Path) -> Option<PathBuf> {
    let file = File::open(program).ok()?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).ok()?;
    // ELFCLASS64
    if header[..5] != *b"\x7fELF\x02" {
        return None;
    }
    let (start, count) = (long(&header, 32)?, u16::from_ne_bytes(bytes(&header, 56)?));
    for number in 0..u64::from(count.min(MAX_ENTRIES)) {
        let mut entry = [0; ENTRY];
        let at = number.checked_mul(ENTRY as u64)?.checked_add(start)?;
        file.read_exact_at(&mut entry, at).ok()?;
        if u32::from_ne_bytes(bytes(&entry, 0)?) == PT_INTERP {
            let mut name = vec![0; usize::try_from(long(&entry, 32)?.min(4096)).ok()?];
            file.read_exact_at(&mut name, long(&entry, 8)?).ok()?;
            let name = name.split(|byte| *byte == 0).next()?;
            return Some(Path::new(std::ffi::OsStr::from_bytes(name)).to_owned());
        }
    }
    None
}

fn long(from: &[u8], at: usize) -> Option<u64> {
    bytes(from, at).map(u64::from_ne_bytes)
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_program_is_the_one_that_it_names() {
        let own = loader(Path::new("/proc/self/exe"));
        assert!(own.is_none_or(|loader| loader.is_absolute() && loader.exists()));
        assert_eq!(loader(Path::new("/etc/passwd")), None);
        assert_eq!(loader(Path::new("/no-such-program")), None);
    }
}

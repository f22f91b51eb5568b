//! Symlinks of trees that are copied: none may lead out of its tree.
//!
//! `..` is accepted only at the beginning of a target, where the directories above the link are
//! known to be no symlinks. So the text of the target tells where it leads.

use std::path::{Component, Path};

use super::directory::SessionDir;
use super::entries::FileKind;
use crate::path::RelativePath;

/// Returns the path in a tree to which the symlink at `link` leads, empty for the tree itself. The
/// tree is at `root`, if absolute targets are accepted.
///
/// # Errors
/// Returns the problem as a text that follows "a symlink".
pub fn link_path(
    root: Option<&Path>,
    link: &RelativePath,
    target: &Path,
) -> Result<String, &'static str> {
    const LEADS_OUT: &str = "that leads out";
    let (mut at, rest) = if target.is_absolute() {
        let rest = root.and_then(|root| target.strip_prefix(root).ok()).ok_or(LEADS_OUT)?;
        (Vec::new(), rest)
    } else {
        let mut above: Vec<&str> = link.components().collect();
        above.pop();
        (above, target)
    };
    let mut has_name = false;
    for component in rest.components() {
        match component {
            Component::Normal(name) => {
                has_name = true;
                at.push(name.to_str().ok_or("whose target is not UTF-8")?);
            }
            Component::ParentDir if has_name => return Err("with `..` after a name"),
            Component::ParentDir => drop(at.pop().ok_or(LEADS_OUT)?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err(LEADS_OUT),
        }
    }
    Ok(at.join("/"))
}

/// Returns the problem of the symlink `link` of a copied tree, as a text that follows "a symlink":
/// it leads out, or passes through another symlink. `above` is the path of the tree in `dir`.
pub fn link_problem(
    dir: &SessionDir,
    above: Option<&RelativePath>,
    link: &RelativePath,
    target: &Path,
) -> Option<&'static str> {
    let path = match link_path(None, link, target) {
        Ok(path) => path,
        Err(problem) => return Some(problem),
    };
    let is_symlink = |(end, _): (usize, &str)| {
        let passed = match above {
            Some(above) => above.join(&path[..end]),
            None => RelativePath::parse(&path[..end]),
        };
        let stat = passed.ok().and_then(|passed| dir.place(&passed).ok()?.stat().ok()?);
        stat.is_some_and(|stat| stat.kind == FileKind::Symlink)
    };
    path.match_indices('/').any(is_symlink).then_some(PASSES)
}

/// The problem of a symlink that leads through another one.
pub const PASSES: &str = "that passes through another symlink";

/// Returns the directory so that no symlink below it is followed.
pub fn without_symlinks(dir: SessionDir) -> SessionDir {
    dir.without_symlinks()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_of_a_copy_leads_into_the_copy_or_has_a_problem() {
        let path = |link: &str, target: &str| {
            link_path(None, &RelativePath::parse(link).unwrap(), Path::new(target))
        };
        assert_eq!(path("a", "b/c").unwrap(), "b/c");
        assert_eq!(path("d/e/a", ".././../b").unwrap(), "b");
        assert_eq!(path("d/a", "..").unwrap(), "");
        for (link, target) in [("a", ".."), ("d/a", "../../b"), ("a", "/etc/passwd")] {
            assert_eq!(path(link, target), Err("that leads out"), "{link} {target}");
        }
        assert_eq!(path("d/a", "s/../b"), Err("with `..` after a name"));
        let link = RelativePath::parse("a/b").unwrap();
        let root = Some(Path::new("/s"));
        assert_eq!(link_path(root, &link, Path::new("/s/x")).unwrap(), "x");
        assert!(link_path(root, &link, Path::new("/s/../x")).is_err());
    }
}

//! Files that a publisher hardly means to publish: leftovers of tools, and secrets.

use artifact_sync::internal::is_editor_file;
use memchr::memmem;
use sandbox_core::RelativePath;

/// Names of the histories of repositories. In a linked work tree of git, it is a file.
const HISTORIES: [&str; 4] = [".git", ".hg", ".jj", ".svn"];
/// Names of files with passwords, tokens or private keys.
const SECRET_NAMES: [&str; 11] = [
    ".env",
    ".git-credentials",
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
];
/// Extensions of containers for keys and passwords.
const SECRET_EXTENSIONS: [&str; 6] = ["jks", "kdbx", "keystore", "p12", "pfx", "ppk"];
/// Last parts of `.env.…` that stand for a file without values.
const TEMPLATES: [&str; 5] = ["defaults", "dist", "example", "sample", "template"];

/// Returns whether an entry of this name is left out: the history of a repository, or a file that
/// an editor or a file manager keeps for itself.
pub(crate) fn is_left_out(name: &str, is_directory: bool) -> bool {
    HISTORIES.iter().any(|history| name.eq_ignore_ascii_case(history))
        || !is_directory && (is_editor_file(name) || name.len() > 1 && name.ends_with('~'))
}

/// Returns the beginning of a path that ends with a part that is left out.
pub(crate) fn left_out_part(path: &RelativePath, is_directory: bool) -> Option<&str> {
    let text = path.as_str();
    let ends = text.match_indices('/').map(|(end, _)| end).chain([text.len()]);
    ends.map(|end| &text[..end]).find(|part| {
        let name = part.rsplit('/').next().unwrap_or(part);
        is_left_out(name, is_directory || part.len() < text.len())
    })
}

/// Returns a file that makes its directory a Git repository: one in `.git`, or the `HEAD` of a bare
/// one. Git runs programs that the configuration of such a directory names.
pub(crate) fn repository_in<'p>(paths: &[&'p str]) -> Option<&'p str> {
    paths.iter().copied().find(|path| {
        let is_history = path.split('/').any(|part| part.eq_ignore_ascii_case(HISTORIES[0]));
        let has = |dir: &str, name: &str| {
            let below = |other: &&&str| {
                let rest = other.strip_prefix(dir).unwrap_or_default();
                rest.split_once('/').is_some_and(|(first, _)| first.eq_ignore_ascii_case(name))
            };
            paths.iter().find(below).is_some()
        };
        let is_bare = |dir| has(dir, "objects") && has(dir, "refs");
        let at_name = path.rfind('/').map_or(0, |slash| slash + 1);
        is_history || path[at_name..].eq_ignore_ascii_case("HEAD") && is_bare(&path[..at_name])
    })
}

/// Returns whether a file likely holds a secret, by its name or by a private key in it.
pub(crate) fn is_likely_secret(path: &RelativePath, content: &[u8]) -> bool {
    let name = path.file_name().to_ascii_lowercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    SECRET_NAMES.contains(&&*name)
        || SECRET_EXTENSIONS.contains(&extension)
        || name.starts_with(".env.") && !TEMPLATES.contains(&extension)
        || has_private_key(content)
}

/// Returns whether a line begins a private key in the form of RFC 7468.
fn has_private_key(content: &[u8]) -> bool {
    memmem::find_iter(content, b"-----BEGIN ").any(|at| {
        let is_first = at == 0 || content[at - 1] == b'\n';
        let line = content[at..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        is_first && line.trim_ascii_end().ends_with(b"PRIVATE KEY-----")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_tools_are_left_out_wherever_they_are() {
        let left_out = |path: &str| {
            let path = RelativePath::parse(path).unwrap();
            left_out_part(&path, false).map(str::to_owned)
        };
        for (path, part) in [
            (".git", ".git"),
            ("a/.GIT/x/y", "a/.GIT"),
            (".svn/entries", ".svn"),
            ("a/.f.swp", "a/.f.swp"),
            ("SKILL.md~", "SKILL.md~"),
            ("a/.DS_Store", "a/.DS_Store"),
            ("#f#", "#f#"),
        ] {
            assert_eq!(left_out(path).as_deref(), Some(part), "{path}");
        }
        for path in ["SKILL.md", ".gitignore", "git/x", "a~/x", "~", ".github/w", "x.swp"] {
            assert_eq!(left_out(path), None, "{path}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_name_or_by_a_private_key() {
        let is_secret = |path: &str, content: &str| {
            is_likely_secret(&RelativePath::parse(path).unwrap(), content.as_bytes())
        };
        for path in [".env", "a/.ENV", ".env.local", "id_rsa", "a/id_ed25519", ".npmrc", "k.p12"] {
            assert!(is_secret(path, ""), "{path}");
        }
        for path in [".env.example", "env", "id_rsa.pub", "a.pem", "README.md", ".envrc"] {
            assert!(!is_secret(path, "-----BEGIN CERTIFICATE-----\n"), "{path}");
        }
        for begin in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            for before in ["", "text\n"] {
                for after in ["\n", "\r\n", ""] {
                    let content = format!("{before}-----BEGIN {begin}-----{after}");
                    assert!(is_secret("deploy.txt", &content), "{content:?}");
                }
            }
        }
        assert!(!is_secret("doc.md", "a line `-----BEGIN PRIVATE KEY-----`\n"));
    }
}

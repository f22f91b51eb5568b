//! Reading of lines in one pass. Derived code would buffer each line several times, because its
//! fields stand beside its tag.

use serde::Deserialize;

use crate::log::ids::{Hash, Token};
use crate::log::line::{Author, Content, FileVersion, Inline, Line, Origin, Owner};
use crate::state::Version;

/// The fields of all lines.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    op: Op,
    path: Option<String>,
    home: Option<String>,
    url: Option<String>,
    size: Option<u64>,
    hash: Option<Hash>,
    mode: Option<u16>,
    modified: Option<(i64, u32)>,
    token: Option<Token>,
    #[serde(default)]
    number: u64,
    blob: Option<Token>,
    inline: Option<Inline>,
    entry: Option<u64>,
    origin: Option<Origin>,
    adopted: Option<Box<Version>>,
    target: Option<String>,
    by: Option<Author>,
    at: Option<i64>,
    etag: Option<String>,
    version: Option<String>,
    owner: Option<Owner>,
    #[serde(default)]
    began: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Op {
    Own,
    Release,
    File,
    Directory,
    Symlink,
    Removed,
    Adopted,
    Projected,
    Snapshot,
    Erased,
}

impl TryFrom<Wire> for Line {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        let op = wire.op;
        let path = has(wire.path, "path");
        let version = Version { etag: wire.etag, version: wire.version };
        Ok(match op {
            Op::Own => Self::Own { home: has(wire.home, "home")?, url: wire.url },
            Op::Release => Self::Release,
            Op::File => {
                let content = match (wire.blob, wire.inline, wire.entry) {
                    (Some(blob), None, None) => Content::Blob(blob),
                    (None, Some(inline), None) => Content::Inline(Box::new(inline)),
                    (None, None, Some(entry)) => Content::Entry(entry),
                    _ => return Err("a file needs one of blob, inline and entry".to_owned()),
                };
                let file = FileVersion {
                    size: has(wire.size, "size")?,
                    hash: has(wire.hash, "hash")?,
                    mode: has(wire.mode, "mode")?,
                    modified: has(wire.modified, "modified")?,
                    token: has(wire.token, "token")?,
                    number: wire.number,
                    content,
                    origin: has(wire.origin, "origin")?,
                    adopted: wire.adopted,
                };
                Self::File { path: path?, file }
            }
            Op::Directory => Self::Directory { path: path?, mode: has(wire.mode, "mode")? },
            Op::Symlink => Self::Symlink { path: path?, target: has(wire.target, "target")? },
            Op::Removed => Self::Removed {
                path: path?,
                by: has(wire.by, "by")?,
                at: has(wire.at, "at")?,
                number: wire.number,
            },
            Op::Adopted => Self::Adopted { path: path?, version },
            Op::Projected => Self::Projected { path: path?, version },
            Op::Snapshot => Self::Snapshot { owner: wire.owner, began: wire.began },
            Op::Erased => Self::Erased,
        })
    }
}

fn has<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("{name} is missing"))
}

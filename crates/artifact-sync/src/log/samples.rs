//! Lines for tests.

use crate::log::{Author, Content, FileVersion, Hash, Line, Origin, Token};

/// Returns the line of a file whose content is a blob.
pub(crate) fn file(path: &str, content: &[u8]) -> Line {
    let file = FileVersion {
        size: content.len() as u64,
        hash: Hash::of(content),
        mode: 0o644,
        modified: (1, 2),
        token: Token::random(),
        number: 0,
        content: Content::Blob(Token::random()),
        origin: Origin::Agent,
        adopted: None,
    };
    Line::File { path: path.to_owned(), file }
}

pub(crate) fn removed(path: &str) -> Line {
    Line::Removed { path: path.to_owned(), by: Author::Agent, at: 9, number: 0 }
}

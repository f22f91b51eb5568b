//! Listings in bounded memory, which an odd key does not end.
//!
//! `object_store` fails a whole page if one of its keys is not a valid path, such as `a//b` or one
//! with a tab, and ends the listing. With access to single pages, the odd key is found and skipped.
//! Otherwise, the prefix is listed level by level.

use std::path::Path;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::{Error as PathError, Path as Key};
use object_store::{Error, ObjectMeta, ObjectStore};

use crate::transfer::quirks;
use crate::transfer::stores::StoreCapabilities;

mod levels;
mod page;
mod ranges;

pub(crate) use levels::list_by_level;

/// Finding of a listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Listed {
    /// An object. It can be a directory marker, without the closing slash.
    Object(ObjectMeta),
    /// A key that is not a valid path.
    OddKey {
        /// The key.
        key: String,
        /// Explanation for a user.
        reason: String,
    },
    /// A directory of which some objects are not listed, because one of its keys is odd.
    Incomplete {
        /// Prefix of the keys, with a slash.
        prefix: String,
        /// Explanation for a user.
        reason: String,
    },
}

/// Lists the objects below a prefix, in no particular order. Holds a few pages in memory. Large
/// prefixes are listed in parallel ranges on stores that have [`StoreCapabilities::pages`].
///
/// After an odd key, an object can appear twice.
///
/// # Errors
/// The stream ends after an error of the store. An odd key is no error.
pub fn list_pages<'s>(
    store: &'s dyn ObjectStore,
    capabilities: &'s StoreCapabilities,
    prefix: &Key,
) -> BoxStream<'s, Result<Listed, Error>> {
    let prefix = prefix.clone();
    let pages = match &capabilities.pages {
        Some(pages) => ranges::list(store, &**pages, prefix),
        None => list_at_once(store, capabilities.root.as_deref(), prefix),
    };
    flatten(pages)
}

/// Batches of findings.
pub(crate) type Pages<'s> = BoxStream<'s, Result<Vec<Listed>, Error>>;

/// Turns batches into single findings. The stream ends after an error.
pub(crate) fn flatten(pages: Pages<'_>) -> BoxStream<'_, Result<Listed, Error>> {
    let listed = pages.flat_map(|page| match page {
        Ok(page) => stream::iter(page).map(Ok).left_stream(),
        Err(error) => stream::once(async { Err(error) }).right_stream(),
    });
    let until_error = listed.scan(false, |has_failed, listed| {
        let next = (!*has_failed).then_some(listed);
        *has_failed |= matches!(next, Some(Err(_)));
        std::future::ready(next)
    });
    until_error.boxed()
}

/// Range of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// Greatest key before the range.
    after: Option<String>,
    /// Greatest key of the range.
    until: Option<String>,
}

impl Bounds {
    fn contains(&self, key: &str) -> bool {
        self.is_after(key) && !self.is_beyond(key)
    }

    /// Returns whether the range can contain keys below a prefix with a slash.
    fn overlaps(&self, prefix: &str) -> bool {
        let last = format!("{prefix}\u{10ffff}");
        self.is_after(&last) && self.until.as_deref().is_none_or(|until| until > prefix)
    }

    fn is_after(&self, key: &str) -> bool {
        self.after.as_deref().is_none_or(|after| key > after)
    }

    fn is_beyond(&self, key: &str) -> bool {
        self.until.as_deref().is_some_and(|until| key > until)
    }
}

/// Lists with one call. After an odd key, everything is listed again by level, because the store
/// may list in no order, as the local disk does.
fn list_at_once<'s>(store: &'s dyn ObjectStore, root: Option<&'s Path>, prefix: Key) -> Pages<'s> {
    /// Objects in one batch.
    const BATCH: usize = 1_000;

    enum State<'s> {
        AtOnce(BoxStream<'s, Vec<Result<ObjectMeta, Error>>>),
        ByLevel(Pages<'s>),
    }

    let listing = store.list(Some(&prefix)).ready_chunks(BATCH).boxed();
    let next = move |state: State<'s>| {
        let prefix = prefix.clone();
        async move {
            let mut listing = match state {
                State::ByLevel(mut pages) => {
                    return pages.next().await.map(|page| (page, State::ByLevel(pages)));
                }
                State::AtOnce(listing) => listing,
            };
            let mut page = Vec::new();
            for meta in listing.next().await? {
                match meta {
                    Ok(meta) => page.push(Listed::Object(meta)),
                    Err(error) if quirks::is_invalid_key_in_listing(&error) => {
                        let pages = list_by_level(store, root, prefix, Bounds::default());
                        return Some((Ok(page), State::ByLevel(pages)));
                    }
                    Err(error) => return Some((Err(error), State::AtOnce(listing))),
                }
            }
            Some((Ok(page), State::AtOnce(listing)))
        }
    };
    stream::unfold(State::AtOnce(listing), next).boxed()
}

/// Order of the listed keys.
#[derive(Clone, Debug, Default)]
struct Order {
    last: Option<String>,
    is_broken: bool,
}

impl Order {
    fn note(&mut self, meta: &ObjectMeta) {
        let key = meta.location.as_ref();
        let Some(last) = &mut self.last else {
            self.last = Some(key.to_owned());
            return;
        };
        if key > last.as_str() {
            key.clone_into(last);
        } else if meta.size == 0 && format!("{key}/") > *last {
            // The key of a directory marker is listed without its slash.
            *last = format!("{key}/");
        } else if key != last.as_str() {
            self.is_broken = true;
        }
    }

    /// Returns the last key, if the keys came in order.
    fn last(&self) -> Option<&str> {
        self.last.as_deref().filter(|_| !self.is_broken)
    }
}

/// Returns the key that is not a valid path.
fn odd_key(error: &Error) -> Option<&str> {
    match error {
        Error::InvalidPath {
            source: PathError::EmptySegment { path } | PathError::BadSegment { path, .. },
        } => Some(path),
        _ => None,
    }
}

/// Returns a valid key after which no key has the flaw of this one. All keys from the odd one up to
/// the returned one are odd.
fn successor(odd: &str) -> Option<Key> {
    let mut start = 0;
    for segment in odd.split('/') {
        let end = start + segment.len();
        let next = if let Some(at) = segment.find(|character: char| character.is_ascii_control()) {
            let is_delete = segment[at..].starts_with('\u{7f}');
            Some(format!("{}{}", &odd[..start + at], if is_delete { '\u{80}' } else { ' ' }))
        } else if matches!(segment, "" | "." | "..") {
            // A key that goes on has a slash here, and `0` follows the slash.
            let is_last = end == odd.len() && !segment.is_empty();
            Some(format!("{}{}", &odd[..end], if is_last { ' ' } else { '0' }))
        } else {
            None
        };
        if let Some(next) = next {
            return Key::parse(&next).ok().filter(|key| key.as_ref() == next);
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_between_an_odd_key_and_its_successor_is_odd() {
        for (odd, expected) in [
            ("p//x", "p/0"),
            ("p/x//", "p/x/0"),
            ("p/./x", "p/.0"),
            ("p/..", "p/.. "),
            ("p/tab\there", "p/tab "),
            ("p/\u{7f}", "p/\u{80}"),
            ("p/a/é\n/b", "p/a/é "),
        ] {
            assert!(Key::parse(odd).is_err(), "{odd:?}");
            let next = successor(odd).unwrap();
            assert_eq!(next.as_ref(), expected);
            for tail in ["", " ", "!", ".", "/", "0", "\u{10ffff}"] {
                let between = format!("{odd}{tail}");
                if between.as_str() < next.as_ref() {
                    assert!(Key::parse(&between).is_err(), "{between:?}");
                }
            }
        }
        assert_eq!(successor("p/valid"), None);
    }
}

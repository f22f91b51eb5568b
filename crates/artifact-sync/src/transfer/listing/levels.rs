//! Listing level by level, for stores without access to single pages.

use std::path::Path;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use sandbox_core::internal::blocking;
use sandbox_core::with_causes;

use super::{Bounds, Listed, Pages, odd_key, successor};
use crate::transfer::quirks;

/// Objects in one batch.
const BATCH: usize = 1_000;

/// Lists a prefix level by level. Of a level with an odd key, the objects that follow are listed;
/// on the local disk, whose root is given, all are.
pub(crate) fn list_by_level<'s>(
    store: &'s dyn ObjectStore,
    root: Option<&'s Path>,
    prefix: Key,
    bounds: Bounds,
) -> Pages<'s> {
    let levels = Levels { store, root, bounds, rest: vec![prefix], resumed: None };
    let pages = stream::unfold(levels, |mut levels| async {
        let page = levels.next().await?;
        Some((page, levels))
    });
    pages.boxed()
}

struct Levels<'s> {
    store: &'s dyn ObjectStore,
    root: Option<&'s Path>,
    bounds: Bounds,
    rest: Vec<Key>,
    /// Objects of a level behind an odd key.
    resumed: Option<Resumed<'s>>,
}

struct Resumed<'s> {
    level: Key,
    /// Key from which the listing was resumed.
    from: Key,
    objects: BoxStream<'s, Vec<Result<ObjectMeta, Error>>>,
}

impl<'s> Levels<'s> {
    async fn next(&mut self) -> Option<Result<Vec<Listed>, Error>> {
        if let Some(mut resumed) = self.resumed.take()
            && let Some(batch) = resumed.objects.next().await
        {
            return Some(self.take(batch, resumed).await);
        }
        let level = self.rest.pop()?;
        match self.store.list_with_delimiter(Some(&level)).await {
            Ok(listed) => {
                let below = listed.common_prefixes.into_iter();
                let below = below.filter(|below| {
                    below.as_ref().len() > level.as_ref().len()
                        && self.bounds.overlaps(&format!("{below}/"))
                });
                self.rest.extend(below);
                let objects = listed.objects.into_iter();
                Some(Ok(objects.filter_map(|meta| self.within(meta)).collect()))
            }
            Err(error) if quirks::is_invalid_key_in_listing(&error) => match self.root {
                Some(root) => Some(self.read_directory(root, &level, &error).await),
                None => Some(self.skip(level, None, &error).await),
            },
            Err(error) => Some(Err(error)),
        }
    }

    fn within(&self, meta: ObjectMeta) -> Option<Listed> {
        self.bounds.contains(meta.location.as_ref()).then_some(Listed::Object(meta))
    }

    /// Takes a batch of objects behind an odd key, up to the next odd key.
    async fn take(
        &mut self,
        batch: Vec<Result<ObjectMeta, Error>>,
        resumed: Resumed<'s>,
    ) -> Result<Vec<Listed>, Error> {
        let mut page = Vec::new();
        for meta in batch {
            match meta {
                // Some servers ignore the offset.
                Ok(meta) if meta.location > resumed.from => page.extend(self.within(meta)),
                Ok(_) => {}
                Err(error) if quirks::is_invalid_key_in_listing(&error) => {
                    page.extend(self.skip(resumed.level, Some(&resumed.from), &error).await?);
                    return Ok(page);
                }
                Err(error) => return Err(error),
            }
        }
        self.resumed = Some(resumed);
        Ok(page)
    }

    /// Reports an odd key, and resumes the listing of its level behind it.
    async fn skip(
        &mut self,
        level: Key,
        resumed_from: Option<&Key>,
        error: &Error,
    ) -> Result<Vec<Listed>, Error> {
        let reason = with_causes(error);
        let odd = odd_key(error);
        let next = odd.and_then(successor);
        if resumed_from.is_some_and(|from| next.as_ref().is_none_or(|next| next <= from)) {
            // The store ignores offsets, so it fails with the same key again.
            return Ok(Vec::new());
        }
        let mut page = Vec::new();
        if let Some(key) = odd.filter(|key| self.bounds.contains(key)) {
            page.push(Listed::OddKey { key: key.to_owned(), reason: reason.clone() });
        }
        if resumed_from.is_none() {
            page.push(Listed::Incomplete { prefix: format!("{level}/"), reason });
        }
        if let Some(from) = next {
            // The listing excludes its offset.
            match self.store.head(&from).await {
                Ok(meta) => page.extend(self.within(meta)),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            let objects = self.store.list_with_offset(Some(&level), &from);
            let objects = objects.ready_chunks(BATCH).boxed();
            self.resumed = Some(Resumed { level, from, objects });
        }
        Ok(page)
    }

    /// Lists one directory of a local store that contains an odd name. Symlinks are not followed.
    async fn read_directory(
        &mut self,
        root: &Path,
        level: &Key,
        error: &Error,
    ) -> Result<Vec<Listed>, Error> {
        let path = root.join(level.as_ref());
        let entries = blocking(move || {
            let entries = std::fs::read_dir(path)?;
            entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.file_type()))).collect()
        });
        let entries: Vec<_> = match entries.await {
            Ok(entries) => entries,
            Err(source) => {
                let source: std::io::Error = source;
                let reason = format!("{}: {source}", with_causes(error));
                return Ok(vec![Listed::Incomplete { prefix: format!("{level}/"), reason }]);
            }
        };
        let mut page = Vec::new();
        for (name, kind) in entries {
            let text = match level.as_ref() {
                "" => name.to_string_lossy().into_owned(),
                level => format!("{level}/{}", name.to_string_lossy()),
            };
            let key = name.to_str().and_then(|_| Key::parse(&text).ok());
            let odd =
                |reason: &str| Listed::OddKey { key: text.clone(), reason: reason.to_owned() };
            let (key, kind) = match (key, kind) {
                (Some(key), Ok(kind)) => (key, kind),
                (Some(_), Err(error)) => {
                    page.push(odd(&error.to_string()));
                    continue;
                }
                (None, _) => {
                    page.push(odd("its name has a character that object keys cannot have"));
                    continue;
                }
            };
            if kind.is_dir() {
                self.rest.push(key);
            } else if !kind.is_file() {
                page.push(odd("it is not a regular file"));
            } else if !key.filename().is_some_and(quirks::is_upload_name) {
                match self.store.head(&key).await {
                    Ok(meta) => page.extend(self.within(meta)),
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => page.push(odd(&with_causes(&error))),
                }
            }
        }
        Ok(page)
    }
}

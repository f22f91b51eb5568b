//! One range of keys, page by page. An odd key is found by ever smaller pages, and skipped.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{Error, ObjectMeta};
use sandbox_core::with_causes;

use super::{Bounds, Listed, Order, odd_key};

/// Number of keys in a page of S3 and GCS. Azure's are larger.
const FULL_PAGE: usize = 1_000;

/// Lister of one range of keys.
pub(super) struct Pager<'s> {
    pub(super) store: &'s dyn PaginatedListStore,
    /// Prefix of all keys, which is empty or ends with a slash.
    pub(super) prefix: String,
    /// Range of the keys. Its beginning moves behind each odd key.
    pub(super) bounds: Bounds,
    pub(super) order: Order,
    pub(super) position: Position,
}

/// Place at which the listing goes on.
#[derive(Clone, Debug)]
pub(super) enum Position {
    /// The beginning of the bounds.
    Bounds,
    /// The page of a token, which is a full one.
    Token(String),
    /// Around an odd key, with small pages from the beginning of the bounds.
    Hunt(Hunt),
    End,
}

/// Search for an odd key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hunt {
    keys: usize,
    /// Set once the odd key is behind, so that the pages grow again.
    is_growing: bool,
}

impl Hunt {
    /// After a page that has failed, or succeeded on the way to the odd key, that key is among the
    /// next `keys`.
    const fn closer(keys: usize) -> Self {
        Self { keys: if keys > 1 { keys / 2 } else { 1 }, is_growing: false }
    }
}

/// Result of a step.
pub(super) enum Step {
    Page(Vec<Listed>),
    /// The store lists in no order or ignores offsets, so an odd key cannot be skipped.
    Stuck,
    End,
}

impl<'s> Pager<'s> {
    pub(super) fn new(store: &'s dyn PaginatedListStore, prefix: String, bounds: Bounds) -> Self {
        Self { store, prefix, bounds, order: Order::default(), position: Position::Bounds }
    }

    pub(super) async fn step(&mut self) -> Result<Step, Error> {
        let (token, max_keys) = match &self.position {
            Position::Bounds => (None, None),
            Position::Token(token) => (Some(token.clone()), None),
            Position::Hunt(hunt) => (None, Some(hunt.keys)),
            Position::End => return Ok(Step::End),
        };
        let offset = if token.is_none() { self.bounds.after.clone() } else { None };
        let has_offset = offset.is_some();
        let options = PaginatedListOptions {
            offset,
            max_keys,
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        match self.store.list_paginated(prefix, options).await {
            Ok(page) => Ok(self.take(page.result.objects, page.page_token, has_offset)),
            Err(error @ Error::InvalidPath { .. }) => Ok(self.hunt(&error)),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, objects: Vec<ObjectMeta>, token: Option<String>, has_offset: bool) -> Step {
        let is_hunting = matches!(self.position, Position::Hunt(_));
        if is_hunting && has_offset && !objects.is_empty() && !self.has_progress(&objects) {
            return Step::Stuck;
        }
        objects.iter().for_each(|meta| self.order.note(meta));
        let is_beyond = self.order.last().is_some_and(|last| self.bounds.is_beyond(last));
        let within = |meta: &ObjectMeta| self.bounds.contains(meta.location.as_ref());
        let page = objects.into_iter().filter(within).map(Listed::Object).collect();
        self.position = match (token, &self.position) {
            (None, _) => Position::End,
            _ if is_beyond => Position::End,
            (Some(_), Position::Hunt(hunt)) => {
                let hunt = *hunt;
                self.bounds.after = self.order.last().map(str::to_owned);
                match hunt {
                    Hunt { is_growing: false, keys } => Position::Hunt(Hunt::closer(keys)),
                    Hunt { keys, .. } if keys >= FULL_PAGE / 2 => Position::Bounds,
                    Hunt { keys, .. } => Position::Hunt(Hunt { keys: 2 * keys, is_growing: true }),
                }
            }
            (Some(token), _) => Position::Token(token),
        };
        Step::Page(page)
    }

    /// Returns whether the store has honoured the offset.
    fn has_progress(&self, objects: &[ObjectMeta]) -> bool {
        objects.iter().any(|meta| {
            let key = meta.location.as_ref();
            // A directory marker is listed without its slash, so it appears once more.
            let is_marker = meta.size == 0 && self.bounds.after.as_deref() == Some(key);
            is_marker || self.bounds.is_after(key)
        })
    }

    fn hunt(&mut self, error: &Error) -> Step {
        let Some(odd) = odd_key(error) else { return Step::Stuck };
        let keys = match &self.position {
            Position::Hunt(hunt) => hunt.keys,
            _ => {
                // Everything up to here was listed.
                if self.order.is_broken {
                    return Step::Stuck;
                }
                if let Some(last) = self.order.last().filter(|last| self.bounds.is_after(last)) {
                    self.bounds.after = Some(last.to_owned());
                }
                FULL_PAGE
            }
        };
        if !self.bounds.is_after(odd) || self.order.is_broken {
            return Step::Stuck;
        }
        if keys > 1 {
            self.position = Position::Hunt(Hunt::closer(keys));
            return Step::Page(Vec::new());
        }
        if self.bounds.is_beyond(odd) {
            self.position = Position::End;
            return Step::End;
        }
        self.bounds.after = Some(odd.to_owned());
        self.position = Position::Hunt(Hunt { keys: 1, is_growing: true });
        Step::Page(vec![Listed::OddKey { key: odd.to_owned(), reason: with_causes(error) }])
    }

    /// Lists the range. If it is stuck, `fallback` lists the rest of the bounds.
    pub(super) fn into_pages(
        self,
        fallback: impl Fn(Bounds) -> super::Pages<'s> + Clone + Send + 's,
    ) -> super::Pages<'s> {
        enum State<'s> {
            Pager(Pager<'s>),
            Fallback(BoxStream<'s, Result<Vec<Listed>, Error>>),
        }

        let next = move |state: State<'s>| {
            let fallback = fallback.clone();
            async move {
                let mut rest = match state {
                    State::Fallback(rest) => rest,
                    State::Pager(mut pager) => match pager.step().await {
                        Ok(Step::Page(page)) => return Some((Ok(page), State::Pager(pager))),
                        Ok(Step::End) => return None,
                        Ok(Step::Stuck) => fallback(pager.bounds),
                        Err(error) => {
                            pager.position = Position::End;
                            return Some((Err(error), State::Pager(pager)));
                        }
                    },
                };
                let page = rest.next().await?;
                Some((page, State::Fallback(rest)))
            }
        };
        stream::unfold(State::Pager(self), next).boxed()
    }
}

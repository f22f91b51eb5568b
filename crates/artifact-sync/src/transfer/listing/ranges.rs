//! A large prefix in parallel ranges of keys.

use std::borrow::Cow;

use futures::StreamExt;
use futures::stream;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore};

use super::page::{Pager, Position, Step};
use super::{Bounds, Listed, Pages, list_by_level};

/// Ranges that are listed at the same time.
const RANGES: usize = 8;
/// Nested directories that are searched for directories to split at.
const MAX_DESCENT: usize = 3;

/// Lists a prefix. If the first page is not the last one, the rest is split at directories.
pub(super) fn list<'s>(
    store: &'s dyn ObjectStore,
    pages: &'s dyn PaginatedListStore,
    prefix: Key,
) -> Pages<'s> {
    let text = if prefix.as_ref().is_empty() { String::new() } else { format!("{prefix}/") };
    let fallback = move |bounds| list_by_level(store, None, prefix.clone(), bounds);
    let rest = async move {
        let mut first = Pager::new(pages, text.clone(), Bounds::default());
        let page = match first.step().await {
            Ok(Step::Page(page)) => page,
            Ok(Step::End) => Vec::new(),
            Ok(Step::Stuck) => return fallback(Bounds::default()),
            Err(error) => return one(Err(error)),
        };
        let boundaries = match (&first.position, first.order.last()) {
            // The listing splits only where everything is in order.
            (Position::Token(_), Some(last)) => boundaries(pages, &text, last).await,
            _ => Vec::new(),
        };
        let mut ranges = Vec::new();
        let untils = boundaries.iter().skip(1).map(|until| Some(until.clone())).chain([None]);
        for (after, until) in boundaries.iter().zip(untils) {
            let bounds = Bounds { after: Some(after.clone()), until };
            ranges.push(Pager::new(pages, text.clone(), bounds));
        }
        first.bounds.until = boundaries.first().cloned();
        ranges.insert(0, first);
        let ranges = ranges.into_iter().map(move |range| range.into_pages(fallback.clone()));
        let rest = stream::iter(ranges).flatten_unordered(RANGES);
        one(Ok(page)).chain(rest).boxed()
    };
    stream::once(rest).flatten().boxed()
}

fn one<'s>(page: Result<Vec<Listed>, Error>) -> Pages<'s> {
    stream::once(std::future::ready(page)).boxed()
}

/// Returns directories after a key that split the rest, in order. This only saves time, so a
/// failure counts as none.
async fn boundaries(store: &dyn PaginatedListStore, prefix: &str, after: &str) -> Vec<String> {
    let mut directory = prefix.to_owned();
    for _ in 0..MAX_DESCENT {
        let options = PaginatedListOptions {
            offset: Some(after.to_owned()),
            delimiter: Some(Cow::Borrowed("/")),
            ..PaginatedListOptions::default()
        };
        let at = Some(directory.as_str()).filter(|directory| !directory.is_empty());
        let Ok(listed) = store.list_paginated(at, options).await else { return Vec::new() };
        let below = listed.result.common_prefixes.into_iter().map(|below| format!("{below}/"));
        // Stores agree on the order of ASCII only.
        let mut below: Vec<String> = below
            .filter(|below| below.is_ascii() && *below > directory && below.as_str() > after)
            .collect();
        below.sort_unstable();
        below.dedup();
        match <[String; 1]>::try_from(below) {
            Ok([only]) => directory = only,
            Err(below) => return spread(&below),
        }
    }
    Vec::new()
}

/// Selects boundaries of equal distance.
fn spread(all: &[String]) -> Vec<String> {
    let count = all.len().min(RANGES - 1);
    (0..count).map(|number| all[number * all.len() / count].clone()).collect()
}

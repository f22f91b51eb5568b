//! Compares the public items of each published crate with a committed list in `docs/api`.
//!
//! The lists come from rustdoc's pages, which a stable toolchain writes; its JSON needs a nightly
//! one. A page has the declaration of an item, its methods and the traits that it implements.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::metadata::Metadata;
use crate::peers;
use crate::step::{Ended, Outcome, Runner};

/// Folder of the lists.
const LISTS: &str = "docs/api";
/// Variable that rewrites the lists.
const UPDATE: &str = "UPDATE_GOLDEN";
/// Sections of a page that begin after the item's own ones.
const OTHER_SECTIONS: [&str; 3] = [
    "id=\"trait-implementations\"",
    "id=\"synthetic-implementations\"",
    "id=\"blanket-implementations\"",
];
/// Sections with own members of an item.
const MEMBERS: [&str; 5] = [
    "id=\"method.",
    "id=\"tymethod.",
    "id=\"associatedconstant.",
    "id=\"associatedtype.",
    "id=\"variant.",
];

/// Compares the pages, which the step `doc` writes.
pub(crate) fn check(runner: &mut Runner) -> Outcome {
    crate::ci::doc(runner)?;
    let failed = |error: std::io::Error| Ended::Failed(error.to_string());
    let pages = peers::target(runner.workspace()).join("doc");
    let lists = runner.workspace().join(LISTS);
    let mut changed = Vec::new();
    for package in Metadata::read(runner)?.members.iter().filter(|package| package.is_published) {
        let pages = pages.join(package.name.replace('-', "_"));
        let found = items(&pages, &package.name).map_err(failed)?;
        let file = lists.join(format!("{}.txt", package.name));
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(&lists).map_err(failed)?;
            fs::write(&file, &found).map_err(failed)?;
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        changed.extend(differences(&listed, &found));
    }
    if changed.is_empty() {
        return Ok(());
    }
    changed.push(format!("`{UPDATE}=1 cargo xtask ci api` accepts the changes in {LISTS}"));
    Err(Ended::Failed(changed.join("\n    ")))
}

/// Returns the items of a crate with their members, a line each.
fn items(pages: &Path, name: &str) -> std::io::Result<String> {
    let index = fs::read_to_string(pages.join("all.html"))?;
    let mut lines = BTreeSet::new();
    for link in index.split("<li><a href=\"").skip(1) {
        let Some((page, _)) = link.split_once('"') else { continue };
        let path = page.trim_end_matches(".html");
        let (module, item) = path.rsplit_once('/').unwrap_or(("", path));
        let Some((_, item)) = item.split_once('.') else { continue };
        let module = if module.is_empty() { String::new() } else { format!("{module}::") };
        let path = format!("{name}::{}{item}", module.replace('/', "::"));
        lines.extend(
            members(&fs::read_to_string(pages.join(page))?)
                .into_iter()
                .map(|member| format!("{path}: {member}")),
        );
    }
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

/// Returns the declaration of the item on a page, its members, and the traits that it implements.
fn members(page: &str) -> Vec<String> {
    let own = OTHER_SECTIONS.iter().filter_map(|section| page.find(section)).min();
    let own = &page[..own.unwrap_or(page.len())];
    let mut found = Vec::new();
    let declaration = own.split_once("<pre class=\"rust item-decl\"><code>");
    if let Some((declaration, _)) = declaration.and_then(|(_, rest)| rest.split_once("</code>")) {
        found.push(text(declaration));
    }
    for section in own.split("<section ").skip(1) {
        if MEMBERS.iter().any(|member| section.starts_with(member)) {
            found.extend(header(section));
        }
    }
    let traits = page.split_once(OTHER_SECTIONS[0]).map_or("", |(_, rest)| rest);
    let end = OTHER_SECTIONS[1..].iter().filter_map(|section| traits.find(section)).min();
    let traits = &traits[..end.unwrap_or(traits.len())];
    let implementations = traits.split("<section id=\"impl-").skip(1).filter_map(header);
    found.extend(implementations.filter(|header| header.starts_with("impl")));
    found
}

/// Returns the first code header of a section.
fn header(section: &str) -> Option<String> {
    let (_, rest) = section.split_once("class=\"code-header\">")?;
    let (header, _) = rest.split_once("</h").filter(|(header, _)| !header.is_empty())?;
    Some(text(header))
}

/// Returns the text of HTML in one line. The bodies of folded parts are kept.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        text += before;
        rest = after.split_once('>').map_or("", |(_, rest)| rest);
    }
    text += rest;
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the lines that one of the lists lacks, at most ten.
fn differences(listed: &str, found: &str) -> Vec<String> {
    let (listed, found): (BTreeSet<&str>, BTreeSet<&str>) =
        (listed.lines().collect(), found.lines().collect());
    let gone = listed.difference(&found).map(|line| format!("- {line}"));
    let new = found.difference(&listed).map(|line| format!("+ {line}"));
    gone.chain(new).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_members_and_traits_of_a_page_are_found() {
        let header = |tag: &str, text: &str| {
            format!("<{tag} class=\"code-header\">{text}</{tag}></section>")
        };
        let page = [
            "<pre class=\"rust item-decl\"><code>pub struct <a>Host</a>(/* p */);</code></pre>",
            "<section id=\"method.parse\" class=\"method\">",
            &header("h4", "pub fn <a>parse</a>(text: &amp;<a>str</a>)"),
            "<h2 id=\"trait-implementations\"><section id=\"impl-Clone-for-Host\">",
            &header("h3", "impl Clone for Host"),
            "<section id=\"method.clone\">",
            &header("h4", "fn clone()"),
            "<h2 id=\"synthetic-implementations\"><section id=\"impl-Send-for-Host\">",
            &header("h3", "impl Send for Host"),
        ];
        let page = &page.concat();
        assert_eq!(
            members(page),
            ["pub struct Host(/* p */);", "pub fn parse(text: &str)", "impl Clone for Host"]
        );
    }

    #[test]
    fn differences_name_both_sides() {
        assert_eq!(differences("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
    }
}

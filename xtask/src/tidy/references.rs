//! References of the Markdown files: every test and path that they name in backticks exists, and so
//! does the target of every relative link. The changelog also names what no longer exists.

use std::collections::BTreeSet;

use super::Finding;
use super::repository::{Repository, SourceFile};

/// A name of so many words is taken for a test; names of settings are shorter.
const TEST_WORDS: usize = 4;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let functions = functions(repository);
    let mut findings = Vec::new();
    for file in repository.markdown() {
        let is_checked = file.path != "CHANGELOG.md";
        let mut is_fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            }
            if is_fenced {
                continue;
            }
            let names = line.split('`').skip(1).step_by(2).filter(|_| is_checked);
            let missing = names.filter_map(|name| missing_name(name, repository, &functions));
            let links = link_targets(line).filter_map(|link| missing_link(link, file, repository));
            let messages: Vec<_> = missing.chain(links).collect();
            findings.extend(
                messages.into_iter().map(|message| Finding::new(&file.path, index + 1, message)),
            );
        }
    }
    findings
}

/// Names of all functions, among them the tests.
fn functions(repository: &Repository) -> BTreeSet<&str> {
    let mut functions = BTreeSet::new();
    for line in repository.rust().flat_map(|file| &file.scan.code) {
        let mut words =
            line.split(|character: char| !(character.is_alphanumeric() || character == '_'));
        if words.any(|word| word == "fn") {
            functions.extend(words.next());
        }
    }
    functions
}

/// Returns a message if a name in backticks is a test or a path, and does not exist.
fn missing_name(name: &str, repository: &Repository, functions: &BTreeSet<&str>) -> Option<String> {
    if let Some(end) = name.strip_prefix('…').filter(|end| is_snake_case(end)) {
        let exists = functions.iter().any(|function| function.ends_with(end));
        return (!exists).then(|| format!("no test has a name that ends with `{end}`"));
    }
    if is_test_name(name) {
        return (!functions.contains(name)).then(|| format!("there is no test `{name}`"));
    }
    let is_plain = |character: char| character.is_alphanumeric() || "_-./".contains(character);
    if !name.chars().all(is_plain) || name.starts_with(['/', '.']) && !name.starts_with(".ci/") {
        return None;
    }
    // `NAME` stands for any name.
    if name.split(['/', '.']).any(|part| part == "NAME") {
        return None;
    }
    let first = name.split('/').next().unwrap_or_default();
    let is_path = name.ends_with(".rs")
        || name.contains('/') && ["crates", "xtask", "docs", ".ci"].contains(&first);
    let exists = repository.files().any(|file| has_path(&file.path, name));
    (is_path && !exists).then(|| format!("there is no file `{name}`"))
}

fn is_test_name(name: &str) -> bool {
    name.split('_').count() >= TEST_WORDS && is_snake_case(name)
}

fn is_snake_case(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns whether `name` is the path, its end, or a directory on the way to it.
fn has_path(path: &str, name: &str) -> bool {
    let directory = format!("{}/", name.trim_end_matches('/'));
    path == name || path.ends_with(&format!("/{name}")) || path.starts_with(&directory)
}

/// The targets of a line's links, as in `[text](target)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// Returns a message if a relative link leads nowhere.
fn missing_link(link: &str, file: &SourceFile, repository: &Repository) -> Option<String> {
    let target = link.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut path: Vec<&str> = file.path.split('/').collect();
    path.pop();
    for component in target.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            path.pop();
        } else {
            path.push(component);
        }
    }
    let path = path.join("/");
    let directory = format!("{path}/");
    let exists = |file: &SourceFile| file.path == path || file.path.starts_with(&directory);
    (!repository.files().any(exists)).then(|| format!("the link to {target} leads nowhere"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: (&str, &str) =
        ("crates/a/src/b.rs", "    async fn a_b_c_is_d() {}\nfn short() {}\n");

    #[track_caller]
    fn messages(path: &str, text: &str, expected: &[&str]) {
        let findings = check(&Repository::of(&[SOURCE, (path, text)]));
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        messages("ARCHITECTURE.md", "Held by `a_b_c_is_d`, `…_c_is_d`.\n", &[]);
        messages("docs/x.md", "Held by `a_b_c_is_e`.\n", &["there is no test `a_b_c_is_e`"]);
        let ending = "no test has a name that ends with `_c_is_e`";
        messages("ARCHITECTURE.md", "And `…_c_is_e`.\n", &[ending]);
        messages("ARCHITECTURE.md", "`no_new_privs`, `kernel.a_b_c_d`, `A_B_C_D`\n", &[]);
    }

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        let good =
            "`crates/a/src/b.rs` `src/b.rs` `b.rs` `crates/a` `/etc/x.rs` `skills/x/SKILL.md`\n";
        messages("ARCHITECTURE.md", good, &[]);
        messages("ARCHITECTURE.md", "`src/c.rs`\n", &["there is no file `src/c.rs`"]);
        messages("ARCHITECTURE.md", "`crates/c`\n", &["there is no file `crates/c`"]);
        messages("CHANGELOG.md", "`src/c.rs` `a_b_c_is_e`\n", &[]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        messages("docs/x.md", "[a](../crates/a/src/b.rs) [b](https://x.org) [c](#d)\n", &[]);
        messages("docs/x.md", "[a](crates/a)\n", &["the link to crates/a leads nowhere"]);
        messages("README.md", "[a](docs/y.md#z)\n", &["the link to docs/y.md leads nowhere"]);
    }
}

//! Words and phrases of `words.txt`, which stands beside this file, in comments, texts and
//! Markdown. Names in backticks are left to [`super::names`].

use super::Finding;
use super::repository::{Repository, SourceFile};
use crate::scan::{Block, Style, line_at};

const WORDS: &str = include_str!("words.txt");

/// The rule's own tests consist of what it forbids.
const OWN: &str = "xtask/src/tidy/";

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let words = entries(WORDS);
    let mut findings = Vec::new();
    for file in repository.rust() {
        let texts = file.scan.literals.iter().filter(|literal| is_text(literal, &file.path));
        for block in file.scan.comments.iter().chain(texts) {
            findings.extend(matches(block, &words, file));
        }
    }
    for file in repository.markdown() {
        for block in paragraphs(&file.text) {
            findings.extend(matches(&block, &words, file));
        }
    }
    findings
}

/// Splits a list into phrases and remedies.
pub(super) fn entries(list: &'static str) -> Vec<(&'static str, &'static str)> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).collect()
}

/// Returns the paragraphs of a Markdown file without its code blocks.
pub(super) fn paragraphs(text: &str) -> Vec<Block> {
    let (mut blocks, mut lines, mut is_fenced) = (Vec::new(), Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fence || is_fenced || line.trim().is_empty() {
            blocks.push(Block { style: Style::Plain, lines: std::mem::take(&mut lines) });
        } else {
            lines.push((index + 1, line.to_owned()));
        }
    }
    blocks.push(Block { style: Style::Plain, lines });
    blocks.retain(|block| !block.lines.is_empty());
    blocks
}

/// Returns whether a literal is text for people: a name or a key has no spaces.
fn is_text(literal: &Block, path: &str) -> bool {
    literal.lines.iter().any(|(_, line)| line.trim().contains(' ')) && !path.starts_with(OWN)
}

fn matches(block: &Block, words: &[(&str, &str)], file: &SourceFile) -> Vec<Finding> {
    let (text, starts) = block.joined();
    let text = without_code(&text).to_ascii_lowercase();
    let mut findings = Vec::new();
    for (phrase, remedy) in words {
        for offset in whole_words(&text, phrase) {
            let message = format!("{phrase:?}: {remedy}");
            findings.push(Finding::new(&file.path, line_at(&starts, offset), message));
        }
    }
    findings
}

/// Replaces what stands in backticks by as many spaces.
fn without_code(text: &str) -> String {
    let blank = |(index, part): (usize, &str)| match index % 2 {
        0 => part.to_owned(),
        _ => " ".repeat(part.len()),
    };
    text.split('`').enumerate().map(blank).collect::<Vec<_>>().join("`")
}

/// Returns the offsets at which a phrase stands between characters that are no part of a word.
pub(super) fn whole_words(text: &str, phrase: &str) -> Vec<usize> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let is_whole = |offset: &usize| {
        let after = &text[offset + phrase.len()..];
        let is_open = phrase.ends_with(is_word) && after.starts_with(is_word);
        !is_open && !text[..*offset].ends_with(is_word)
    };
    text.match_indices(phrase).map(|(offset, _)| offset).filter(is_whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn lines(path: &str, text: &str, expected: &[usize]) {
        let findings = check(&Repository::of(&[(path, text)]));
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_word_of_the_list_is_found_in_comments_texts_and_markdown() {
        lines("a.rs", "// Somebody writes.\nlet a = \"nobody reads\"; /// Whoever\n", &[1, 2, 2]);
        lines("a.md", "A file.\n\nThe caller, for one, is nobody.\n", &[3, 3]);
    }

    #[test]
    fn a_phrase_is_found_across_lines() {
        lines("a.rs", "// Files come\n// into being.\n", &[1]);
        lines("a.md", "One line. Files come\ninto being.\n", &[1]);
    }

    #[test]
    fn code_names_and_parts_of_words_are_accepted() {
        lines("a.rs", "let nobody = \"nobody\"; // `nobody` is a user; busybody\n", &[]);
        lines("a.md", "```\nnobody writes\n```\n`nobody`\n", &[]);
    }

    #[test]
    fn every_entry_of_the_list_has_a_remedy() {
        let lines = WORDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(lines.count(), entries(WORDS).len());
    }
}

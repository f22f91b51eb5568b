//! Names of files and texts that other systems or readers see differently.

use std::collections::HashMap;

use sandbox_core::RelativePath;
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

use crate::archive::{ArchiveError, beginning};

/// Returns whether a name has a character that hides or reorders text.
pub(crate) fn has_deceptive(name: &str) -> bool {
    marked(name).any(|(_, is_deceptive)| is_deceptive)
}

/// Returns whether a text of several lines has a character that hides or reorders text.
pub(crate) fn has_deceptive_in_text(text: &str) -> bool {
    marked(text).any(|(character, is_deceptive)| is_deceptive && !is_layout(character))
}

/// Returns a text of several lines without the characters that hide or reorder text.
pub(crate) fn without_deceptive(text: &str) -> String {
    let kept =
        marked(text).filter(|(character, is_deceptive)| !is_deceptive || is_layout(*character));
    kept.map(|(character, _)| character).collect()
}

fn is_layout(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\t')
}

/// Returns each character, with `true` for one that hides or reorders text.
fn marked(text: &str) -> impl Iterator<Item = (char, bool)> {
    let before = [None].into_iter().chain(text.chars().map(Some));
    text.chars().zip(before).map(|(character, before)| {
        let is_joined = before.is_some_and(|before| joins(before, character));
        (character, is_invisible(character) && !is_joined)
    })
}

/// Returns whether a character has no shape of its own, or changes the direction of text: control
/// characters, and those with the property `Default_Ignorable_Code_Point` (UAX #44) or a mandatory
/// line break (UAX #14).
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns whether an invisible character belongs to the one before it: a joiner or a non-joiner of
/// a script, or the style of an emoji.
fn joins(before: char, character: char) -> bool {
    let is_keycap = matches!(before, '0'..='9' | '#' | '*');
    let is_shape = !before.is_ascii() && !is_invisible(before);
    match character {
        '\u{200c}' => is_shape,
        '\u{200d}' => is_shape || before == '\u{fe0f}',
        '\u{fe0e}' | '\u{fe0f}' => is_shape || is_keycap,
        _ => false,
    }
}

/// Returns a text that two names share if a file system without cases takes them for one: the
/// canonical caseless match of the Unicode Standard (section 3.13, D145).
fn folded(name: &str) -> String {
    let decomposed: String = name.nfd().collect();
    UniCase::unicode(decomposed).to_folded_case().nfd().collect()
}

/// The names of a skill's files as a file system without cases sees them.
#[derive(Default)]
pub(crate) struct Names(HashMap<String, (String, bool)>);

impl Names {
    /// Adds a file or a directory, and the directories above it.
    ///
    /// # Errors
    /// Returns [`ArchiveError::Collision`] if another name is the same on some systems, and
    /// [`ArchiveError::FileAndDirectory`] if one is both.
    pub(crate) fn add(
        &mut self,
        path: &RelativePath,
        is_directory: bool,
    ) -> Result<(), ArchiveError> {
        let mut at = Some((path.clone(), is_directory));
        while let Some((path, is_directory)) = at {
            let folded = folded(path.as_str());
            let known = self.0.get(&folded);
            if known.is_some_and(|known| known.0 != path.as_str() || !(known.1 && is_directory)) {
                if known.is_some_and(|known| known.0 == path.as_str() && known.1 != is_directory) {
                    let name = beginning(path.as_str());
                    return Err(ArchiveError::FileAndDirectory { name });
                }
                let first = known.map(|known| beginning(&known.0)).unwrap_or_default();
                let second = beginning(path.as_str());
                return Err(ArchiveError::Collision { first, second });
            }
            self.0.insert(folded, (path.as_str().to_owned(), is_directory));
            at = path.parent().map(|parent| (parent, true));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_hide_text_are_deceptive_and_those_of_scripts_are_not() {
        for hidden in [
            "a\u{200b}b",
            "a\u{ad}b",
            "a\u{2060}b",
            "\u{feff}a",
            "a\u{3164}b",
            "a\u{115f}b",
            "a\u{180e}b",
            "a\u{34f}b",
            "a\u{2028}b",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{200d}b",
            "a\u{fe0f}",
            "é\u{fe01}",
            "é\u{fe0f}\u{fe0f}",
            "a\u{e0041}b",
            "a\u{e0101}b",
            "a\0b",
        ] {
            assert!(has_deceptive(hidden) && has_deceptive_in_text(hidden), "{hidden:?}");
            assert!(!has_deceptive(&without_deceptive(hidden)), "{hidden:?}");
        }
        for plain in
            ["می\u{200c}خواهم", "❤\u{fe0f}\u{200d}🔥", "1\u{fe0f}\u{20e3}", "क्\u{200d}ष", "é"]
        {
            assert!(!has_deceptive(plain), "{plain:?}");
            assert_eq!(without_deceptive(plain), plain);
        }
        assert!(has_deceptive("a\nb") && !has_deceptive_in_text("a\n\tb\r\n"));
    }
}

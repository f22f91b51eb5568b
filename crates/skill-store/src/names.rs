//! Names of files and texts that other systems or readers see differently.

use std::collections::HashMap;

use sandbox_core::RelativePath;
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

use crate::archive::{ArchiveError, beginning};

/// Returns whether a character is invisible and changes how the text around it is shown: control
/// characters, and those that change the direction of text or end a line (UAX #9 and #14).
pub(crate) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Returns whether a character of a text of several lines is deceptive.
pub(crate) fn is_deceptive_in_text(character: char) -> bool {
    let ends_line = matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    !ends_line && character != '\t' && is_deceptive(character)
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
    /// Returns [`ArchiveError::Collision`] if another name is the same on some systems.
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

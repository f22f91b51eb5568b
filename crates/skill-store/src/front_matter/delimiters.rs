//! The lines `---` around the front matter.

use super::FrontMatterError;

/// Maximum size of the front matter in bytes.
const MAX_FRONT_MATTER: usize = 64 * 1024;

/// Returns the YAML between the two lines `---`.
pub(super) fn front_matter(skill_file: &[u8]) -> Result<&str, FrontMatterError> {
    let text = std::str::from_utf8(skill_file).map_err(|_| FrontMatterError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split_inclusive('\n');
    let first =
        lines.next().filter(|line| line.trim_end() == "---").ok_or(FrontMatterError::Absent)?;
    let mut end = first.len();
    for line in lines {
        if line.trim_end() == "---" {
            return Ok(&text[first.len()..end]);
        }
        end += line.len();
        if end > MAX_FRONT_MATTER {
            return Err(FrontMatterError::TooLarge);
        }
    }
    Err(FrontMatterError::Unclosed)
}

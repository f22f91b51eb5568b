//! Redaction of output that is passed on while a program writes it.

use secrets::{RedactionStream, Redactor, SecretString};

/// The maximum size of output that is shown after a pause although it may begin a value.
const SHOWN_BYTES: usize = 3;

/// The values that are replaced in output on its way.
///
/// The beginning of a value waits for its end. A program could read its own value from that, letter
/// by letter, so only values that programs have anyway are treated so. Masked ones are replaced
/// where a piece of output has them as a whole.
#[derive(Debug)]
pub(crate) struct OutputRedactor {
    known: Redactor,
    masked: Redactor,
}

/// The redaction of one stream of output.
#[derive(Debug)]
pub(crate) struct OutputRedaction {
    known: RedactionStream,
    masked: Option<Redactor>,
    decided: Vec<u8>,
}

impl OutputRedactor {
    pub(crate) fn of<'v>(
        values: impl Iterator<Item = (&'v str, &'v SecretString)> + Clone,
        is_masked: impl Fn(&str) -> bool,
    ) -> Self {
        let masked = Redactor::of(values.clone().filter(|(name, _)| is_masked(name)));
        Self { known: Redactor::of(values.filter(|(name, _)| !is_masked(name))), masked }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.masked.is_empty()
    }

    /// Begins a stream.
    pub(crate) fn redaction(&self) -> OutputRedaction {
        let masked = Some(&self.masked).filter(|masked| !masked.is_empty()).cloned();
        OutputRedaction { known: self.known.stream(), masked, decided: Vec::new() }
    }
}

impl OutputRedaction {
    /// Appends the output that can be passed on after a piece.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(masked) = &self.masked else { return self.known.push(piece, out) };
        self.decided.clear();
        self.known.push(piece, &mut self.decided);
        out.extend_from_slice(&masked.redact_bytes(&self.decided));
    }

    /// Returns whether output waits for more.
    pub(crate) fn is_holding(&self) -> bool {
        self.known.held_bytes() > 0
    }

    /// Appends the output that waits for more, if it is too short to show much of a value.
    pub(crate) fn show_held(&mut self, out: &mut Vec<u8>) {
        // Text of masked values does not wait.
        self.known.show_held(SHOWN_BYTES, out);
    }

    /// Appends the rest.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        let Some(masked) = &self.masked else { return self.known.finish(out) };
        let mut rest = Vec::new();
        self.known.finish(&mut rest);
        out.extend_from_slice(&masked.redact_bytes(&rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_masked_value_is_held_back_by_its_beginning() {
        let values = ["known-value-of-KNOWN", "masked-value-of-MASKED"].map(SecretString::from);
        let values = ["KNOWN", "MASKED"].into_iter().zip(&values);
        let redactor = OutputRedactor::of(values, |name| name == "MASKED");
        let mut redaction = redactor.redaction();
        let mut pushed = |piece: &str| {
            let mut out = Vec::new();
            redaction.push(piece.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(pushed("a masked-val"), "a masked-val");
        assert_eq!(pushed(" masked-value-of-MASKED"), " [redacted:MASKED]");
        assert_eq!(pushed(" known-va"), " ");
        assert_eq!(pushed("lue-of-KNOWN."), "[redacted:KNOWN].");
    }
}

//! Encoder for the layout of `wire`, which is independent of the host's.

/// A message under construction.
#[derive(Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    pub fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    pub fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("inputs are short"));
    }

    pub fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.0.extend(text);
        self.0.push(0);
    }

    /// Writes elements of a fixed size.
    pub fn list(&mut self, elements: &[u8], element_bytes: usize) {
        self.count(elements.len() / element_bytes);
        self.0.extend(elements);
    }

    /// Asserts that an input begins with this message. Returns the rest of the input.
    pub fn rest<'i>(&self, input: &'i [u8]) -> &'i [u8] {
        input.strip_prefix(&*self.0).expect("a message has one encoding")
    }
}

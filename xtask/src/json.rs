//! Reads JSON, as cargo prints it.

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A number as it is written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a document; returns `None` if it is not JSON.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text };
        let value = parser.value()?;
        parser.skip_space();
        parser.rest.is_empty().then_some(value)
    }

    /// Returns the value at a path of keys, or [`Json::Null`].
    pub(crate) fn at(&self, path: &[&str]) -> &Self {
        path.iter().fold(self, |value, key| {
            let found = value.entries().iter().find(|(name, _)| name == key);
            found.map_or(&Self::Null, |(_, value)| value)
        })
    }

    /// Returns the text, which is empty for other kinds of values.
    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// Returns the elements, of which other kinds of values have none.
    pub(crate) fn list(&self) -> &[Self] {
        if let Self::List(list) = self { list } else { &[] }
    }

    /// Returns keys and values, of which other kinds of values have none.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        if let Self::Object(entries) = self { entries } else { &[] }
    }

    /// Returns the texts of a list.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.list().iter().map(|value| value.text().to_owned()).collect()
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    fn value(&mut self) -> Option<Json> {
        self.skip_space();
        match self.rest.chars().next()? {
            '{' => self.object(),
            '[' => self.list(),
            '"' => self.string().map(Json::Text),
            't' => self.take("true").map(|()| Json::Bool(true)),
            'f' => self.take("false").map(|()| Json::Bool(false)),
            'n' => self.take("null").map(|()| Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self) -> Option<Json> {
        let mut entries = Vec::new();
        self.take("{")?;
        if self.take("}").is_some() {
            return Some(Json::Object(entries));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.take(":")?;
            entries.push((key, self.value()?));
            if self.take(",").is_none() {
                self.take("}")?;
                return Some(Json::Object(entries));
            }
        }
    }

    fn list(&mut self) -> Option<Json> {
        let mut values = Vec::new();
        self.take("[")?;
        if self.take("]").is_some() {
            return Some(Json::List(values));
        }
        loop {
            values.push(self.value()?);
            if self.take(",").is_none() {
                self.take("]")?;
                return Some(Json::List(values));
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let is_part = |character: char| character.is_ascii_digit() || "+-.eE".contains(character);
        let length = self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(length);
        self.rest = rest;
        (length > 0).then(|| Json::Number(number.to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        loop {
            match characters.next()? {
                (index, '"') => {
                    self.rest = &self.rest[index + 1..];
                    return Some(text);
                }
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'u' => {
                        let digits: String =
                            characters.by_ref().take(4).map(|(_, digit)| digit).collect();
                        let code = u32::from_str_radix(&digits, 16).ok()?;
                        // A half of a surrogate pair is not a character.
                        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let value = Json::parse(
            r#" {"a": [1, -2.5e3, true, false, null],
                 "b": {"c": "x\n\"\u00e9é"}, "d": {}, "e": []} "#,
        )
        .unwrap();
        assert_eq!(value.at(&["b", "c"]).text(), "x\n\"éé");
        assert_eq!(value.at(&["a"]).list()[1], Json::Number("-2.5e3".to_owned()));
        assert_eq!(value.at(&["a"]).list()[2..], [Json::Bool(true), Json::Bool(false), Json::Null]);
        assert_eq!(value.at(&["b", "x", "y"]), &Json::Null);
        assert!(value.at(&["d"]).entries().is_empty() && value.at(&["e"]).list().is_empty());
    }

    #[test]
    fn text_that_is_not_json_is_rejected() {
        for text in ["", "{", "[1", "{\"a\" 1}", "1 2", "\"a", "nul"] {
            assert_eq!(Json::parse(text), None, "{text}");
        }
    }
}

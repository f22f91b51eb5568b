//! Path patterns: `*` and `?` within one component, `[…]` for one character of a set, `**` across components.

/// Whether a rule is a pattern rather than a path.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

/// Whether a pattern matches a whole path; both are absolute.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    components(&pattern, &path)
}

fn components(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|skipped| components(rest, &path[skipped..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(name, below)| component(first, name) && components(rest, below))
        }
    }
}

fn component(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            component(rest, name) || next(name).is_some_and(|(_, below)| component(pattern, below))
        }
        Some('?') => next(name).is_some_and(|(_, below)| component(rest.as_str(), below)),
        Some('[') if rest.as_str().contains(']') => {
            let (set, after) = rest.as_str().split_once(']').unwrap_or_default();
            next(name).is_some_and(|(character, below)| in_set(set, character) && component(after, below))
        }
        Some(plain) => {
            next(name).is_some_and(|(character, below)| character == plain && component(rest.as_str(), below))
        }
    }
}

fn next(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    characters.next().map(|character| (character, characters.as_str()))
}

fn in_set(set: &str, character: char) -> bool {
    let (set, negated) = match set.strip_prefix(['!', '^']) {
        Some(set) => (set, true),
        None => (set, false),
    };
    let characters: Vec<char> = set.chars().collect();
    let mut at = 0;
    let mut found = false;
    while at < characters.len() {
        if at + 2 < characters.len() && characters[at + 1] == '-' {
            found |= (characters[at]..=characters[at + 2]).contains(&character);
            at += 3;
        } else {
            found |= characters[at] == character;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_reads_them() {
        for (pattern, path, expected) in [
            ("/a/*.pem", "/a/x.pem", true),
            ("/a/*.pem", "/a/b/x.pem", false),
            ("/a/**/*.pem", "/a/x.pem", true),
            ("/a/**/*.pem", "/a/b/c/x.pem", true),
            ("/a/?", "/a/é", true),
            ("/a/?", "/a/bc", false),
            ("/a/[a-c]x", "/a/bx", true),
            ("/a/[!a-c]x", "/a/bx", false),
            ("/a/[x", "/a/[x", true),
            ("/a/**", "/a", true),
            ("/a/*", "/a", false),
            ("/**/build", "/x/build", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}

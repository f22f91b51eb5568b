use super::*;

fn skill(yaml: &str) -> Vec<u8> {
    format!("---\n{yaml}\n---\n# Body\n").into_bytes()
}

#[test]
fn every_field_of_the_specification_is_parsed() {
    let text = "name: pdf-2\ndescription: >-\n  Reads PDF files.\n  Use it for them.\n\
                license: MIT\ncompatibility: poppler\n\
                metadata:\n  author: ann\n  version: \"1.0\"\nallowed-tools: Bash Read";
    let parsed = FrontMatter::parse(&skill(text)).unwrap();
    assert_eq!(parsed.description, "Reads PDF files. Use it for them.");
    assert_eq!(
        (parsed.metadata["author"].as_str(), parsed.allowed_tools.as_deref()),
        ("ann", Some("Bash Read"))
    );
    let windows = b"\xef\xbb\xbf---\r\nname: a\r\ndescription: b\r\n---\r\n";
    assert_eq!(FrontMatter::parse(windows).unwrap().name, "a");
}

#[test]
fn an_error_names_the_broken_rule() {
    let long = format!("name: {}\ndescription: x", "a".repeat(65));
    let wordy = format!("name: a\ndescription: {}", "x".repeat(1025));
    for (yaml, expected) in [
        ("description: x", "name"),
        ("name: a", "description"),
        ("name: Upper\ndescription: x", "2:7: name may have lower-case"),
        ("name: -a\ndescription: x", "hyphen"),
        ("name: a--b\ndescription: x", "hyphen"),
        ("name: a/b\ndescription: x", "lower-case"),
        ("name: a\ndescription: ''", "3:14: description must have 1 to 1,024"),
        ("name: a\ndescription: ~", "3:14: description must be a text, and is empty"),
        ("name: a\ndescription: Use when: x", "front matter cannot be read at 3:"),
        ("name: a\ndescription: b\nauthor: c", "4:1: author is no field"),
        (
            "name: a\nname: b\ndescription: c",
            "its front matter cannot be read at 3:1: the field name is given twice",
        ),
        ("[name, description]", "front matter cannot be read"),
        (&long, "1 to 64"),
        (&wordy, "1 to 1,024"),
    ] {
        let error = FrontMatter::parse(&skill(yaml)).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
    for text in ["# No front matter", "", "--\nname: a\n---\n"] {
        assert_eq!(FrontMatter::parse(text.as_bytes()), Err(FrontMatterError::Absent), "{text}");
    }
    for text in ["---", "---\nname: a\ndescription: never closed"] {
        assert_eq!(FrontMatter::parse(text.as_bytes()), Err(FrontMatterError::Unclosed), "{text}");
    }
    assert_eq!(FrontMatter::parse(b"---\n\xff\n---\n"), Err(FrontMatterError::NotUtf8));
}

#[test]
fn every_deviation_is_reported_with_its_place() {
    let long = "x".repeat(2_000);
    let yaml = format!(
        "name: My_Skill\ndescription: {long}\nmodel: opus\nallowed-tools:\n  - Bash\n  - Read\n\
         metadata:\n  tags: [a]\n  author: ann\nhooks:\n  stop: x"
    );
    let (parsed, deviations) = FrontMatter::parse_leniently(&skill(&yaml)).unwrap();
    assert_eq!(parsed.allowed_tools.as_deref(), Some("Bash Read"));
    assert_eq!((parsed.name.as_str(), parsed.description.len()), ("My_Skill", 2_000));
    assert_eq!(parsed.metadata.keys().collect::<Vec<_>>(), ["author"]);
    let found: Vec<_> = deviations
        .iter()
        .map(|found| (found.field.as_str(), found.position.line, found.position.column))
        .collect();
    assert_eq!(
        found,
        [
            ("name", 2, 7),
            ("description", 3, 14),
            ("model", 4, 1),
            ("allowed-tools", 6, 3),
            ("tags", 9, 9),
            ("hooks", 11, 1)
        ]
    );
    let strict = FrontMatter::parse(&skill(&yaml)).unwrap_err();
    let lenient = Some(Box::new(parsed));
    assert_eq!(strict, FrontMatterError::Deviations { deviations, lenient });
}

#[test]
fn the_other_deviations_are_named_too_if_a_required_field_is_absent_or_no_text() {
    for (description, place) in
        [("description:\n", "3:12"), ("description: [a]\n", "3:14"), ("", "1:1")]
    {
        let yaml = format!("name: Bad Name\n{description}model: x");
        let Err(FrontMatterError::Deviations { deviations, lenient: None }) =
            FrontMatter::parse(&skill(&yaml))
        else {
            panic!("{yaml}");
        };
        let count = |name| deviations.iter().filter(|found| found.field == name).count();
        assert_eq!((count("name"), count("description"), count("model")), (1, 1, 1), "{yaml}");
        let found = deviations.iter().find(|found| found.field == "description").unwrap();
        assert_eq!(found.position.to_string(), place, "{yaml}");
        // Lenience accepts the name and `model`, so they are no errors of it.
        let Err(FrontMatterError::Deviations { deviations, .. }) =
            FrontMatter::parse_leniently(&skill(&yaml))
        else {
            panic!("{yaml}");
        };
        let fields: Vec<&str> = deviations.iter().map(|found| &*found.field).collect();
        assert_eq!(fields, ["description"], "{yaml}");
    }
}

#[test]
fn a_front_matter_of_many_keys_is_refused_at_once() {
    let keys: String = (0..100_000).map(|number| format!("key{number}: x\n")).collect();
    let text = skill(&format!("name: a\ndescription: b\n{keys}"));
    assert_eq!(FrontMatter::parse(&text), Err(FrontMatterError::TooLarge));
}

#[test]
fn a_description_is_read_from_an_invalid_front_matter() {
    assert_eq!(description(&skill("name: Not Allowed\ndescription: x\nextra: [1]")).unwrap(), "x");
    assert!(description(b"no front matter").is_err());
}

#[test]
fn deceptive_characters_are_refused_or_removed_and_reported() {
    for hidden in ["\u{202e}", "\u{2066}", "\u{200f}", "\u{200b}", "\u{e0041}", "\\0", "\\e"] {
        let text = skill(&format!("name: a\ndescription: \"x{hidden}y\"\nlicense: \"M{hidden}\""));
        let error = FrontMatter::parse(&text).unwrap_err().to_string();
        assert!(error.contains("3:14: description has a control character"), "{error}");
        let (parsed, deviations) = FrontMatter::parse_leniently(&text).unwrap();
        assert_eq!((parsed.description.as_str(), parsed.license.as_deref()), ("xy", Some("M")));
        assert_eq!(deviations.len(), 2, "{deviations:?}");
        assert_eq!(description(&text).unwrap(), "xy");
    }
    let lines = skill("name: a\ndescription: |\n  one\n\n  two\twords");
    assert_eq!(FrontMatter::parse(&lines).unwrap().description, "one\n\ntwo\twords\n");
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn redactor(secrets: &[(&str, &str)]) -> Redactor {
    let mut variables = Variables::new();
    for (name, value) in secrets {
        variables.insert(*name, SecretString::from(*value)).unwrap();
    }
    Redactor::new(&variables)
}

#[track_caller]
fn check(secrets: &[(&str, &str)], text: &str, expected: &str) {
    assert_eq!(redactor(secrets).redact(text), expected, "{text:?}");
}

const TOKEN: &[(&str, &str)] = &[("TOKEN", "hunter2!")];

#[test]
fn a_secret_is_replaced_at_every_position() {
    check(TOKEN, "", "");
    check(TOKEN, "hunter2", "hunter2");
    check(TOKEN, "hunter2!", "[redacted:TOKEN]");
    check(TOKEN, "a hunter2!hunter2!b", "a [redacted:TOKEN][redacted:TOKEN]b");
    check(TOKEN, "hunterhunter2!", "hunter[redacted:TOKEN]");
    for before in 0..40 {
        let text = format!("{}hunter2!{}", ".".repeat(before), ".".repeat(60 - before));
        assert_eq!(redactor(TOKEN).find(text.as_bytes())[0].range, before..before + 8);
    }
}

#[test]
fn a_text_that_begins_a_value_at_every_place_takes_linear_time() {
    // The product of both lengths would take hours.
    let (value, text) = ("0".repeat(131_000), "0".repeat(200_000));
    let redactor = redactor(&[("ZEROS", &value)]);
    assert_eq!(redactor.redact(&format!("a{text}")), "a[redacted:ZEROS]");
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    text.as_bytes().chunks(100_000).for_each(|piece| stream.push(piece, &mut out));
    stream.finish(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), "[redacted:ZEROS]");
}

#[test]
fn a_few_right_characters_are_not_hidden_however_long_a_search_takes() {
    let (value, zeros) = ("0".repeat(131_000), "0".repeat(200_000));
    let redactor = redactor(&[("ZEROS", &value), ("TOKEN", "hunter2!hunter3!")]);
    // Ten characters in 40 bytes, and in 140 bytes with line breaks.
    let spelled: String = "hunter2!hu".bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    let encoded = STANDARD.encode("hunter2!hunter3!");
    let folded = encoded[..10].replace("", "\n            ");
    // As much as the zeros hide lies between them and the guess.
    let between = "x".repeat(131_000);
    for guess in [spelled, folded] {
        let text = format!("{zeros}{between}|{guess}|");
        let redacted = redactor.redact(&text).into_owned();
        assert!(
            redacted.ends_with(&format!("x|{guess}|")),
            "{}",
            &redacted[redacted.len() - 300..]
        );
    }
}

#[test]
fn a_text_without_secrets_is_borrowed() {
    assert!(matches!(redactor(TOKEN).redact("hunter"), Cow::Borrowed("hunter")));
    assert!(matches!(redactor(&[]).redact_bytes(b"hunter2!"), Cow::Borrowed(b"hunter2!")));
}

#[test]
fn encoded_forms_are_replaced() {
    check(TOKEN, "t=hunter2%21&u=1", "t=[redacted:TOKEN]&u=1");
    check(TOKEN, &STANDARD.encode("hunter2!"), "[redacted:TOKEN]");
    let authorization = redactor(TOKEN).redact(&STANDARD.encode("user:hunter2!")).into_owned();
    assert!(
        authorization.contains("[redacted:TOKEN]") && authorization.len() < 32,
        "{authorization}"
    );
    let key = &[("KEY", "pa'ss+wo\"rd<x>/")];
    check(key, r#"{"k":"pa\u0027ss\u002Bwo\u0022rd\u003Cx\u003E/"}"#, r#"{"k":"[redacted:KEY]"}"#);
    check(TOKEN, "68756E7465723221 68756e7465723221", "[redacted:TOKEN] [redacted:TOKEN]");
    let odd = &[("ODD", "a\"b\\c/é<\u{1}")];
    for escaped in [
        r#"a\"b\\c/é<\u0001"#,
        r#"a\"b\\c\/\u00e9<\u0001"#,
        r#"a\"b\\c/é\u003c\u0001"#,
        r#"a\"b\\c\/\u00E9\u003C\u0001"#,
    ] {
        check(odd, &format!("{{\"k\":\"{escaped}\"}}"), r#"{"k":"[redacted:ODD]"}"#);
    }
}

#[test]
fn a_value_is_found_in_every_spelling_of_its_characters() {
    let key = &[("KEY", "pa&ss+wo=rd/<x>")];
    for spelled in [
        "pa&amp;ss+wo=rd/&lt;x&gt;",
        "pa&#38;ss&#x2B;wo&#61;rd&#x2f;&lt;x&#0062;",
        r"pa\u0026ss+wo\u003drd/\u003cx\u003e",
        r"\u0070\u0061\u0026\u0073\u0073\u002b\u0077\u006F\u003D\u0072\u0064\u002f\u003C\u0078\u003E",
        "%70%61%26%73%73%2b%77%6F%3D%72%64%2f%3c%78%3E",
        "pa%26ss%2Bwo%3drd%2f%3Cx%3e",
        "pa%2526ss%252Bwo%253drd%252f%253Cx%253e",
        r"pa\u0026amp;ss+wo=rd\/\u0026lt;x\u0026gt;",
        r"pa\x26ss\x2bwo\075rd/\<x\>",
        "pa%26ss+wo=rd&#47;\\u003cx>",
    ] {
        check(key, spelled, "[redacted:KEY]");
        check(key, &format!("\\%&amp;{spelled}%41"), "\\%&amp;[redacted:KEY]%41");
        let (redactor, mut out) = (redactor(key), Vec::new());
        let mut stream = redactor.stream();
        spelled.bytes().for_each(|byte| stream.push(&[byte], &mut out));
        stream.finish(&mut out);
        assert_eq!(out, b"[redacted:KEY]", "{spelled}");
    }
    // A value that looks like an escape is found as it is, and with the escapes of each kind.
    let odd = &[("ODD", r"a%41\u0042&lt;b")];
    for spelled in [
        r"a%41\u0042&lt;b",
        r"a%2541%5Cu0042%26lt%3Bb",
        r"a%41\\u0042&lt;b",
        r"a%41\u0042&amp;lt;b",
        r"a%41\\u0042\u0026lt;b",
        r"a\u002541\\u0042&amp;lt;b",
    ] {
        check(odd, spelled, "[redacted:ODD]");
    }
}

#[test]
fn encoded_values_are_found_where_they_are_escaped_again() {
    let secret = "a??>~ key that is long enough to be wrapped when base64 prints it, as keys are?>";
    let key = &[("KEY", secret)];
    let encoded = STANDARD.encode(secret);
    assert!(encoded.contains('/') && encoded.contains('='));
    check(key, &encoded.replace('/', "\\/"), "[redacted:KEY]");
    check(key, &encoded.replace('/', "%2F").replace('=', "%3d"), "[redacted:KEY]");
    check(key, &encoded.replace('=', "\\u003d"), "[redacted:KEY]");
    for width in [4, 9, 60] {
        let lines: Vec<&str> = encoded
            .as_bytes()
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        for between in ["\\n", "\\r\\n", "%0A", "&#10;", "\\\\n", "\\n\n  "] {
            check(key, &lines.join(between), "[redacted:KEY]");
        }
    }
    check(&[("KEY", PEM)], &PEM.trim_end().replace('\n', "\\n  "), "[redacted:KEY]");
}

#[test]
fn base64_with_line_breaks_is_replaced() {
    let secret = "a key that is long enough to be wrapped when base64 prints it, as keys are";
    let encoded = STANDARD.encode(secret);
    let wrapped = format!("{}\r\n{}\n", &encoded[..76], &encoded[76..]);
    check(&[("KEY", secret)], &wrapped, "[redacted:KEY]\n");
    for width in 1..20 {
        let lines: Vec<&str> = encoded
            .as_bytes()
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        check(&[("KEY", secret)], &lines.join("\n    "), "[redacted:KEY]");
    }
}

const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n\
    MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n\
    -----END PRIVATE KEY-----\n";

#[test]
fn a_key_is_replaced_however_it_is_folded_and_indented() {
    let key = &[("KEY", PEM)];
    check(key, PEM, "[redacted:KEY]\n");
    check(key, PEM.trim_end(), "[redacted:KEY]");
    check(key, &PEM.replace('\n', "\r\n"), "[redacted:KEY]\r\n");
    check(key, &PEM.replace('\n', " "), "[redacted:KEY] ");
    check(key, &format!("  {}", PEM.replace('\n', "\n  ")), "  [redacted:KEY]\n  ");
    check(key, &PEM.replace("\n", "\\n"), "[redacted:KEY]\\n");
    check(key, &PEM.replace("\n", "\\r\\n"), "[redacted:KEY]\\r\\n");
    let lines: Vec<&str> = PEM.lines().collect();
    let body = lines[1..3].concat();
    for width in [20, 48, 76, 200] {
        let body: Vec<&str> =
            body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let folded = format!("{}\n{}\n{}\n", lines[0], body.join("\n"), lines[3]);
        check(key, &folded, "[redacted:KEY]\n");
    }
    // The value may come without its closing line break, and be printed with one.
    check(&[("KEY", PEM.trim_end())], PEM, "[redacted:KEY]\n");
    let encoded = STANDARD.encode(PEM);
    assert!(redactor(key).redact(&encoded).len() < 24, "{encoded}");
}

#[test]
fn overlapping_secrets_are_replaced_together() {
    check(&[("A", "abcdefgh"), ("B", "efghijkl")], "-abcdefghijkl-", "-[redacted:A]-");
    check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghij-", "-[redacted:B]-");
    check(&[("A", "cdefgh"), ("B", "abcdefghij")], "-abcdefghi-", "-ab[redacted:A]i-");
}

#[test]
fn of_two_names_with_one_value_the_first_is_used() {
    check(&[("A", "hunter2!"), ("B", "hunter2!\n")], "hunter2!", "[redacted:A]");
}

#[test]
fn short_values_remain_and_are_reported() {
    let redactor = redactor(&[("DEBUG", "true"), ("FLAG", "12345\n"), ("TOKEN", "hunter2!")]);
    assert_eq!(redactor.redact("true 12345"), "true 12345");
    assert_eq!(redactor.unredacted(), ["DEBUG", "FLAG"]);
}

#[test]
fn only_the_beginning_of_a_secret_is_held_back() {
    let mut stream = redactor(TOKEN).stream();
    let mut out = Vec::new();
    stream.push(b"prompt> hunt", &mut out);
    assert_eq!(out, b"prompt> ");
    stream.push(b"ing", &mut out);
    assert_eq!(out, b"prompt> hunting");
    stream.push(b"\nhunter2", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"prompt> hunting\nhunter2");
}

#[test]
fn a_short_beginning_can_be_shown_before_it_is_decided() {
    let shown = |pieces: &[&str], max_bytes| {
        let (mut stream, mut out) = (redactor(TOKEN).stream(), Vec::new());
        for piece in pieces {
            stream.push(piece.as_bytes(), &mut out);
            stream.show_held(max_bytes, &mut out);
        }
        let held = stream.held_bytes();
        stream.finish(&mut out);
        (String::from_utf8(out).unwrap(), held)
    };
    assert_eq!(shown(&["[y/h] h"], 3), ("[y/h] h".to_owned(), 0));
    assert_eq!(shown(&["a h", "i h", "unt"], 3), ("a hi hunt".to_owned(), 3));
    assert_eq!(shown(&["a hu", "nter2! b"], 3), ("a hu[redacted:TOKEN] b".to_owned(), 0));
    assert_eq!(shown(&["a hunt", "er2! b"], 3), ("a [redacted:TOKEN] b".to_owned(), 0));
    assert_eq!(shown(&["h", "u", "nter2!", "hunter2!"], 3).0, "hu[redacted:TOKEN][redacted:TOKEN]");
}

#[test]
fn a_large_secret_in_small_pieces_takes_linear_time() {
    let secret: String = (0..12_000).map(|number| format!("{number:x}.")).collect();
    let mut stream = redactor(&[("KEY", &secret)]).stream();
    let mut out = Vec::new();
    for byte in secret.as_bytes() {
        stream.push(&[*byte], &mut out);
    }
    stream.finish(&mut out);
    assert_eq!(out, b"[redacted:KEY]");
}

#[test]
fn debug_shows_no_secret() {
    let redactor = redactor(TOKEN);
    let mut stream = redactor.stream();
    stream.push(b"hunter2", &mut Vec::new());
    assert_eq!(format!("{redactor:?} {stream:?}").matches("hunter").count(), 0);
}

#[test]
fn a_long_line_of_a_value_is_found_alone() {
    let lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQDZ7s1hkYQ0Jm3x", "short"];
    let key = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", lines.join("\n"));
    let secrets = [("KEY", &*key)];
    check(&secrets, &format!("2:{}", lines[0]), "2:[redacted:KEY]");
    check(&secrets, &format!("+{}\r\n+{}", lines[1], lines[2]), "+[redacted:KEY]\r\n+short");
    check(&secrets, "-----BEGIN KEY-----", "-----BEGIN KEY-----");
    check(&secrets, &format!("<{}>", key.trim_end()), "<[redacted:KEY]>");
}

#[test]
fn a_value_is_found_as_a_shell_quotes_it() {
    let secrets = [("PASS", r#"pa$$wo`rd-"x"-it's 100%\"#)];
    for quoted in [
        r#"declare -x PASS="pa\$\$wo\`rd-\"x\"-it's 100%\\""#,
        r#"PASS='pa$$wo`rd-"x"-it'\''s 100%\'"#,
        r#"pa\$\$wo\`rd-\"x\"-it\'s\ 100%\\"#,
    ] {
        let redacted = redactor(&secrets).redact(quoted).into_owned();
        assert!(redacted.contains("[redacted:PASS]") && !redacted.contains("wo"), "{redacted}");
    }
}

#[test]
fn blanks_around_a_value_are_no_part_of_it() {
    for value in ["hunter2! ", " hunter2!", "\thunter2! \r\n"] {
        let secrets = [("PASS", value)];
        check(&secrets, "<hunter2!>", "<[redacted:PASS]>");
        check(&secrets, "aHVudGVyMiEK", "[redacted:PASS]K");
    }
    assert_eq!(redactor(&[("PASS", "abc      ")]).unredacted(), ["PASS"]);
}

#[test]
fn a_key_with_escaped_line_breaks_is_found_with_real_ones() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    for between in [r"\n", r"\r\n"] {
        let value = ["-----BEGIN KEY-----", line, "-----END KEY-----"].join(between);
        let secrets = [("KEY", &*value)];
        check(&secrets, &format!("2: {line}"), "2: [redacted:KEY]");
        check(&secrets, &value.replace(between, "\n"), "[redacted:KEY]");
    }
}

#[test]
fn the_secret_strings_of_a_json_value_are_found_alone() {
    let value = r#"{"type":"service_account","private_key_id" : "abc123","private_key":
        "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END KEY-----\n",
        "auth_uri":"https://example.com/auth","client":{"PassWord":"p\u00e4ss\/\"word"}}"#;
    let secrets = [("GCP", value)];
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END KEY-----";
    check(&secrets, key, "[redacted:GCP]");
    check(&secrets, "2: MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "2: [redacted:GCP]");
    check(&secrets, "päss/\"word abc123", "[redacted:GCP] [redacted:GCP]");
    let public = "service_account https://example.com/auth";
    check(&secrets, public, public);
}

#[test]
fn control_characters_are_found_as_bash_writes_them() {
    let secrets = [("PASS", "p\u{1b}ass'wörd\u{1}")];
    check(&secrets, r"declare -- T=$'p\Eass\'wörd\001'", "declare -- T=$'[redacted:PASS]'");
    check(&secrets, r"$'p\Eass\'w\303\266rd\001'", "$'[redacted:PASS]'");
}

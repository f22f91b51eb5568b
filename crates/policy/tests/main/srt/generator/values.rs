//! Random values: texts on both sides of each rule.

use super::Generator;

const DOMAIN_ALPHABET: &[&str] =
    &["a", "b", ".", ".", "*", ":", "[", "]", "%", "0", "x", "1", "/", "@", "é", " ", "-", "。"];
const ADDRESS_ALPHABET: &[&str] =
    &["0", "1", "255", "f", "ffff", ":", "::", ".", "/", "%", "e", "08", "128", " "];
const URL_ALPHABET: &[&str] = &[
    "http", "file", "x", ":", "/", "//", "\\", "@", "[", "]", "::1", "a", ".", "99999", "?", "#",
    "%", " ",
];
const REGEX_ALPHABET: &[&str] = &[
    "a", "(", ")", "(?:", "(?<n>", "(?=", "(?<!", "|", "[", "]", "[^", "{", "}", "{1}", "{2,1}",
    "*", "+", "?", "\\\\", "\\\\1", "\\\\k<n>", "\\\\d", "\\\\u", "-", "^", "$", ".", "/", "é",
];
const PATH_ALPHABET: &[&str] = &["/", "/", "~", "*", "[", "]", "?", "a", ".", "**", " "];

impl Generator {
    pub(super) fn credential(&mut self, key: &str) -> String {
        match key {
            "path" => match self.below(3) {
                0 if self.is_odd() => quoted(&self.text_of(PATH_ALPHABET, 5)),
                _ => self
                    .value(&[r#""/a""#], &[r#""/a/""#, r#""/a/[b]/""#, r#""a/*/""#, r#""""#])
                    .to_owned(),
            },
            "name" => self.variable(),
            "mode" => self
                .value(&[r#""mask""#, r#""mask""#, r#""deny""#], &["{\"deny\":null}"])
                .to_owned(),
            "extract" => self.regex(),
            "onExtractNoMatch" => {
                self.value(&[r#""warn""#, r#""deny""#, r#""error""#], &[r#""x""#]).to_owned()
            }
            "decode" => self.value(&[r#""jwt""#, r#""jwt""#], &[r#""jwe""#]).to_owned(),
            "maskClaims" => {
                self.list(2, |own| own.value(&[r#""sub""#, r#""sub""#], &[r#""""#]).to_owned())
            }
            "maskDuplicates" => self.flag(),
            _ => self.list(2, Self::host),
        }
    }

    pub(super) fn windows(&mut self) -> String {
        let keys = [
            "backend",
            "sandboxUser",
            "sublayerGuid",
            "wfpSublayerGuid",
            "proxyPortRange",
            "srtWin",
        ];
        self.object(&[], &keys, |own, key| match key {
            "backend" => own.value(&[r#""mxc""#, r#""srt-win""#], &[r#""wsl""#]).to_owned(),
            "sandboxUser" => own
                .value(
                    &[r#""u""#, r#""aaaaaaaaaaaaaaaaaaaa""#, r#""😀😀😀😀😀😀😀😀😀😀""#],
                    &[r#""""#, r#""aaaaaaaaaaaaaaaaaaaaa""#, r#""😀😀😀😀😀😀😀😀😀😀a""#],
                )
                .to_owned(),
            "proxyPortRange" => own
                .value(
                    &["[1,2]", "[1,65]", "[1.0,2e0]"],
                    &words("[1,66] [2,1] [0,1] [1] [1,2,3] [65535,65536] [1.5,2] {}"),
                )
                .to_owned(),
            "srtWin" => own.value(&[r#"{"path":"/a"}"#], &[r#"{"path":""}"#, "{}"]).to_owned(),
            _ => own
                .value(
                    &[r#""01234567-89ab-cdef-0123-456789ABCDEF""#],
                    &[
                        r#""0123456789abcdef0123456789abcdef""#,
                        r#""{01234567-89ab-cdef-0123-456789abcdef}""#,
                        r#""01234567-89ab-cdef-0123-456789abcde""#,
                        r#""g1234567-89ab-cdef-0123-456789abcdef""#,
                    ],
                )
                .to_owned(),
        })
    }

    pub(super) fn variable(&mut self) -> String {
        self.value(
            &[r#""A""#, r#""A""#, r#""B""#, r#""C_1""#],
            &[r#""1A""#, r#""""#, r#""A-B""#, r#""A\n""#, r#""é""#],
        )
        .to_owned()
    }

    pub(super) fn host(&mut self) -> String {
        if self.is_odd() {
            return quoted(&self.text_of(DOMAIN_ALPHABET, 7));
        }
        let name = self.value(
            &words(
                "a.com A.com b.a.com *.a.com *.b.a.com localhost 127.0.0.1 ::1 0:0::1 \
             bücher.example fe80::1%eth0 example.org 10.0.0.1",
            ),
            &["*.a..b", "*.com"],
        );
        quoted(name)
    }

    /// Returns an entry of `allowedDomains` or `deniedDomains`.
    pub(super) fn domain(&mut self) -> String {
        if self.is_odd() {
            return quoted(&self.text_of(DOMAIN_ALPHABET, 7));
        }
        let name = self.value(
            &words(
                "a.com A.com a.com *.a.com *.a.com b.a.com localhost 127.0.0.1 0x7f.1 \
             example.org bücher.example a..b a_b.com",
            ),
            &["2130706433", "*.0.1"],
        );
        let inner = self.value(
            &words("::1 0:0::1 fe80::1%eth0 a.com localhost 0x7f.1 1 ::ffff:1.2.3.4 A.com"),
            &["*", "b", "a b.c"],
        );
        let name = match self.below(8) {
            0 => format!("[{inner}]"),
            1 => self
                .value(
                    &["*.b.a.com", "a.com"],
                    &words(
                        "* ::1 *.com a.*.com foo*.com example a.com. .a.com https://a.com \
             a.com/x *.a..b",
                    ),
                )
                .to_owned(),
            _ => name.to_owned(),
        };
        let port = match self.below(6) {
            0 => self.value(&[":443", ":65535"], &words(":0 :0443 :65536 : :x :1:2")),
            _ => "",
        };
        quoted(&format!("{name}{port}"))
    }

    pub(super) fn address(&mut self) -> String {
        if self.is_odd() {
            return quoted(&self.text_of(ADDRESS_ALPHABET, 6));
        }
        quoted(self.value(
            &words(
                "10.0.0.0/8 10.0.0.0/08 ::1 ::ffff:1.2.3.4 ::ffff:1.2.3.4/96 \
             fe80::1%eth0",
            ),
            &words(
                "1.2.3.4/0008 1.2.3.4/33 1.2.3.4/ [::1] ::ffff:1.2.3.4/95 fe80::1%/64 \
             1.2.3 01.2.3.4 1::2:3:4:5:6:7:8 1:2:3:4:5:6:7:: ::/129 % 1.2.3.4%x/8",
            ),
        ))
    }

    pub(super) fn url(&mut self) -> String {
        if self.is_odd() {
            return quoted(&self.text_of(URL_ALPHABET, 6));
        }
        quoted(self.value(
            &words(
                "http://proxy:3128 http://u:p@proxy http:/a http://[::1]:80 \
             socks5://a:1 x: http://0x7f.1 file:///a mailto:a http://é HTTP://A",
            ),
            &[
                "proxy:3128",
                "proxy",
                "",
                "http://",
                "http://a:99999",
                "http://[::1",
                "http://a b",
                "http://1.2.3.4.5",
                "file://a b/",
                " http://a ",
                "1http://a",
                "http://a%2fb",
                "http:\\\\a",
                "//a",
                "x://a:b",
            ],
        ))
    }

    pub(super) fn regex(&mut self) -> String {
        if self.is_odd() {
            return format!("\"{}\"", self.text_of(REGEX_ALPHABET, 6));
        }
        self.value(
            &[
                r#""(a)""#,
                r#""(a)""#,
                r#""(?<n>a)""#,
                r#""(a)\\1""#,
                r#""(a)|b|c""#,
                r#""(?<=a)(b)""#,
                r#""(a)]""#,
                r#""(\\w+)""#,
                r#""token:\\s*(\\S+)""#,
            ],
            &[
                r#""a""#,
                r#""(?:a)""#,
                r#""(""#,
                r#""[""#,
                r#""""#,
                r#""\\(a\\)""#,
                r#""[(a)]""#,
                r#""a{2,1}(b)""#,
                r#""(?i:a)(b)""#,
                r#""*(a)""#,
                r#""(a){""#,
                r#""(a)}""#,
                r#""(a)\\""#,
                r#""(a)\\c""#,
                r#""(?=a)*(b)""#,
                r#""[b-a](c)""#,
            ],
        )
        .to_owned()
    }

    pub(super) fn path(&mut self) -> String {
        match self.below(8) {
            0 if self.is_odd() => quoted(&self.text_of(PATH_ALPHABET, 6)),
            1 => self
                .value(
                    &[r#"{"path":"/a","literal":true}"#, r#"{"path":"/a/[b]/","literal":true}"#],
                    &[
                        r#"{"path":"/a"}"#,
                        r#"{"path":"","literal":true}"#,
                        r#"{"path":"/a","literal":false}"#,
                        r#"{"path":"/a","literal":true,"x":1}"#,
                        r#"["/a",true]"#,
                    ],
                )
                .to_owned(),
            _ => self
                .value(
                    &[r#""/a""#, r#""/a""#, r#""/b/""#, r#""~/c""#, r#""/a/*""#],
                    &[r#""/a/*/""#, r#""a/*/""#, r#""~/[x]/""#, r#""""#],
                )
                .to_owned(),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\"))
}

/// Returns the words of a text.
fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

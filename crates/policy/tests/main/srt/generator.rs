//! Random settings: every key, with values on both sides of each rule.

mod values;

/// A generator of pseudo-random numbers (splitmix64), so that a seed gives the same settings
/// everywhere.
#[derive(Debug)]
pub(crate) struct Generator {
    state: u64,
    /// One in so many values is odd.
    rarity: usize,
}

/// Values of a wrong type or with an unusual form.
const OTHER: &[&str] = &[
    "null",
    "[]",
    "{}",
    "0",
    "1",
    "-1",
    "1.5",
    "true",
    "false",
    r#""""#,
    r#""x""#,
    "[null]",
    "[[]]",
    r#"[""]"#,
    r#"{"a":1}"#,
    r#"{"mask":null}"#,
    r#"["x",1]"#,
    "3e0",
    "8080.0",
    "70000",
    "1e300",
];

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, rarity: 1 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }

    fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Returns a valid value or, depending on the settings, an odd one.
    fn value<'a>(&mut self, valid: &[&'a str], odd: &[&'a str]) -> &'a str {
        let values = if self.is_odd() { odd } else { valid };
        self.pick(values)
    }

    fn is_odd(&mut self) -> bool {
        self.once_in(self.rarity)
    }

    fn pick<'a>(&mut self, values: &[&'a str]) -> &'a str {
        values[self.below(values.len())]
    }

    fn text_of(&mut self, alphabet: &[&str], max: usize) -> String {
        (0..=self.below(max)).map(|_| self.pick(alphabet)).collect()
    }

    /// Returns a settings file.
    pub(crate) fn settings(&mut self) -> String {
        if self.once_in(2) {
            return self.focused();
        }
        self.rarity = [3, 10, 40, 200][self.below(4)];
        let network = self.network();
        let filesystem = self.filesystem();
        let mut entries = Vec::new();
        self.required(&mut entries, "network", network);
        self.required(&mut entries, "filesystem", filesystem);
        self.optional(&mut entries, "credentials", 2, Self::credentials);
        for key in [
            "enableWeakerNestedSandbox",
            "allowNestedUserNamespaces",
            "enableWeakerNetworkIsolation",
            "allowAppleEvents",
            "allowPty",
        ] {
            self.optional(&mut entries, key, 10, Self::flag);
        }
        self.optional(&mut entries, "ignoreViolations", 8, |own| {
            let key = own.pick(&["ls", "*", "__proto__", "é"]);
            let list = own.list(1, |own| own.value(&[r#""/a""#], &[r#""""#]).to_owned());
            format!("{{{key:?}:{list}}}")
        });
        self.optional(&mut entries, "mandatoryDenySearchDepth", 8, |own| {
            own.value(&["1", "3", "10", "3.0", "3e0", "1e1"], &["0", "11", "2.5", "-1", "300"])
                .to_owned()
        });
        for key in ["bwrapPath", "socatPath", "javaAgentJarPath"] {
            self.optional(&mut entries, key, 10, |own| {
                own.value(&[r#""/a""#, r#""a""#], &[r#""""#, r#""./a""#, r#""~/a""#]).to_owned()
            });
        }
        self.optional(&mut entries, "ripgrep", 10, |own| {
            own.object(&["command"], &["args", "argv0"], |own, key| match key {
                "args" => own.list(2, |own| own.value(&[r#""-x""#], &[r#""""#]).to_owned()),
                _ => own.value(&[r#""rg""#], &[r#""""#]).to_owned(),
            })
        });
        self.optional(&mut entries, "seccomp", 10, |own| {
            own.object(&[], &["applyPath", "argv0"], |own, _| {
                own.value(&[r#""/a""#], &[r#""""#]).to_owned()
            })
        });
        self.optional(&mut entries, "windows", 6, Self::windows);
        self.optional(&mut entries, "git", 10, |own| {
            own.object(&[], &["safeDirectories"], |own, _| {
                own.list(2, |own| own.value(&[r#""/a""#], &[r#""""#]).to_owned())
            })
        });
        self.join(entries)
    }

    /// Returns settings that are valid except, perhaps, for one random text.
    fn focused(&mut self) -> String {
        self.rarity = 2;
        let (mut network, mut top) = (String::new(), String::new());
        let (mut allowed, mut denied, mut paths) = (String::new(), String::new(), String::new());
        match self.below(8) {
            0 => allowed = self.domain(),
            1 => denied = self.domain(),
            2 => network = format!(",\"deniedResolvedAddresses\":[{}]", self.address()),
            3 => network = format!(",\"parentProxy\":{{\"https\":{}}}", self.url()),
            4 => paths = self.path(),
            5 => {
                let (own, host, excluded) = (self.domain(), self.host(), self.host());
                allowed = own;
                network = format!(",\"tlsTerminate\":{{\"excludeDomains\":[{excluded}]}}");
                let hosts = if self.once_in(3) { "" } else { ",\"injectHosts\":[HOST]" };
                top = format!(
                    ",\"credentials\":{{\"files\":[{{\"path\":\"/a\",\"mode\":\"mask\"{}}}]}}",
                    hosts.replace("HOST", &host)
                );
            }
            6 => network = format!(",\"tlsTerminate\":{{\"excludeDomains\":[{}]}}", self.host()),
            _ => {
                top = format!(
                    ",\"credentials\":{{\"envVars\":[{{\"name\":\"A\",\"mode\":\"deny\",\"extract\":{}}}]}}",
                    self.regex()
                );
            }
        }
        format!(
            "{{\"network\":{{\"allowedDomains\":[{allowed}],\"deniedDomains\":[{denied}]{network}}},\
             \"filesystem\":{{\"denyRead\":[{paths}],\"allowWrite\":[],\"denyWrite\":[]}}{top}}}"
        )
    }

    fn network(&mut self) -> String {
        let mut entries = Vec::new();
        let allowed = self.list(4, Self::domain);
        let denied = self.list(3, Self::domain);
        self.required(&mut entries, "allowedDomains", allowed);
        self.required(&mut entries, "deniedDomains", denied);
        self.optional(&mut entries, "deniedDomainReasons", 8, |own| {
            let key = own.pick(&["*", "a.com", "__proto__", "a.b[c]"]);
            format!("{{{key:?}:{}}}", own.value(&[r#""closed""#, "1"], &[r#""""#, "null"]))
        });
        for key in [
            "strictAllowlist",
            "allowAllUnixSockets",
            "allowLocalBinding",
            "allowPlaintextHeaderSet",
            "refuseOpaqueTunnels",
            "requireHostMatch",
        ] {
            self.optional(&mut entries, key, 12, Self::flag);
        }
        self.optional(&mut entries, "deniedResolvedAddresses", 4, |own| own.list(2, Self::address));
        self.optional(&mut entries, "allowUnixSockets", 12, |own| {
            own.list(2, |own| own.value(&[r#""/a""#], &[r#""""#]).to_owned())
        });
        self.optional(&mut entries, "allowMachLookup", 8, |own| {
            own.list(2, |own| {
                own.value(
                    &[r#""com.*""#, r#""*""#, r#""a""#],
                    &[r#""com.*.x""#, r#""**""#, r#""""#, r#""*a*""#],
                )
                .to_owned()
            })
        });
        for key in ["httpProxyPort", "socksProxyPort"] {
            self.optional(&mut entries, key, 10, |own| {
                own.value(&["1", "65535", "65536", "8080.0", "1e3"], &["0", "8.5", "-1", "-0"])
                    .to_owned()
            });
        }
        self.optional(&mut entries, "mitmProxy", 8, |own| {
            own.object(&["socketPath", "domains"], &[], |own, key| match key {
                "socketPath" => own.value(&[r#""/a""#, r#""/a""#], &[r#""""#]).to_owned(),
                _ => own.list(3, Self::host),
            })
        });
        self.optional(&mut entries, "stripResponseHeaders", 10, |own| {
            own.list(2, |own| own.value(&[r#""set-cookie""#], &[r#""""#]).to_owned())
        });
        self.optional(&mut entries, "ambiguousRequestTarget", 10, |own| {
            own.value(
                &[r#""refuse""#, r#""asSpelled""#, r#""normalize""#],
                &[r#""Refuse""#, "{\"refuse\":null}"],
            )
            .to_owned()
        });
        self.optional(&mut entries, "tlsTerminate", 2, |own| {
            let keys = [
                "caCertPath",
                "caKeyPath",
                "excludeDomains",
                "extraCaCertPaths",
                "maxTunnels",
                "handshakeTimeoutMs",
            ];
            own.object(&[], &keys, |own, key| match key {
                "excludeDomains" => own.list(2, Self::host),
                "extraCaCertPaths" => {
                    own.list(2, |own| own.value(&[r#""/a""#, r#""/b""#], &[r#""""#]).to_owned())
                }
                "maxTunnels" => {
                    own.value(&["1", "65536", "2.0"], &["0", "65537", "1.5"]).to_owned()
                }
                "handshakeTimeoutMs" => own.value(&["100", "600000"], &["99", "600001"]).to_owned(),
                _ => own.value(&[r#""/a""#, r#""/a""#, r#""/a""#], &[r#""""#]).to_owned(),
            })
        });
        self.optional(&mut entries, "parentProxy", 4, |own| {
            own.object(&[], &["http", "https", "noProxy"], |own, key| match key {
                "noProxy" => own.value(&[r#""a.com""#], &[r#""""#]).to_owned(),
                _ => own.url(),
            })
        });
        self.join(entries)
    }

    fn filesystem(&mut self) -> String {
        let mut entries = Vec::new();
        for key in ["denyRead", "allowWrite", "denyWrite"] {
            let list = self.list(2, Self::path);
            self.required(&mut entries, key, list);
        }
        self.optional(&mut entries, "allowRead", 4, |own| own.list(2, Self::path));
        self.optional(&mut entries, "disabled", 8, Self::flag);
        self.optional(&mut entries, "allowGitConfig", 10, Self::flag);
        self.join(entries)
    }

    fn credentials(&mut self) -> String {
        let mut entries = Vec::new();
        self.optional(&mut entries, "files", 2, |own| {
            own.list(2, |own| {
                let keys = [
                    "extract",
                    "onExtractNoMatch",
                    "decode",
                    "maskClaims",
                    "maskDuplicates",
                    "injectHosts",
                ];
                own.object(&["path", "mode"], &keys, Self::credential)
            })
        });
        self.optional(&mut entries, "envVars", 2, |own| {
            own.list(2, |own| {
                let keys = ["extract", "onExtractNoMatch", "decode", "maskClaims", "injectHosts"];
                own.object(&["name", "mode"], &keys, Self::credential)
            })
        });
        self.optional(&mut entries, "allowPlaintextInject", 2, |own| {
            own.pick(&["true", "true", "true", "false"]).to_owned()
        });
        self.optional(&mut entries, "awsPairs", 5, |own| {
            own.list(2, |own| {
                own.object(
                    &["accessKeyIdVar", "secretAccessKeyVar"],
                    &["sessionTokenVar"],
                    |own, _| own.variable(),
                )
            })
        });
        self.optional(&mut entries, "sigv4", 10, |own| {
            own.object(&[], &["streaming", "presigned", "sigv4a"], |own, _| {
                own.value(&[r#""deny""#, r#""passthrough""#], &[r#""warn""#]).to_owned()
            })
        });
        self.join(entries)
    }

    fn flag(&mut self) -> String {
        self.pick(&["true", "false"]).to_owned()
    }

    fn list(&mut self, max: usize, mut item: impl FnMut(&mut Self) -> String) -> String {
        let count = self.below(max + 1);
        let items: Vec<String> =
            (0..count).map(|_| if self.is_other() { self.other() } else { item(self) }).collect();
        format!("[{}]", items.join(","))
    }

    fn object(
        &mut self,
        required: &[&str],
        optional: &[&str],
        mut value: impl FnMut(&mut Self, &str) -> String,
    ) -> String {
        let mut entries = Vec::new();
        for key in required {
            let value = value(self, key);
            self.required(&mut entries, key, value);
        }
        for key in optional {
            self.optional(&mut entries, key, 3, |own| value(own, key));
        }
        self.join(entries)
    }

    fn required(&mut self, entries: &mut Vec<String>, key: &str, value: String) {
        if self.rarity > 10 || !self.once_in(100) {
            let value = if self.is_other() { self.other() } else { value };
            entries.push(format!("{key:?}:{value}"));
        }
    }

    fn optional(
        &mut self,
        entries: &mut Vec<String>,
        key: &str,
        rarity: usize,
        value: impl FnOnce(&mut Self) -> String,
    ) {
        if self.once_in(rarity) {
            let value = if self.is_other() { self.other() } else { value(self) };
            entries.push(format!("{key:?}:{value}"));
        }
    }

    fn is_other(&mut self) -> bool {
        let rarity = 4 * self.rarity;
        self.once_in(rarity)
    }

    fn other(&mut self) -> String {
        self.pick(OTHER).to_owned()
    }

    /// Joins the entries of an object. Some objects have an unknown key, a key twice, or a text
    /// that is no Unicode.
    fn join(&mut self, mut entries: Vec<String>) -> String {
        if self.once_in(400) {
            entries.push(format!(
                "{:?}:{}",
                self.pick(&["unknown", "denyReed", "filterRequest", "a.b"]),
                self.other()
            ));
        }
        if self.once_in(400) && !entries.is_empty() {
            let at = self.below(entries.len());
            entries.push(entries[at].clone());
        }
        if self.once_in(1_000) && !entries.is_empty() {
            let at = self.below(entries.len());
            entries[at] = entries[at].replacen('a', "\\ud800", 1);
        }
        format!("{{{}}}", entries.join(","))
    }
}

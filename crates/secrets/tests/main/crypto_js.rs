//! Both directions against the npm package itself, whose `node_modules` directory `CRYPTO_JS_DIR`
//! names.

use std::io::Write as _;
use std::process::{Command, Stdio};

use secrets::ExposeSecret as _;
use secrets::cryptojs::{decrypt, encrypt};
use serde::{Deserialize, Serialize};

use crate::vectors;
use testkit::skipped;

const VERSION: &str = "4.2.0";

/// Encrypts each text and decrypts each value, which come as JSON on standard input.
const PROGRAM: &str = r"
    const CryptoJS = require('crypto-js');
    const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
    process.stdout.write(JSON.stringify({
        version: require('crypto-js/package.json').version,
        cases: cases.map(({ plain, passphrase, encrypted }) => ({
            plain: CryptoJS.AES.decrypt(encrypted, passphrase).toString(CryptoJS.enc.Utf8),
            passphrase,
            encrypted: CryptoJS.AES.encrypt(plain, passphrase).toString(),
        })),
    }));
";

#[derive(Serialize, Deserialize)]
struct Case {
    plain: String,
    passphrase: String,
    encrypted: String,
}

#[derive(Deserialize)]
struct Answer {
    version: String,
    cases: Vec<Case>,
}

#[test]
fn crypto_js_reads_what_we_encrypt_and_we_read_what_it_encrypts() {
    let Some(modules) = std::env::var_os("CRYPTO_JS_DIR") else {
        return skipped(
            "cross-check with the npm package crypto-js",
            "`cargo xtask peers` installs it",
        );
    };
    let cases: Vec<Case> = vectors::read()
        .vectors
        .into_iter()
        .map(|vector| Case {
            encrypted: encrypt(&vector.plaintext, &vector.passphrase).unwrap(),
            plain: vector.plaintext,
            passphrase: vector.passphrase,
        })
        .collect();

    let node = Command::new("node")
        .args(["-e", PROGRAM])
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut node) = node else {
        return skipped("cross-check with the npm package crypto-js", "install node");
    };
    node.stdin.take().unwrap().write_all(&serde_json::to_vec(&cases).unwrap()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "node failed; CRYPTO_JS_DIR must hold crypto-js@{VERSION}");
    let answer: Answer = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(answer.version, VERSION);
    assert_eq!(answer.cases.len(), 31);
    for (ours, theirs) in cases.iter().zip(&answer.cases) {
        assert_eq!(
            theirs.plain, ours.plain,
            "crypto-js does not read our value under {:?}",
            ours.passphrase
        );
        let decrypted = decrypt(&theirs.encrypted, &theirs.passphrase).unwrap();
        assert_eq!(
            decrypted.expose_secret(),
            ours.plain,
            "we do not read its value under {:?}",
            ours.passphrase
        );
    }
}

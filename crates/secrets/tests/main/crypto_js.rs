//! Both directions against the npm package. Its `node_modules` directory is `CRYPTO_JS_DIR`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use secrets::ExposeSecret as _;
use secrets::cryptojs::{decrypt, encrypt};
use serde::{Deserialize, Serialize};
use testkit::skipped;

use crate::vectors;

const VERSION: &str = "4.2.0";

/// A program that encrypts each text and decrypts each value. Its input and output are JSON.
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
struct Response {
    version: String,
    cases: Vec<Case>,
}

#[test]
fn crypto_js_and_this_crate_decrypt_each_others_values() {
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
    let response: Response = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(response.version, VERSION);
    assert_eq!(response.cases.len(), 31);
    for (ours, theirs) in cases.iter().zip(&response.cases) {
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

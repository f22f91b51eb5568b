//! Signatures in the format of minisign.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use skill_store::VerifyingKey;

/// A signer in the format of minisign.
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    const KEY_ID: &'static [u8; 8] = b"12345678";

    pub(crate) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(crate) fn key(&self) -> VerifyingKey {
        let key = [b"Ed", &Self::KEY_ID[..], self.0.public_key().as_ref()].concat();
        VerifyingKey::parse(&format!("untrusted comment: test\n{}\n", STANDARD.encode(key)))
            .unwrap()
    }

    pub(crate) fn sign(&self, text: &[u8]) -> String {
        let signature = self.0.sign(text);
        let comment = "of a test";
        let global = self.0.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let signature = [b"Ed", &Self::KEY_ID[..], signature.as_ref()].concat();
        let (signature, global) = (STANDARD.encode(signature), STANDARD.encode(global.as_ref()));
        format!("untrusted comment: x\n{signature}\ntrusted comment: {comment}\n{global}\n")
    }
}

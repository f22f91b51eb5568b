//! Keystores of Java, in the format JKS.
//!
//! The format is that of OpenJDK's `sun.security.provider.JavaKeyStore`: numbers are big-endian,
//! texts have a length of 16 bits, and a digest with the password ends the file. Java opens its
//! default store without a password, and does not check the digest then.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::CertificateDer;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// Tag of a trusted certificate.
const TRUSTED: u32 = 2;
const PASSWORD: &str = "changeit";
/// The text that the digest covers after the password.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// Writes a keystore of trusted certificates.
pub(super) fn jks<'c>(
    certificates: impl IntoIterator<Item = &'c CertificateDer<'static>>,
) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0_u32;
    for certificate in certificates {
        let Ok(length) = u32::try_from(certificate.len()) else { continue };
        entries.extend(TRUSTED.to_be_bytes());
        write_text(&mut entries, &format!("root{count}"));
        // The time of the entry, which nothing reads.
        entries.extend(0_u64.to_be_bytes());
        write_text(&mut entries, "X.509");
        entries.extend(length.to_be_bytes());
        entries.extend_from_slice(certificate);
        count += 1;
    }
    let numbers = [MAGIC, VERSION, count].map(u32::to_be_bytes);
    let mut store = numbers.concat();
    store.append(&mut entries);
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        digest.update(&unit.to_be_bytes());
    }
    digest.update(WHITENER);
    digest.update(&store);
    store.extend_from_slice(digest.finish().as_ref());
    store
}

/// Writes a text in ASCII.
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::authority::Authority;

    #[test]
    fn java_lists_the_certificates() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::new(&provider, 1).unwrap();
        let store = jks([authority.certificate(), authority.certificate()]);
        let path = std::env::temp_dir().join(format!("egress-{}.jks", std::process::id()));
        std::fs::write(&path, store).unwrap();
        let listed = Command::new("keytool")
            .args(["-list", "-storepass", PASSWORD, "-keystore"])
            .arg(&path)
            .output();
        std::fs::remove_file(&path).unwrap();
        match listed {
            Ok(listed) => {
                assert!(listed.status.success(), "{listed:?}");
                let text = String::from_utf8_lossy(&listed.stdout);
                assert!(text.contains("2 entries") && text.contains("root1"), "{text}");
            }
            Err(_) => testkit::skipped("keystores of Java", "package openjdk-17-jre-headless"),
        }
    }

    #[test]
    fn an_empty_store_has_the_digest_of_java() {
        let store = jks([]);
        assert_eq!(store.len(), 12 + 20);
        let hex: String = store[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e2686e45fb43dfa4d992dd41ceb6b21c6330d792");
    }
}

//! Trust of a session in the authority: files, places for them, and variables.

mod keystore;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

/// Files with the trusted certificates of a Linux system.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];
/// Directories with one directory for each Java.
const JAVA_DIRECTORIES: [&str; 3] = ["/usr/lib/jvm", "/usr/java", "/opt/java"];
/// Places of the keystore in a Java, and the one that Debian links to.
const JAVA_KEYSTORES: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];
const SYSTEM_KEYSTORE: &str = "/etc/ssl/certs/java/cacerts";

/// Variables that name a file with all trusted certificates.
const BUNDLE_VARIABLES: [&str; 14] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "npm_config_cafile",
    "DENO_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "BUNDLE_SSL_CA_CERT",
];
/// The variable that names a file with additional certificates.
const ADDED_VARIABLE: &str = "NODE_EXTRA_CA_CERTS";
/// Those of programs that bring their own certificates, and so ignore the bundle of the system.
const OWN_ROOTS: [&str; 9] = [
    // httpx of Python. Others read the bundle of the system anyway.
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    ADDED_VARIABLE,
];
/// Makes uv read the bundle of the system.
const UV: (&str, &str) = ("UV_NATIVE_TLS", "1");

/// Everything that makes the programs of a session trust the authority of a gate.
///
/// The bundle has the authority and the certificates that the gate itself trusts. Bound over
/// [`Trust::bundle_targets`], it suffices for most programs. The rest needs
/// [`TrustFiles::variables`], and Java the keystore over [`Trust::keystore_targets`].
#[derive(Clone, Debug)]
pub struct Trust {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    authority: CertificateDer<'static>,
    roots: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
    load: fn() -> Vec<CertificateDer<'static>>,
    extra: Vec<CertificateDer<'static>>,
}

impl Trust {
    pub(crate) fn new(
        authority: CertificateDer<'static>,
        roots: Option<Vec<CertificateDer<'static>>>,
        extra: Vec<CertificateDer<'static>>,
    ) -> Self {
        let loaded = Arc::new(OnceLock::new());
        if let Some(roots) = roots {
            let _ = loaded.set(roots);
        }
        // The environment of the operator counts. Files that cannot be read are missing roots.
        let load = || rustls_native_certs::load_native_certs().certs;
        Self { parts: Arc::new(Parts { authority, roots: loaded, load, extra }) }
    }

    /// Returns the certificates that servers are verified against.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let Parts { roots, load, extra, .. } = &*self.parts;
        roots.get_or_init(load).iter().chain(extra)
    }

    /// Returns the certificate of the authority, in PEM.
    pub fn authority(&self) -> String {
        pem([&self.parts.authority])
    }

    /// Returns the certificate of the authority and all that the gate trusts, in PEM.
    pub fn bundle(&self) -> String {
        pem([&self.parts.authority].into_iter().chain(self.roots()))
    }

    /// Returns the same certificates as a keystore of Java, in the format JKS with the usual
    /// password `changeit`.
    pub fn keystore(&self) -> Vec<u8> {
        keystore::jks([&self.parts.authority].into_iter().chain(self.roots()))
    }

    /// Returns the files of this system with trusted certificates, for the bundle to be bound over.
    /// A file that another one links to is named once.
    pub fn bundle_targets() -> Vec<PathBuf> {
        existing(SYSTEM_BUNDLES.iter().map(PathBuf::from))
    }

    /// Returns the keystores of this system's Java installations, for the keystore to be bound
    /// over.
    pub fn keystore_targets() -> Vec<PathBuf> {
        let directories = JAVA_DIRECTORIES.iter().filter_map(|path| fs::read_dir(path).ok());
        let homes = directories.flatten().flatten().map(|entry| entry.path());
        let stores = homes.flat_map(|home| JAVA_KEYSTORES.map(|place| home.join(place)));
        existing(stores.chain([PathBuf::from(SYSTEM_KEYSTORE)]))
    }

    /// Returns the variables for programs that bring their own certificates, in a session that sees
    /// the bundle at this path. The other programs need none.
    pub fn variables(bundle: &Path) -> Vec<(&'static str, String)> {
        let bundle = bundle.to_string_lossy();
        let named = OWN_ROOTS.iter().map(|name| (*name, bundle.clone().into_owned()));
        named.chain([(UV.0, UV.1.to_owned())]).collect()
    }

    /// Writes the files into an existing directory.
    ///
    /// # Errors
    /// Returns the error of the file that cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<TrustFiles> {
        let files = TrustFiles {
            authority: directory.join("authority.pem"),
            bundle: directory.join("bundle.pem"),
            keystore: directory.join("cacerts.jks"),
        };
        fs::write(&files.authority, self.authority())?;
        fs::write(&files.bundle, self.bundle())?;
        fs::write(&files.keystore, self.keystore())?;
        Ok(files)
    }
}

/// Files of a [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustFiles {
    /// The authority alone, in PEM.
    pub authority: PathBuf,
    /// The authority and the roots, in PEM.
    pub bundle: PathBuf,
    /// The authority and the roots, as a keystore of Java.
    pub keystore: PathBuf,
}

impl TrustFiles {
    /// Returns the variables for programs that bring their own certificates. The paths must be
    /// those that the session sees.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let bundle = BUNDLE_VARIABLES.iter().map(|name| (*name, text(&self.bundle)));
        let rest = [(ADDED_VARIABLE, text(&self.authority)), (UV.0, UV.1.to_owned())];
        bundle.chain(rest).collect()
    }
}

/// Returns the files that exist, without links to each other.
fn existing(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let real = paths.filter_map(|path| path.canonicalize().ok()).filter(|path| path.is_file());
    let mut found: Vec<PathBuf> = Vec::new();
    for path in real {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Writes certificates in PEM (RFC 7468).
fn pem<'c>(certificates: impl IntoIterator<Item = &'c CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn trust() -> Trust {
        let certificate = |byte: u8| CertificateDer::from(vec![byte; 100]);
        Trust::new(certificate(1), Some(vec![certificate(2)]), vec![certificate(3)])
    }

    #[test]
    fn the_bundle_has_the_authority_and_all_roots() {
        let bundle = trust().bundle();
        let read = CertificateDer::pem_slice_iter(bundle.as_bytes());
        let first: Vec<u8> = read.map(|certificate| certificate.unwrap()[0]).collect();
        assert_eq!(first, [1, 2, 3]);
        assert!(bundle.lines().all(|line| line.len() <= 64));
        assert!(bundle.starts_with(&trust().authority()));
    }

    #[test]
    fn files_and_variables_name_each_other() {
        let directory = std::env::temp_dir().join(format!("egress-trust-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let files = trust().write(&directory).unwrap();
        let variables = files.variables();
        let of = |name: &str| &variables.iter().find(|(own, _)| *own == name).unwrap().1;
        assert_eq!(fs::read_to_string(of("SSL_CERT_FILE")).unwrap(), trust().bundle());
        assert_eq!(fs::read_to_string(of("NODE_EXTRA_CA_CERTS")).unwrap(), trust().authority());
        assert_eq!(fs::read(&files.keystore).unwrap(), trust().keystore());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn targets_exist_and_are_no_links() {
        for path in Trust::bundle_targets().into_iter().chain(Trust::keystore_targets()) {
            assert_eq!(path.canonicalize().unwrap(), path);
        }
    }
}

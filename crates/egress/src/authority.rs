//! The authority of the process: it signs the certificates that terminated connections show.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use policy::Host;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::error::GateError;

/// Validity of the authority. Its key is only in memory, so it ends with the process.
const AUTHORITY_DAYS: u64 = 365;
/// Validity of a leaf.
const LEAF_DAYS: u64 = 7;
/// Age at which a leaf is replaced.
const LEAF_AGE: Duration = days(3);
/// Time for clocks that are late.
const LATE_CLOCKS: Duration = days(1);
/// TLS sessions that can be resumed, of all clients.
const RESUMABLE: usize = 1024;

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

/// The certificate of a name, with its key.
pub(crate) type Leaf = Arc<CertifiedKey>;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The key of all leaves.
    key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    config: ServerConfig,
    leaves: Mutex<Leaves>,
}

/// The leaves of allowed names, of all sessions.
struct Leaves {
    max: usize,
    clock: u64,
    leaves: HashMap<Host, Cached>,
}

struct Cached {
    leaf: Leaf,
    minted: SystemTime,
    used: u64,
}

impl Authority {
    /// Creates an authority with new keys, which keeps a number of leaves.
    pub(crate) fn new(
        provider: &Arc<CryptoProvider>,
        max_leaves: usize,
    ) -> Result<Self, GateError> {
        let failed = |_| GateError::Authority;
        let mut params = params("Sandbox egress authority", AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(failed)?);
        let key = KeyPair::generate().map_err(failed)?;
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signing_key = provider.key_provider.load_private_key(private);
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions();
        let mut config = builder
            .map_err(|_| GateError::Authority)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoLeaf));
        // A session is resumed only for the same name.
        config.session_storage = ServerSessionMemoryCache::new(RESUMABLE);
        Ok(Self {
            issuer: issuer.map_err(failed)?,
            key,
            signing_key: signing_key.map_err(|_| GateError::Authority)?,
            config,
            leaves: Mutex::new(Leaves { max: max_leaves, clock: 0, leaves: HashMap::new() }),
        })
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// Returns the leaf of an allowed name, from the cache if it is there.
    pub(crate) fn leaf(&self, host: &Host) -> Result<Leaf, GateError> {
        let now = SystemTime::now();
        if let Some(leaf) = self.leaves().use_leaf(host, now) {
            return Ok(leaf);
        }
        let leaf = self.mint(host)?;
        self.leaves().insert(host, &leaf, now);
        Ok(leaf)
    }

    /// Creates a leaf outside the cache.
    pub(crate) fn mint(&self, host: &Host) -> Result<Leaf, GateError> {
        let name = host.to_string();
        let common = if name.len() <= 64 { name.as_str() } else { "Sandbox egress" };
        let mut params = params(common, LEAF_DAYS)?;
        params.subject_alt_names = vec![match host.as_address() {
            Some(address) => SanType::IpAddress(address),
            None => SanType::DnsName(name.as_str().try_into().map_err(|_| GateError::Authority)?),
        }];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.key, &self.issuer).map_err(|_| GateError::Authority)?;
        // Some clients find the issuer of a chain by itself only if it is part of the chain.
        let chain = vec![leaf.der().clone(), self.certificate().clone()];
        Ok(Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signing_key))))
    }

    /// Returns the settings of a server that shows a leaf, and speaks one protocol by ALPN.
    pub(crate) fn config(&self, leaf: Leaf, protocol: Option<&[u8]>) -> Arc<ServerConfig> {
        let mut config = self.config.clone();
        config.cert_resolver = Arc::new(OneLeaf(leaf));
        config.alpn_protocols = protocol.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    fn leaves(&self) -> std::sync::MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Leaves {
    fn use_leaf(&mut self, host: &Host, now: SystemTime) -> Option<Leaf> {
        self.clock += 1;
        let cached = self.leaves.get_mut(host)?;
        if now.duration_since(cached.minted).is_ok_and(|age| age > LEAF_AGE) {
            return None;
        }
        cached.used = self.clock;
        Some(Arc::clone(&cached.leaf))
    }

    fn insert(&mut self, host: &Host, leaf: &Leaf, minted: SystemTime) {
        if self.leaves.len() >= self.max && !self.leaves.contains_key(host) {
            let oldest = self.leaves.iter().min_by_key(|(_, cached)| cached.used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.leaves.remove(&oldest);
            }
        }
        let cached = Cached { leaf: Arc::clone(leaf), minted, used: self.clock };
        self.leaves.insert(host.clone(), cached);
    }
}

fn params(common: &str, valid_days: u64) -> Result<CertificateParams, GateError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    let now = SystemTime::now();
    params.not_before = (now - LATE_CLOCKS).into();
    params.not_after = (now + days(valid_days)).into();
    // All leaves have one key, from which the number would be made else.
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| GateError::Authority)?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

#[derive(Debug)]
struct OneLeaf(Leaf);

impl ResolvesServerCert for OneLeaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Leaf> {
        Some(Arc::clone(&self.0))
    }
}

/// Stands in settings that are not complete.
#[derive(Debug)]
struct NoLeaf;

impl ResolvesServerCert for NoLeaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Leaf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn authority(max_leaves: usize) -> Authority {
        Authority::new(&Arc::new(rustls::crypto::ring::default_provider()), max_leaves).unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[track_caller]
    fn check(authority: &Authority, leaf: &Leaf, name: &str, expected: bool) {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let (end, rest) = leaf.cert.split_first().unwrap();
        let verified =
            verifier.build().unwrap().verify_server_cert(end, rest, &name, &[], UnixTime::now());
        assert_eq!(verified.is_ok(), expected, "{name:?} {verified:?}");
    }

    #[test]
    fn a_leaf_is_valid_for_its_name_alone() {
        let authority = authority(8);
        let leaf = authority.leaf(&host("api.allowed.test")).unwrap();
        check(&authority, &leaf, "api.allowed.test", true);
        check(&authority, &leaf, "allowed.test", false);
        let long = format!("{}.{}.test", "a".repeat(60), "b".repeat(60));
        check(&authority, &authority.leaf(&host(&long)).unwrap(), &long, true);
        let address = authority.leaf(&host("192.0.2.1")).unwrap();
        check(&authority, &address, "192.0.2.1", true);
        check(&self::authority(8), &leaf, "api.allowed.test", false);
    }

    #[test]
    fn the_cache_drops_the_leaf_that_was_not_used_for_longest() {
        let authority = authority(2);
        let a = authority.leaf(&host("a.test")).unwrap();
        let b = authority.leaf(&host("b.test")).unwrap();
        assert!(Arc::ptr_eq(&a, &authority.leaf(&host("a.test")).unwrap()));
        authority.leaf(&host("c.test")).unwrap();
        assert!(Arc::ptr_eq(&a, &authority.leaf(&host("a.test")).unwrap()));
        assert!(!Arc::ptr_eq(&b, &authority.leaf(&host("b.test")).unwrap()));
        assert_eq!(authority.leaves().leaves.len(), 2);
    }

    #[test]
    fn an_old_leaf_is_replaced() {
        let authority = authority(2);
        let leaf = authority.leaf(&host("a.test")).unwrap();
        let later = SystemTime::now() + LEAF_AGE + days(1);
        assert!(authority.leaves().use_leaf(&host("a.test"), later).is_none());
        assert!(authority.leaves().use_leaf(&host("a.test"), SystemTime::now()).is_some());
        drop(leaf);
    }
}

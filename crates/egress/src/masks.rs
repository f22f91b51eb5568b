//! The masks of a session, by host: values to insert, placeholders to refuse, answers to redact.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use policy::{Decision, Host, NetworkConfig, NetworkPolicy, Rule};
use secrets::{ExposeSecret as _, Mask, Masks, Redactor, RequestPart, SecretString, Substitution};

use crate::denial::{Denial, is_label, is_of_host};
use crate::error::MasksError;
use crate::judge::Target;

/// The masks of a session, ready for fast decisions.
#[derive(Debug, Default)]
pub(crate) struct SessionMasks {
    masks: Masks,
    /// The hosts of each mask.
    hosts: Vec<Arc<[MaskedHost]>>,
    /// Earlier values, with the hosts that may have received them. Answers of these are redacted.
    former: Vec<(Mask, Arc<[MaskedHost]>)>,
    /// The view without masks.
    none: Arc<HostMasks>,
    /// Views of hosts, by the masks that are for them.
    views: Mutex<HashMap<ViewKey, Arc<HostMasks>>>,
}

/// The masks that concern a connection, by their indexes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ViewKey {
    /// Masks for the host and its port.
    own: Vec<usize>,
    /// Masks for the host. Another port of it may show what one port has received.
    of_name: Vec<usize>,
    former: Vec<usize>,
    security: Security,
}

#[derive(Debug)]
struct MaskedHost {
    /// A policy that allows this host alone.
    policy: NetworkPolicy,
    /// The same with all ports, if the host has one.
    any_port: Option<NetworkPolicy>,
    /// The name above all covered names, if they must have one owner.
    same_owner: Option<String>,
}

/// Protection of a request on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// TLS with a server whose certificate was verified.
    Verified,
    /// No TLS.
    Plaintext,
}

/// The masks of a session, as requests to one host see them.
#[derive(Debug, Default)]
pub(crate) struct HostMasks {
    pub(crate) headers: Substitution,
    pub(crate) query: Substitution,
    pub(crate) body: Substitution,
    /// Finds the values that the host receives.
    pub(crate) answers: Option<Answers>,
    /// Finds the placeholders that are for other hosts.
    pub(crate) foreign: Option<Redactor>,
    /// Finds the placeholders that are for the host.
    own: Option<Redactor>,
    /// The names of the own masks that requests without TLS may have.
    plaintext: HashSet<String>,
    /// The names of foreign masks that are for another port of the host, with their hosts.
    other_ports: HashMap<String, String>,
    /// Placeholders with their values, as keys of signatures.
    pub(crate) keys: Vec<(SecretString, SecretString)>,
    /// The names of the secrets of `keys`, in the same order.
    pub(crate) key_names: Vec<String>,
}

/// The values that a host receives, to be replaced in its answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) redactor: Redactor,
    /// Texts of the length of a value, by name.
    placeholders: Arc<HashMap<String, SecretString>>,
    /// The number of bytes at the end of an answer that wait, so that no text shows by its time
    /// whether it may begin a value.
    pub(crate) delay: usize,
}

/// The length of the longest form of a value, by the length of the value: two characters for each
/// byte, each spelled in 32 bytes, with a line break of 128 bytes before it.
const FORM_BYTES: usize = 320;
/// The shortest and the longest delay. A partial value beyond the delay shows itself.
const DELAYS: (usize, usize) = (16 * 1024, 1024 * 1024);

/// The number of earlier values that are kept.
const MAX_FORMER: usize = 64;

/// The length of the shortest placeholder.
const MIN_PLACEHOLDER_BYTES: usize = 24;

/// Repeated in the place of a form that has another length than its placeholder.
const FILLER: &[u8] = b"redacted";

/// Checks the hosts of a mask, as [`Network::set_masks`](crate::Network::set_masks) does.
///
/// # Errors
/// Returns [`MasksError`] for a host that is invalid or shared, and for one that no connection has.
pub fn check_hosts(mask: &Mask) -> Result<(), MasksError> {
    mask.hosts().iter().try_for_each(|host| MaskedHost::compile(mask, host).map(drop))
}

impl SessionMasks {
    pub(crate) fn compile(masks: &Masks) -> Result<Self, MasksError> {
        let hosts = masks.iter().map(|(mask, _)| {
            let hosts = mask.hosts().iter().map(|host| MaskedHost::compile(mask, host));
            Ok(hosts.collect::<Result<Vec<_>, _>>()?.into())
        });
        Ok(Self {
            hosts: hosts.collect::<Result<_, _>>()?,
            masks: masks.clone(),
            ..Self::default()
        })
    }

    /// Keeps the values of the masks before these, if they differ.
    pub(crate) fn succeed(&mut self, before: &Self) {
        let has = |mask: &Mask| {
            let value = mask.value().expose_secret();
            self.masks.iter().any(|(own, _)| own.value().expose_secret() == value)
        };
        let replaced = before.masks.iter().zip(&before.hosts);
        let replaced = replaced.map(|((mask, _), hosts)| (mask.clone(), Arc::clone(hosts)));
        let former = before.former.iter().cloned().chain(replaced.filter(|(mask, _)| !has(mask)));
        self.former = former.collect();
        let excess = self.former.len().saturating_sub(MAX_FORMER);
        self.former.drain(..excess);
    }

    /// Returns whether the values of some masks are for a host, or were.
    pub(crate) fn has_host(&self, host: &Host, port: u16) -> bool {
        let former = self.former.iter().map(|(_, hosts)| hosts);
        self.hosts.iter().chain(former).any(|hosts| hosts.iter().any(|own| own.covers(host, port)))
    }

    /// Returns the masks as requests to a host see them.
    pub(crate) fn view(&self, target: &Target, security: Security) -> Arc<HostMasks> {
        if self.masks.is_empty() && self.former.is_empty() {
            return Arc::clone(&self.none);
        }
        let Target { host, port, .. } = target;
        let of_name = |hosts: &[MaskedHost]| hosts.iter().any(|own| own.covers_name(host, *port));
        let indexes = |covers: &dyn Fn(&[MaskedHost]) -> bool| {
            (0..self.hosts.len()).filter(|index| covers(&self.hosts[*index])).collect()
        };
        let key = ViewKey {
            own: indexes(&|hosts| hosts.iter().any(|own| own.covers(host, *port))),
            of_name: indexes(&of_name),
            former: (0..self.former.len()).filter(|at| of_name(&self.former[*at].1)).collect(),
            security,
        };
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let view = views.entry(key).or_insert_with_key(|key| {
            let former = key.former.iter().map(|at| &self.former[*at].0);
            Arc::new(HostMasks::new(&self.masks, key, &former.collect::<Vec<_>>()))
        });
        Arc::clone(view)
    }

    /// Refuses placeholders in the visible bytes of a tunnel. None is for the other end, because
    /// nothing inserts the value.
    pub(crate) fn check_opaque(&self, target: &Target, bytes: &[u8]) -> Result<(), Denial> {
        if self.masks.is_empty() {
            return Ok(());
        }
        self.view(target, Security::Plaintext).check([bytes])
    }
}

impl MaskedHost {
    fn compile(mask: &Mask, host: &str) -> Result<Self, MasksError> {
        let (name, owned_host) = (mask.name().to_owned(), host.to_owned());
        let mut network = NetworkConfig::default();
        network.allowed_domains = vec![owned_host.clone()];
        let (wildcard, below) = host.split_at(if host.starts_with("*.") { 2 } else { 0 });
        let (policy, parsed) =
            match (NetworkPolicy::compile(&network), Host::parse_with_port(below)) {
                (Ok(policy), Ok(parsed)) => (policy, parsed),
                _ => return Err(MasksError::Host { name, host: owned_host }),
            };
        if parsed.0.is_loopback() {
            return Err(MasksError::Loopback { name, host: owned_host });
        }
        // No host is below an address.
        if !wildcard.is_empty() && parsed.0.as_address().is_some() {
            return Err(MasksError::Host { name, host: owned_host });
        }
        if parsed.0.as_address().is_some_and(crate::names::stands_for_name) {
            return Err(MasksError::StandIn { name, host: owned_host });
        }
        if parsed.0.as_name().is_some_and(|base| has_no_server(wildcard, base)) {
            return Err(MasksError::NoServer { name, host: owned_host });
        }
        network.allowed_domains = vec![format!("{wildcard}{}", parsed.0.to_pattern(None))];
        let any_port = parsed.1.and_then(|_| NetworkPolicy::compile(&network).ok());
        let base = host.strip_prefix("*.").map(|base| match base.rsplit_once(':') {
            Some((base, _)) => base,
            None => base,
        });
        let same_owner = match base.map(Host::parse) {
            Some(Ok(base)) if !mask.allows_shared_domains() => {
                let base = base.to_string();
                if psl::suffix_str(&base) == Some(&*base) {
                    return Err(MasksError::SharedDomain { name, host: owned_host });
                }
                Some(base)
            }
            _ => None,
        };
        Ok(Self { policy, any_port, same_owner })
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        self.is_listed(&self.policy, host, port)
    }

    /// Returns whether a host is covered, at this or another port.
    fn covers_name(&self, host: &Host, port: u16) -> bool {
        self.is_listed(self.any_port.as_ref().unwrap_or(&self.policy), host, port)
    }

    fn is_listed(&self, policy: &NetworkPolicy, host: &Host, port: u16) -> bool {
        let decision = policy.decide(host, port);
        if !matches!(&decision, Decision::Allowed { rule: Rule::Listed { .. }, .. }) {
            return false;
        }
        // Below `*.example.com`, a service may give names to its customers.
        let owner = || psl::domain_str(host.as_name()?);
        match &self.same_owner {
            Some(base) => owner().is_some_and(|owner| owner.len() <= base.len()),
            None => true,
        }
    }
}

/// Returns whether a pattern covers only names in the domain of the host's servers that no server
/// has: these are one label below the domain.
fn has_no_server(wildcard: &str, base: &str) -> bool {
    let name = if wildcard.is_empty() { base.to_owned() } else { format!("x.{base}") };
    is_of_host(&name) && !is_label(&name)
}

impl HostMasks {
    fn new(masks: &Masks, key: &ViewKey, former: &[&Mask]) -> Self {
        let ViewKey { own, of_name, security, .. } = key;
        let all = || masks.iter().enumerate();
        let of_host = || all().filter(|(index, _)| own.contains(index)).map(|(_, mask)| mask);
        let of_name = || all().filter(|(index, _)| of_name.contains(index)).map(|(_, mask)| mask);
        let received = || of_name().map(|(mask, _)| mask).chain(former.iter().copied());
        let inserted = || {
            of_host().filter(|(mask, _)| *security == Security::Verified || mask.allows_plaintext())
        };
        let into = |part: RequestPart| {
            Substitution::new(inserted().filter(move |(mask, _)| mask.is_in(part)))
        };
        let foreign: Vec<(&str, SecretString)> = all()
            .filter(|(index, _)| !own.contains(index))
            .map(|(_, (mask, placeholder))| (mask.name(), placeholder.into()))
            .collect();
        let secret = |placeholder: &str| SecretString::from(placeholder);
        let own_placeholders: Vec<(&str, SecretString)> =
            of_host().map(|(mask, placeholder)| (mask.name(), secret(placeholder))).collect();
        let other_ports = all().filter(|(index, _)| !own.contains(index));
        let other_ports = other_ports.filter(|(index, _)| key.of_name.contains(index));
        Self {
            headers: into(RequestPart::Headers),
            query: into(RequestPart::Query),
            body: into(RequestPart::Body),
            // Also without TLS: a server may show there what it got in TLS.
            answers: received().next().is_some().then(|| Answers {
                redactor: Redactor::of(received().map(|mask| (mask.name(), mask.value()))),
                delay: received()
                    .map(|mask| mask.value().expose_secret().len().saturating_mul(FORM_BYTES))
                    .max()
                    .unwrap_or_default()
                    .clamp(DELAYS.0, DELAYS.1),
                placeholders: Arc::new(
                    of_name()
                        .filter(|(mask, own)| mask.value().expose_secret().len() == own.len())
                        .map(|(mask, own)| (mask.name().to_owned(), secret(own)))
                        .collect(),
                ),
            }),
            foreign: (!foreign.is_empty()).then(|| {
                Redactor::of(foreign.iter().map(|(name, placeholder)| (*name, placeholder)))
            }),
            own: (!own_placeholders.is_empty())
                .then(|| Redactor::of(own_placeholders.iter().map(|(name, own)| (*name, own)))),
            plaintext: of_host()
                .filter(|(mask, _)| mask.allows_plaintext())
                .map(|(mask, _)| mask.name().to_owned())
                .collect(),
            other_ports: other_ports
                .map(|(_, (mask, _))| (mask.name().to_owned(), mask.hosts().join(", ")))
                .collect(),
            keys: inserted()
                .filter(|(mask, _)| mask.is_in(RequestPart::Headers))
                .map(|(mask, own)| (secret(own), mask.value().clone()))
                .collect(),
            key_names: inserted()
                .filter(|(mask, _)| mask.is_in(RequestPart::Headers))
                .map(|(mask, _)| mask.name().to_owned())
                .collect(),
        }
    }

    /// Refuses texts with placeholders for other hosts.
    pub(crate) fn check<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t [u8]>,
    ) -> Result<(), Denial> {
        let Some(foreign) = &self.foreign else { return Ok(()) };
        match texts.into_iter().find_map(|text| foreign.find(text).into_iter().next()) {
            Some(found) => Err(self.misdirected(found.name.to_owned())),
            None => Ok(()),
        }
    }

    /// Returns the refusal of a foreign placeholder.
    fn misdirected(&self, name: String) -> Denial {
        match self.other_ports.get(&name) {
            Some(hosts) => Denial::OtherPort { name, hosts: hosts.clone() },
            None => Denial::Misdirected { name },
        }
    }

    /// Returns whether no mask is for the host.
    pub(crate) fn is_unused(&self) -> bool {
        self.own.is_none()
    }

    /// Returns the names of the secrets for the host whose placeholders are in a text, each with
    /// whether requests without TLS may have it.
    pub(crate) fn own_in(&self, text: &[u8]) -> Vec<(&str, bool)> {
        let own = self.own.as_ref().filter(|_| text.len() >= MIN_PLACEHOLDER_BYTES);
        let found = own.map(|own| own.find(text)).unwrap_or_default();
        let found = found.into_iter();
        found.map(|found| (found.name, self.plaintext.contains(found.name))).collect()
    }
}

impl Answers {
    /// Writes a text of the same length in the place of a value.
    pub(crate) fn write(&self, name: &str, bytes: usize, out: &mut Vec<u8>) {
        match self.placeholders.get(name).map(|placeholder| placeholder.expose_secret()) {
            Some(placeholder) if placeholder.len() == bytes => {
                out.extend_from_slice(placeholder.as_bytes());
            }
            _ => out.extend(FILLER.iter().cycle().take(bytes)),
        }
    }

    /// Replaces the values in a whole text, such as a header. The result is `None` for a text
    /// without values.
    pub(crate) fn replace(&self, text: &[u8]) -> Option<Vec<u8>> {
        let found = self.redactor.find(text);
        let mut from = 0;
        let mut replaced = Vec::with_capacity(text.len());
        for one in &found {
            replaced.extend_from_slice(&text[from..one.range.start]);
            self.write(one.name, one.range.len(), &mut replaced);
            from = one.range.end;
        }
        replaced.extend_from_slice(&text[from..]);
        (!found.is_empty()).then_some(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Via;

    fn mask(name: &str, hosts: &[&str]) -> Mask {
        Mask::new(name, SecretString::from("a long secret value of 32 bytes."), hosts.to_vec())
    }

    fn compile(masks: Vec<Mask>) -> Result<SessionMasks, MasksError> {
        SessionMasks::compile(&Masks::new(masks).unwrap())
    }

    fn to(host: &str) -> Target {
        Target { host: Host::parse(host).unwrap(), port: 443, via: Via::Proxy }
    }

    #[track_caller]
    fn check(masks: &SessionMasks, host: &str, port: u16, expected: bool) {
        assert_eq!(masks.has_host(&Host::parse(host).unwrap(), port), expected, "{host}:{port}");
    }

    #[test]
    fn hosts_are_patterns_with_ports() {
        let hosts = ["api.example.com:443", "*.svc.example.com", "192.0.2.1"];
        let masks = compile(vec![mask("A", &hosts)]).unwrap();
        check(&masks, "API.example.com.", 443, true);
        check(&masks, "api.example.com", 80, false);
        check(&masks, "a.b.svc.example.com", 80, true);
        check(&masks, "svc.example.com", 80, false);
        check(&masks, "192.0.2.1", 1, true);
    }

    #[test]
    fn patterns_over_the_names_of_many_owners_need_a_flag() {
        for host in ["*.github.io", "*.co.uk:443"] {
            let error = compile(vec![mask("A", &[host])]).unwrap_err();
            assert!(matches!(error, MasksError::SharedDomain { .. }), "{host} {error:?}");
            compile(vec![mask("A", &[host]).allow_shared_domains()]).unwrap();
        }
        // Names of the service itself, and names that it gives to its customers.
        let masks = compile(vec![mask("A", &["*.amazonaws.com"])]).unwrap();
        check(&masks, "sts.amazonaws.com", 443, true);
        check(&masks, "bucket.s3.amazonaws.com", 443, false);
        let masks = vec![mask("A", &["*.amazonaws.com"]).allow_shared_domains()];
        check(&compile(masks).unwrap(), "bucket.s3.amazonaws.com", 443, true);
        for host in [
            "*",
            "a/b",
            "http://a.test",
            "",
            "a.test,b.test",
            "me@a.test",
            "*.a.*.test",
            "*.192.0.2.1",
        ] {
            let error = compile(vec![mask("A", &[host])]).unwrap_err();
            assert!(matches!(error, MasksError::Host { .. }), "{host} {error:?}");
        }
        for host in ["localhost", "127.0.0.1:80", "[::1]"] {
            let error = compile(vec![mask("A", &[host])]).unwrap_err();
            assert!(matches!(error, MasksError::Loopback { .. }), "{host} {error:?}");
        }
    }

    #[test]
    fn hosts_that_no_connection_has_are_refused() {
        for host in
            ["host.internal", "Host.Internal:443", "a.db.host.internal", "*.db.host.internal"]
        {
            let error = compile(vec![mask("A", &[host])]).unwrap_err();
            assert!(matches!(error, MasksError::NoServer { .. }), "{host} {error:?}");
        }
        for host in ["198.18.0.1", "198.19.255.255:443", "[::ffff:198.18.1.0]", "198.18.257"] {
            let error = compile(vec![mask("A", &[host])]).unwrap_err();
            assert!(matches!(error, MasksError::StandIn { .. }), "{host} {error:?}");
        }
        let hosts = ["db.host.internal:80", "*.host.internal", "myhost.internal", "198.20.0.1"];
        compile(vec![mask("A", &hosts)]).unwrap();
    }

    #[test]
    fn plaintext_needs_a_flag_and_foreign_placeholders_are_refused() {
        let hosts = ["a.test"];
        let masks = Masks::new([
            mask("A", &hosts),
            mask("P", &hosts).allow_plaintext(),
            mask("B", &["b.test"]),
        ])
        .unwrap();
        let compiled = SessionMasks::compile(&masks).unwrap();
        let (a, b) = (masks.placeholder("A").unwrap(), masks.placeholder("B").unwrap());
        let verified = compiled.view(&to("a.test"), Security::Verified);
        assert!(verified.headers.replace(a.as_bytes()).is_some());
        assert!(verified.body.is_empty());
        let plain = compiled.view(&to("a.test"), Security::Plaintext);
        assert!(plain.headers.replace(a.as_bytes()).is_none());
        let of_p = masks.placeholder("P").unwrap();
        assert!(plain.headers.replace(of_p.as_bytes()).is_some());
        assert_eq!(plain.check([a.as_bytes()]), Ok(()));
        let encoded =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("user:{b}"));
        for text in [b.as_bytes(), encoded.as_bytes()] {
            let denial = Denial::Misdirected { name: "B".to_owned() };
            assert_eq!(plain.check([&b"GET"[..], text]), Err(denial.clone()));
            assert_eq!(compiled.check_opaque(&to("c.test"), text), Err(denial));
        }
        let masks = Masks::new([mask("A", &["a.test:443"])]).unwrap();
        let compiled = SessionMasks::compile(&masks).unwrap();
        let other_port = Target { port: 80, ..to("a.test") };
        let text = masks.placeholder("A").unwrap().as_bytes();
        let denial = compiled.check_opaque(&other_port, text).unwrap_err();
        assert_eq!(denial.to_string(), "the placeholder of A is for a.test:443");
        assert_eq!(denial.remedy().unwrap(), "use https on a port of the mask");
    }

    #[test]
    fn a_redacted_text_keeps_its_length() {
        let masks = Masks::new([mask("A", &["a.test"])]).unwrap();
        let compiled = SessionMasks::compile(&masks).unwrap();
        let view = compiled.view(&to("a.test"), Security::Verified);
        let answers = view.answers.as_ref().unwrap();
        let value = "a long secret value of 32 bytes.";
        let replaced = answers.replace(format!("<{value}>").as_bytes()).unwrap();
        assert_eq!(replaced, format!("<{}>", masks.placeholder("A").unwrap()).as_bytes());
        let encoded = value.replace(' ', "%20");
        let replaced = answers.replace(encoded.as_bytes()).unwrap();
        assert_eq!(replaced.len(), encoded.len());
        assert!(replaced.starts_with(b"redactedredacted"));
        assert_eq!(answers.replace(b"other"), None);
    }

    #[test]
    fn what_another_port_or_an_earlier_value_may_have_shown_is_redacted() {
        let masks = compile(vec![mask("A", &["a.test:443"])]).unwrap();
        let value = b"a long secret value of 32 bytes.";
        let replaces = |masks: &SessionMasks, host: &str, port: u16| {
            let target = Target { port, ..to(host) };
            let view = masks.view(&target, Security::Plaintext);
            view.answers.as_ref().is_some_and(|answers| answers.replace(value).is_some())
        };
        assert!(replaces(&masks, "a.test", 80) && !masks.has_host(&to("a.test").host, 80));
        assert!(!replaces(&masks, "b.test", 443));
        let other = || Mask::new("A", SecretString::from("another secret value"), ["a.test"]);
        let mut renewed = compile(vec![other()]).unwrap();
        renewed.succeed(&masks);
        assert!(replaces(&renewed, "a.test", 443));
        let mut none = compile(Vec::new()).unwrap();
        none.succeed(&renewed);
        assert!(replaces(&none, "a.test", 80) && !replaces(&none, "b.test", 80));
        assert!(none.has_host(&to("a.test").host, 443) && !none.has_host(&to("b.test").host, 443));
    }
}

//! Warnings about masks whose values no connection of a session can get.

use std::collections::BTreeMap;

use policy::{Decision, Host, NetworkPolicy, Remedy};
use secrets::{Mask, Masks};

use crate::host_lists::{self, HostChange};
use crate::network::domain_change;

/// Reason why no connection can get the value of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    NoNetwork,
    Unlisted,
    Denied,
    Unread,
}

/// Returns warnings about masks that no connection of the session uses, one for each reason.
/// `policy` is `None` for a session without a network, and `asks` tells that a user is asked about
/// a host that neither list has.
pub(crate) fn unused(masks: &Masks, policy: Option<&NetworkPolicy>, asks: bool) -> Vec<String> {
    let mut unused = BTreeMap::<Reason, (Vec<&str>, Vec<String>)>::new();
    for (mask, _) in masks.iter() {
        let reason = match policy {
            None => Some((Reason::NoNetwork, String::new())),
            Some(policy) => reason(mask, policy, asks),
        };
        let Some((reason, cause)) = reason else { continue };
        let (names, causes) = unused.entry(reason).or_default();
        names.push(mask.name());
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    let texts = unused.into_iter().map(|(reason, (names, causes))| text(reason, &names, &causes));
    texts.collect()
}

/// Returns why no connection can get the value of a mask, and the host or entry that matters, for
/// the first of its hosts. The result is `None` if one can.
fn reason(mask: &Mask, policy: &NetworkPolicy, asks: bool) -> Option<(Reason, String)> {
    let mut first = None;
    for host in mask.hosts() {
        first.get_or_insert(reason_of_host(mask, host, policy, asks)?);
    }
    first
}

fn reason_of_host(
    mask: &Mask,
    pattern: &str,
    policy: &NetworkPolicy,
    asks: bool,
) -> Option<(Reason, String)> {
    // A pattern of the mask can have names in common with one of the policy.
    let (host, port) =
        Host::parse_with_port(pattern).ok().filter(|_| !pattern.starts_with("*."))?;
    let is_open = match port {
        Some(port) => policy.decide(&host, port).is_allowed(),
        None => policy.reaches(&host),
    };
    if is_open {
        // Only a connection without TLS is read.
        let is_unread = policy.keeps_tls(&host) && !mask.allows_plaintext();
        return is_unread.then(|| (Reason::Unread, host.to_string()));
    }
    // An entry without a port covers the usual one too.
    match policy.decide(&host, port.unwrap_or(HTTPS_PORT)) {
        Decision::Denied { remedy: Remedy::RemoveDeniedDomain(entry), .. } => {
            Some((Reason::Denied, entry))
        }
        Decision::Unlisted { .. } if asks => None,
        _ => Some((Reason::Unlisted, pattern.to_owned())),
    }
}

/// Returns the change that opens a host of a mask.
fn opening(pattern: &str) -> HostChange {
    let is_address =
        || Host::parse_with_port(pattern).is_ok_and(|(host, _)| host.as_address().is_some());
    domain_change(pattern).unwrap_or_else(|| match is_address() {
        // An entry for such an address is deliberate.
        true => HostChange::Allow(pattern.to_owned()),
        false => HostChange::Option(
            "--expose NAME=HOST:PORT with NAME.host.internal as the host".to_owned(),
        ),
    })
}

const HTTPS_PORT: u16 = 443;

fn text(reason: Reason, names: &[&str], causes: &[String]) -> String {
    let (variables, their) = match names {
        [_] => ("variable", "its"),
        _ => ("variables", "their"),
    };
    let names = names.join(", ");
    let problem = match reason {
        Reason::NoNetwork => "the session has no network, so commands have a placeholder that \
                              nothing replaces"
            .to_owned(),
        Reason::Unlisted => {
            let changes: Vec<_> = causes.iter().map(|pattern| opening(pattern)).collect();
            format!("none of {their} hosts is allowed; {}", host_lists::use_options(&changes))
        }
        Reason::Denied => format!(
            "none of {their} hosts is allowed; remove {} from network.deniedDomains ({})",
            causes.join(", "),
            host_lists::denied_place()
        ),
        Reason::Unread => format!(
            "network.tlsTerminate.excludeDomains keeps {} unread, so nothing replaces the \
             placeholder",
            causes.join(", ")
        ),
    };
    format!("{variables} {names}: masked, and {problem}")
}

#[cfg(test)]
mod tests {
    use policy::{NetworkConfig, TlsTerminateConfig};
    use secrets::SecretString;

    use super::*;

    fn mask(name: &str, hosts: &[&str]) -> Mask {
        Mask::new(name, SecretString::from("a long secret value"), hosts.to_vec())
    }

    #[track_caller]
    fn check(masks: &[Mask], allowed: &[&str], denied: &[&str], expected: &[&str]) {
        let masks = Masks::new(masks.iter().cloned()).unwrap();
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        let mut network = NetworkConfig::default();
        network.allowed_domains = owned(allowed);
        network.denied_domains = owned(denied);
        let mut terminate = TlsTerminateConfig::default();
        terminate.exclude_domains = Some(owned(&["unread.test"]));
        network.tls_terminate = Some(terminate);
        let policy = NetworkPolicy::compile(&network).unwrap();
        let warnings = unused(&masks, Some(&policy), false);
        let expected: Vec<_> = expected.iter().map(|text| format!("variable{text}")).collect();
        assert_eq!(warnings, expected);
    }

    #[test]
    fn masks_of_one_reason_have_one_warning_with_a_remedy_that_works() {
        let a = || mask("A", &["a.test:443"]);
        check(&[a()], &["a.test"], &[], &[]);
        check(&[a()], &["a.test"], &["a.test:80"], &[]);
        check(&[mask("A", &["b.test", "a.test"])], &["a.test:444"], &[], &[]);
        check(&[mask("A", &["*.a.test"])], &["b.test"], &[], &[]);
        let none = " A: masked, and none of its hosts is allowed; ";
        check(&[a()], &["a.test:80"], &[], &[&format!("{none}use --allow-host a.test:443")]);
        for (host, option) in [
            ("db.host.internal", "--expose db=HOST:PORT"),
            ("db.host.internal:5432", "--expose db=HOST:5432"),
            ("host.internal", "--expose NAME=HOST:PORT with NAME.host.internal as the host"),
            ("169.254.169.254:80", "--allow-host 169.254.169.254:80"),
        ] {
            check(&[mask("A", &[host])], &["b.test"], &[], &[&format!("{none}use {option}")]);
        }
        for entry in ["a.test:443", "*:443", "a.test"] {
            let remove = format!("remove {entry} from network.deniedDomains (--deny-host)");
            check(&[a()], &["a.test"], &[entry], &[&format!("{none}{remove}")]);
        }
        let unread = "s A, B: masked, and network.tlsTerminate.excludeDomains keeps unread.test \
                      unread, so nothing replaces the placeholder";
        let masks = [mask("A", &["unread.test"]), mask("B", &["unread.test:443"])];
        check(&masks, &["unread.test"], &[], &[unread]);
        check(&[mask("P", &["unread.test"]).allow_plaintext()], &["unread.test"], &[], &[]);
        let several = "s A, B, C: masked, and none of their hosts is allowed; use --allow-host \
                       a.test:443 --allow-host '[::2]:443'";
        let masks = [a(), mask("B", &["a.test:443"]), mask("C", &["[::2]:443"])];
        check(&masks, &["c.test"], &[], &[several]);

        let masks = Masks::new(masks).unwrap();
        assert_eq!(unused(&masks, None, false).len(), 1);
        let policy = NetworkPolicy::compile(&NetworkConfig::default()).unwrap();
        assert!(unused(&masks, Some(&policy), true).is_empty(), "the user is asked");
    }
}

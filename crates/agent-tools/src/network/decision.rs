//! Decisions about hosts before a session opens.

use policy::{Host, Policy, Remedy, Rule, Verdict};
use sandbox_core::Tier;

use super::rules::NetworkRules;

/// Decides about a connection of a session with this policy to a name or an address, in any
/// spelling. It resolves no names, and does not include questions to a user. If `port` is `None`,
/// entries with a port do not cover the connection.
///
/// ```
/// use agent_tools::policy::{Policy, Remedy};
/// use agent_tools::{Tier, explain_host};
///
/// let dir = std::path::Path::new("/srv/agents/s1");
/// let policy = Policy::session(dir).allow_host("*.example.com:443").build()?;
/// assert!(explain_host(&policy, &Tier::Namespaces, "api.example.com", Some(443)).allowed);
/// let verdict = explain_host(&policy, &Tier::Namespaces, "other.example", Some(443));
/// assert_eq!(verdict.remedy, Some(Remedy::AllowDomain("other.example:443".into())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn explain_host(policy: &Policy, tier: &Tier, host: &str, port: Option<u16>) -> Verdict {
    let Ok(host) = Host::parse(host) else { return policy.explain_host(host, port) };
    if *tier != Tier::Namespaces {
        return Verdict::denied(Rule::NoNetwork, Some(Remedy::UseNamespaces));
    }
    if host.is_loopback() {
        return Verdict::allowed(Rule::OwnLoopback);
    }
    let add = || Some(Remedy::AllowDomain(host.to_pattern(port)));
    if !NetworkRules::new(&policy.config().network, None).opens_network() {
        return Verdict::denied(Rule::NoNetwork, add());
    }
    let mut verdict = policy.explain_host(&host.to_string(), port);
    // An exposed server can have a name that settings do not accept.
    if matches!(verdict.rule, Rule::Unlisted { .. }) {
        verdict.remedy = add();
    }
    verdict
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sandbox_core::Weakness;

    use super::*;

    #[track_caller]
    fn check(allowed: &[&str], host: &str, port: Option<u16>, expected: (bool, &str)) {
        let builder = Policy::session(Path::new("/s/1"));
        let builder = allowed.iter().fold(builder, |builder, host| builder.allow_host(host));
        let verdict = explain_host(&builder.build().unwrap(), &Tier::Namespaces, host, port);
        assert_eq!((verdict.allowed, verdict.rule.to_string().as_str()), expected, "{host}");
    }

    #[test]
    fn a_verdict_is_that_of_the_gate() {
        let none = (false, "the session has no network");
        check(&[], "example.com", Some(443), none);
        check(&["localhost"], "example.com", Some(443), none);
        let own = (true, "each session has a loopback interface of its own");
        for host in ["localhost", "127.1", "::1", "0.0.0.0", "::"] {
            check(&[], host, Some(80), own);
            check(&["a.test"], host, None, own);
        }
        check(&["a.test:443"], "A.test.", Some(443), (true, "allowedDomains has a.test:443"));
        let unlisted = (false, "no entry of allowedDomains covers it");
        check(&["a.test:443"], "a.test", None, unlisted);
        check(&["a.test:443"], "169.254.169.254", Some(80), unlisted);
        check(&[], "a b", None, (false, "it is neither the name of a host nor an address"));
    }

    #[test]
    fn the_weaker_engine_has_no_network_at_all() {
        let policy = Policy::session(Path::new("/s/1")).allow_host("a.test").build().unwrap();
        let tier = Tier::Landlock { accepted: vec![Weakness::Attributes] };
        for host in ["a.test", "127.0.0.1"] {
            let verdict = explain_host(&policy, &tier, host, Some(80));
            assert_eq!((verdict.allowed, verdict.rule), (false, Rule::NoNetwork));
        }
    }
}

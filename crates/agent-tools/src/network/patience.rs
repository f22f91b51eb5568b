//! Variables by which installers of packages give up soon after a connection was refused.

use std::ffi::OsString;

/// Milliseconds between the attempts of npm. By default it waits 10 s and then 60 s.
const WITH_NETWORK: [(&str, &str); 2] =
    [("npm_config_fetch_retry_mintimeout", "1000"), ("npm_config_fetch_retry_maxtimeout", "5000")];
/// Numbers of further attempts, which cannot succeed.
const WITHOUT_NETWORK: [(&str, &str); 4] = [
    ("npm_config_fetch_retries", "0"),
    ("PIP_RETRIES", "0"),
    ("UV_HTTP_RETRIES", "0"),
    ("CARGO_NET_RETRY", "0"),
];

/// Adds the variables that an environment does not have already, in any case: npm reads both.
pub(crate) fn add_to(environment: &mut Vec<(OsString, OsString)>, has_network: bool) {
    let variables: &[_] = if has_network { &WITH_NETWORK } else { &WITHOUT_NETWORK };
    for (name, value) in variables {
        if !environment.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            environment.push((name.into(), value.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_session_stays() {
        let own = |name: &str| (OsString::from(name), OsString::from("7"));
        let all = vec![own("PIP_RETRIES"), own("NPM_CONFIG_FETCH_RETRIES")];
        let mut environment = all.clone();
        add_to(&mut environment, false);
        assert_eq!(environment[..2], all);
        assert_eq!(environment.len(), WITHOUT_NETWORK.len());
        add_to(&mut environment, true);
        assert_eq!(environment.len(), WITHOUT_NETWORK.len() + WITH_NETWORK.len());
    }
}

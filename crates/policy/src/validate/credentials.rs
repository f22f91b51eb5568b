//! Validation of the section `credentials`.

use super::{INERT_DENIAL, Invalid, check_each, check_hosts, check_not_empty, is_inert_denial};
use crate::config::{
    CredentialFile, CredentialMode, CredentialVariable, CredentialsConfig, SandboxRuntimeConfig,
};
use crate::domain;
use crate::regexp;
use crate::setting_path::{SettingPath, shortened};

/// Settings that a file and a variable share.
struct Credential<'a> {
    path: SettingPath,
    mode: CredentialMode,
    extract: Option<&'a str>,
    is_decoded: bool,
    claims: Option<&'a [String]>,
    inject_hosts: Option<&'a [String]>,
}

pub(super) fn check(
    config: &SandboxRuntimeConfig,
    credentials: &CredentialsConfig,
    found: &mut Invalid,
) {
    let root = SettingPath::from("credentials");
    for (at, file) in credentials.files.iter().flatten().enumerate() {
        let path = root.key("files").index(at);
        check_file(config, file, &path, found);
        check_one(config, &Credential::of_file(file, path), found);
    }
    for (at, variable) in credentials.env_vars.iter().flatten().enumerate() {
        let path = root.key("envVars").index(at);
        if !is_name(&variable.name) {
            found.add(path.key("name"), "is not the name of a variable");
        }
        check_one(config, &Credential::of_variable(variable, path), found);
    }
    check_aws_pairs(credentials, found);
    let mut modes = (credentials.files.iter().flatten().map(|file| file.mode))
        .chain(credentials.env_vars.iter().flatten().map(|variable| variable.mode));
    if modes.any(|mode| mode == CredentialMode::Mask)
        && config.network.tls_terminate.is_none()
        && credentials.allow_plaintext_inject != Some(true)
    {
        found.add(root, "masking needs network.tlsTerminate or allowPlaintextInject");
    }
}

impl<'a> Credential<'a> {
    fn of_file(file: &'a CredentialFile, path: SettingPath) -> Self {
        Self {
            path,
            mode: file.mode,
            extract: file.extract.as_deref(),
            is_decoded: file.decode.is_some(),
            claims: file.mask_claims.as_deref(),
            inject_hosts: file.inject_hosts.as_deref(),
        }
    }

    fn of_variable(variable: &'a CredentialVariable, path: SettingPath) -> Self {
        Self {
            path,
            mode: variable.mode,
            extract: variable.extract.as_deref(),
            is_decoded: variable.decode.is_some(),
            claims: variable.mask_claims.as_deref(),
            inject_hosts: variable.inject_hosts.as_deref(),
        }
    }
}

fn check_file(
    config: &SandboxRuntimeConfig,
    file: &CredentialFile,
    path: &SettingPath,
    found: &mut Invalid,
) {
    let path = path.key("path");
    if let Err(problem) = check_not_empty(&file.path) {
        found.add(path.clone(), problem);
    }
    match file.mode {
        CredentialMode::Mask if file.path.ends_with('/') => {
            found.add(path, "is a directory; only a file can be masked");
        }
        CredentialMode::Deny
            if config.filesystem.disabled != Some(true) && is_inert_denial(&file.path) =>
        {
            found.add(path, INERT_DENIAL);
        }
        _ => {}
    }
}

fn check_one(config: &SandboxRuntimeConfig, credential: &Credential<'_>, found: &mut Invalid) {
    let path = &credential.path;
    if let Err(unusable) = credential.extract.map_or(Ok(()), regexp::check) {
        found.add(path.key("extract"), unusable.problem());
    }
    if let Some(claims) = credential.claims
        && (!credential.is_decoded || claims.is_empty() || claims.iter().any(String::is_empty))
    {
        found.add(path.key("maskClaims"), "needs decode and at least one claim");
    }
    let hosts = path.key("injectHosts");
    if let Some(inject) = credential.inject_hosts {
        check_hosts(found, hosts.clone(), inject);
        if credential.mode == CredentialMode::Mask && inject.is_empty() {
            found.add(hosts.clone(), "is empty, so the credential would never be used");
        }
        check_each(found, hosts.clone(), inject, |host| {
            let is_allowed = domain::is_covered(host, &config.network.allowed_domains);
            is_allowed.then_some(()).ok_or("is not covered by network.allowedDomains")
        });
    }
    let tls = config.network.tls_terminate.as_ref();
    let excluded = tls.and_then(|tls| tls.exclude_domains.as_deref()).unwrap_or_default();
    if credential.mode != CredentialMode::Mask || excluded.is_empty() {
        return;
    }
    match credential.inject_hosts {
        Some(inject) => check_each(found, hosts, inject, |host| {
            let is_excluded = domain::is_covered(host, excluded);
            (!is_excluded).then_some(()).ok_or("is in network.tlsTerminate.excludeDomains")
        }),
        None => {
            let allowed = &config.network.allowed_domains;
            let is_excluded =
                |entry: &String| domain::is_covered(&domain::split_port(entry).0, excluded);
            if !allowed.is_empty() && allowed.iter().all(is_excluded) {
                let problem = "every allowed domain is in network.tlsTerminate.excludeDomains";
                found.add(path.clone(), problem);
            }
        }
    }
}

fn check_aws_pairs(credentials: &CredentialsConfig, found: &mut Invalid) {
    let mut seen = Vec::new();
    for (at, pair) in credentials.aws_pairs.iter().flatten().enumerate() {
        let path = SettingPath::from("credentials.awsPairs").index(at);
        for (key, name) in [
            ("accessKeyIdVar", Some(&pair.access_key_id_var)),
            ("secretAccessKeyVar", Some(&pair.secret_access_key_var)),
            ("sessionTokenVar", pair.session_token_var.as_ref()),
        ] {
            let Some(name) = name else { continue };
            let (path, shown) = (path.key(key), shortened(name));
            if seen.contains(&name) {
                found.add(path, format!("{shown:?} is named twice"));
                continue;
            }
            seen.push(name);
            // Like srt, only the first of several entries for one variable counts.
            let mut variables = credentials.env_vars.iter().flatten();
            let is_masked_whole =
                variables.find(|known| known.name == *name).is_some_and(|known| {
                    known.mode == CredentialMode::Mask
                        && known.extract.is_none()
                        && known.decode.is_none()
                });
            if !is_masked_whole {
                let problem = format!("{shown:?} is not masked as a whole in credentials.envVars");
                found.add(path, problem);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn masking_needs_a_host_that_receives_the_real_value() {
        let masked = |more: &str| {
            format!(r#"{{"credentials":{{"envVars":[{{"name":"K","mode":"mask"{more}}}]}}}}"#)
        };
        check(&masked(""), Err("credentials"));
        check(&masked(r#","injectHosts":[]"#), Err("credentials.envVars[0].injectHosts"));
        check(
            &masked(r#","injectHosts":["other.com"]"#),
            Err("credentials.envVars[0].injectHosts[0]"),
        );
        check(&masked(r#","maskClaims":["sub"]"#), Err("credentials.envVars[0].maskClaims"));
        let plain = r#"{"credentials":{"allowPlaintextInject":true,
                                       "envVars":[{"name":"K","mode":"mask"}]}}"#;
        check(plain, Ok(()));
        check(&plain.replace("\"K\"", "\"1K\""), Err("credentials.envVars[0].name"));
        let excluded = r#"{"network":{"tlsTerminate":{"excludeDomains":["*.example.com"]}},
                           "credentials":{"envVars":[{"name":"K","mode":"mask"}]}}"#;
        check(excluded, Err("credentials.envVars[0]"));
        let pairs = r#"{"credentials":{"allowPlaintextInject":true,
                                       "envVars":[{"name":"A","mode":"mask"}],
                                       "awsPairs":[{"accessKeyIdVar":"A",
                                                    "secretAccessKeyVar":"B"}]}}"#;
        check(pairs, Err("credentials.awsPairs[0].secretAccessKeyVar"));
    }
}

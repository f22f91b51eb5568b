//! The settings of sandbox-runtime 0.0.78, field for field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole settings file (`srt --settings`). Unknown keys are refused, which srt itself does not
/// do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SandboxRuntimeConfig {
    /// Whom commands may talk to.
    pub network: NetworkConfig,
    /// Which files they may read and write.
    pub filesystem: FilesystemConfig,
    /// Credentials that are hidden or replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsConfig>,
    /// Violations that are not shown, by command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_violations: Option<BTreeMap<String, Vec<String>>>,
    /// Bind the outer `/proc` instead of mounting a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_weaker_nested_sandbox: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_weaker_network_isolation: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_apple_events: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_pty: Option<bool>,
    /// The ripgrep that srt scans with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ripgrep: Option<RipgrepConfig>,
    /// How deep repositories are looked for, 1 to 10 directories. Without it srt looks three deep,
    /// and this crate to the bottom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mandatory_deny_search_depth: Option<u8>,
    /// srt's seccomp helper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompConfig>,
    /// Where bwrap is, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bwrap_path: Option<String>,
    /// Where socat is, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socat_path: Option<String>,
    /// Where srt's Java agent is, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub java_agent_jar_path: Option<String>,
    /// Windows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsConfig>,
    /// Settings that git is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitConfig>,
}

/// Whom commands may talk to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Patterns `host[:port]`; empty means nobody.
    pub allowed_domains: Vec<String>,
    /// Patterns that win over `allowed_domains`; also `*` and `*:port`.
    pub denied_domains: Vec<String>,
    /// What a caller is told, by exact entry of `denied_domains`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_domain_reasons: Option<BTreeMap<String, String>>,
    /// Never ask for what is in neither list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_allowlist: Option<bool>,
    /// Addresses and CIDR blocks that no name may resolve to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_resolved_addresses: Option<Vec<String>>,
    /// macOS only; ignored on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_unix_sockets: Option<Vec<String>>,
    /// On Linux: srt's whole seccomp helper is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_all_unix_sockets: Option<bool>,
    /// No effect on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_local_binding: Option<bool>,
    /// macOS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_mach_lookup: Option<Vec<String>>,
    /// An HTTP proxy of one's own on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_port: Option<u16>,
    /// A SOCKS proxy of one's own on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socks_proxy_port: Option<u16>,
    /// A proxy that reads some domains' traffic; not together with `tls_terminate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mitm_proxy: Option<MitmProxyConfig>,
    /// Whether srt's proxy ends TLS itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_terminate: Option<TlsTerminateConfig>,
    /// The proxy behind srt's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_proxy: Option<ParentProxyConfig>,
}

/// A proxy that reads some domains' traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct MitmProxyConfig {
    /// Its socket.
    pub socket_path: String,
    /// Host patterns without ports, at least one.
    pub domains: Vec<String>,
}

/// How srt's proxy ends TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsTerminateConfig {
    /// Certificate and key are given both or neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_path: Option<String>,
    /// Certificate and key are given both or neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_key_path: Option<String>,
    /// Host patterns that are passed through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_domains: Option<Vec<String>>,
    /// Further certificates that are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_ca_cert_paths: Option<Vec<String>>,
}

/// The proxy behind srt's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ParentProxyConfig {
    /// For HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// For HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// Hosts that are reached without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}

/// Which files commands may read and write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct FilesystemConfig {
    /// No rule for files at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Paths that are hidden.
    pub deny_read: Vec<String>,
    /// Paths inside hidden ones that are shown all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_read: Option<Vec<String>>,
    /// Paths that may be written to; nothing else may.
    pub allow_write: Vec<String>,
    /// Paths that may not be written to, whatever `allow_write` says.
    pub deny_write: Vec<String>,
    /// Lifts the write protection of `.git/config`, and only that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_git_config: Option<bool>,
}

/// Credentials that are hidden or replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialsConfig {
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<CredentialFile>>,
    /// Variables of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<Vec<CredentialVariable>>,
    /// Permits masking without `tls_terminate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plaintext_inject: Option<bool>,
    /// AWS keys that belong together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_pairs: Option<Vec<AwsPair>>,
    /// What happens to AWS signatures that cannot be made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<Sigv4Config>,
}

/// Whether a credential is hidden or replaced by a fake one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CredentialMode {
    /// Hidden.
    Deny,
    /// Replaced; the proxy puts the real one back.
    Mask,
}

/// What happens when `extract` matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OnExtractNoMatch {
    /// A warning, and the credential stays as it is.
    Warn,
    /// It is hidden.
    Deny,
    /// The command does not run.
    Error,
}

/// How a credential is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CredentialDecoding {
    /// As a JSON Web Token.
    Jwt,
}

/// A credential in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialFile {
    /// The file.
    pub path: String,
    /// Hidden or replaced.
    pub mode: CredentialMode,
    /// A regular expression whose groups are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// What happens when it matches nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// How it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<CredentialDecoding>,
    /// The claims of a token that are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_claims: Option<Vec<String>>,
    /// Whether every occurrence is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_duplicates: Option<bool>,
    /// Hosts that are given the real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_hosts: Option<Vec<String>>,
}

/// A credential in the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialVariable {
    /// The variable.
    pub name: String,
    /// Hidden or replaced.
    pub mode: CredentialMode,
    /// A regular expression whose groups are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// What happens when it matches nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// How it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<CredentialDecoding>,
    /// The claims of a token that are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_claims: Option<Vec<String>>,
    /// Hosts that are given the real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_hosts: Option<Vec<String>>,
}

/// AWS variables that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct AwsPair {
    /// The variable of the access key id.
    pub access_key_id_var: String,
    /// The variable of the secret.
    pub secret_access_key_var: String,
    /// The variable of the session token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_var: Option<String>,
}

/// What happens to one kind of AWS signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Sigv4Action {
    /// The request is refused.
    Deny,
    /// It goes through as it is.
    Passthrough,
}

/// What happens to AWS signatures that cannot be made anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Sigv4Config {
    /// Of streamed bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming: Option<Sigv4Action>,
    /// In presigned URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presigned: Option<Sigv4Action>,
    /// Of version 4A.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4a: Option<Sigv4Action>,
}

/// The ripgrep that srt scans with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct RipgrepConfig {
    /// The program.
    pub command: String,
    /// Its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// The name it is started under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
}

/// srt's seccomp helper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SeccompConfig {
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply_path: Option<String>,
    /// The name it is started under; needs `apply_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
}

/// Windows only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct WindowsConfig {
    /// The user that commands run as, 1 to 20 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_user: Option<String>,
    /// A UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sublayer_guid: Option<String>,
    /// A UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wfp_sublayer_guid: Option<String>,
    /// The first and the last port, at most 64 apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_port_range: Option<(u16, u16)>,
    /// The helper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt_win: Option<SrtWinConfig>,
}

/// The helper on Windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SrtWinConfig {
    /// Where it is.
    pub path: String,
}

/// Settings that git is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct GitConfig {
    /// Directories whose owner git does not mind.
    #[serde(default)]
    pub safe_directories: Vec<String>,
}

/// Why a text is not a settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text is not JSON.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key that srt 0.0.78 does not know, and would ignore.
    #[error("{path}: unknown key{}", nearest.as_ref().map_or(String::new(), |key| format!("; did you mean {key:?}?")))]
    UnknownKey {
        /// The key with all above it, such as `filesystem.denyReed`.
        path: String,
        /// The known key that is most like it.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or a key that is missing.
    #[error("{path}: {problem}")]
    Value {
        /// Where it is, `.` for the whole.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl SandboxRuntimeConfig {
    /// Parses settings strictly: syntax, types and keys. What the values mean is judged by
    /// [`validate`](SandboxRuntimeConfig::validate).
    ///
    /// # Errors
    /// [`ParseError`], which names the key.
    pub fn from_json(text: &str) -> Result<Self, ParseError> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let config = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            explain_error(path, &error)
        })?;
        parser.end().map_err(|error| explain_error(".".to_owned(), &error))?;
        Ok(config)
    }

    /// The settings as indented JSON, as `srt --settings` takes it.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

fn explain_error(path: String, error: &serde_json::Error) -> ParseError {
    let text = error.to_string();
    let problem =
        text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned();
    if !error.is_data() {
        return ParseError::Syntax { line: error.line(), column: error.column(), problem };
    }
    if let Some(rest) = problem.strip_prefix("unknown field ") {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let unknown = quoted.next().unwrap_or_default();
        let nearest = quoted
            .map(|key| (distance(&unknown.to_lowercase(), &key.to_lowercase()), key))
            .filter(|(distance, key)| *distance <= key.len() / 2)
            .min();
        return ParseError::UnknownKey { path, nearest: nearest.map(|(_, key)| key.to_owned()) };
    }
    ParseError::Value { path, problem }
}

/// How many letters must be changed, added or taken away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().filter(|c| *c != '_').collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().filter(|c| *c != '_').enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"network":{"allowedDomains":[],"deniedDomains":[]},"filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(SandboxRuntimeConfig::from_json(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_minimal_file_comes_back_as_it_was() {
        let config = SandboxRuntimeConfig::from_json(MINIMAL).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), MINIMAL);
        assert_eq!(SandboxRuntimeConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_path_and_the_nearest_known_one() {
        check(
            &MINIMAL.replace("denyRead", "denyReed"),
            "filesystem.denyReed: unknown key; did you mean \"denyRead\"?",
        );
        check(
            &MINIMAL.replace("denyRead", "deny_read"),
            "filesystem.deny_read: unknown key; did you mean \"denyRead\"?",
        );
        check(&MINIMAL.replacen('{', "{\"qqqqqqqqqqqq\":1,", 1), "qqqqqqqqqqqq: unknown key");
    }

    #[test]
    fn wrong_types_and_missing_keys_name_the_place() {
        check(
            &MINIMAL.replace("\"allowWrite\":[]", "\"allowWrite\":[\"a\",3]"),
            "filesystem.allowWrite[1]: invalid type: integer `3`, expected a string",
        );
        check(&MINIMAL.replace(",\"denyWrite\":[]", ""), "filesystem: missing field `denyWrite`");
        assert!(matches!(
            SandboxRuntimeConfig::from_json("{"),
            Err(ParseError::Syntax { line: 1, .. })
        ));
        assert!(SandboxRuntimeConfig::from_json(&format!("{MINIMAL} x")).is_err());
    }

    #[test]
    fn records_take_any_key() {
        let text = MINIMAL.replace(
            "\"deniedDomains\":[]",
            "\"deniedDomains\":[\"*\"],\"deniedDomainReasons\":{\"*\":\"closed\"}",
        );
        assert!(SandboxRuntimeConfig::from_json(&text).is_ok());
    }
}

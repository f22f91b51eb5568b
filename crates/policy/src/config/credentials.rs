//! The `credentials` section of the settings.

use serde::{Deserialize, Serialize};

/// Credentials that commands do not see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialsConfig {
    /// Credentials in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<CredentialFile>>,
    /// Credentials in environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<Vec<CredentialVariable>>,
    /// Permits masking without `tls_terminate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plaintext_inject: Option<bool>,
    /// Variables that together form AWS credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_pairs: Option<Vec<AwsPair>>,
    /// Treatment of AWS signatures that the proxy cannot recompute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<Sigv4Config>,
}

/// Treatment of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CredentialMode {
    /// The credential is hidden.
    Deny,
    /// A fake value replaces it; the proxy restores the real one in requests.
    Mask,
}

/// Treatment of a credential in which `extract` matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OnExtractNoMatch {
    /// srt warns and leaves the credential unchanged.
    Warn,
    /// The credential is hidden.
    Deny,
    /// The command does not run.
    Error,
}

/// Encoding of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CredentialDecoding {
    /// A JSON Web Token.
    Jwt,
}

/// A credential in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialFile {
    /// Path of the file.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: String,
    /// Hides or masks the credential.
    pub mode: CredentialMode,
    /// A regular expression; its groups are masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// Treatment of a credential in which `extract` matches nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// Encoding of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<CredentialDecoding>,
    /// Claims of the token that are masked; requires `decode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_claims: Option<Vec<String>>,
    /// Masks every occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_duplicates: Option<bool>,
    /// Hosts that receive the real credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_hosts: Option<Vec<String>>,
}

impl CredentialFile {
    /// Creates the settings of a credential that is the whole file.
    pub fn new(path: impl Into<String>, mode: CredentialMode) -> Self {
        Self {
            path: path.into(),
            mode,
            extract: None,
            on_extract_no_match: None,
            decode: None,
            mask_claims: None,
            mask_duplicates: None,
            inject_hosts: None,
        }
    }
}

/// A credential in an environment variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CredentialVariable {
    /// Name of the variable.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")))]
    pub name: String,
    /// Hides or masks the credential.
    pub mode: CredentialMode,
    /// A regular expression; its groups are masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// Treatment of a credential in which `extract` matches nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// Encoding of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<CredentialDecoding>,
    /// Claims of the token that are masked; requires `decode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_claims: Option<Vec<String>>,
    /// Hosts that receive the real credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_hosts: Option<Vec<String>>,
}

impl CredentialVariable {
    /// Creates the settings of a credential that is the whole value of a variable.
    pub fn new(name: impl Into<String>, mode: CredentialMode) -> Self {
        Self {
            name: name.into(),
            mode,
            extract: None,
            on_extract_no_match: None,
            decode: None,
            mask_claims: None,
            inject_hosts: None,
        }
    }
}

/// Variables that together form AWS credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct AwsPair {
    /// Name of the variable with the access key id.
    pub access_key_id_var: String,
    /// Name of the variable with the secret access key.
    pub secret_access_key_var: String,
    /// Name of the variable with the session token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token_var: Option<String>,
}

impl AwsPair {
    /// Creates a pair of variables, without a session token.
    pub fn new(
        access_key_id_var: impl Into<String>,
        secret_access_key_var: impl Into<String>,
    ) -> Self {
        Self {
            access_key_id_var: access_key_id_var.into(),
            secret_access_key_var: secret_access_key_var.into(),
            session_token_var: None,
        }
    }
}

/// Treatment of one kind of AWS signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Sigv4Action {
    /// The proxy denies the request.
    Deny,
    /// The request passes unchanged.
    Passthrough,
}

/// Treatment of AWS signatures that the proxy cannot recompute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Sigv4Config {
    /// Signatures of streamed bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming: Option<Sigv4Action>,
    /// Signatures in presigned URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presigned: Option<Sigv4Action>,
    /// Signatures of version 4A.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4a: Option<Sigv4Action>,
}

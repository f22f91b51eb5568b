//! The `credentials` section of the settings.

use super::setting::{choice, object};

/// Credentials that commands do not see.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct CredentialsConfig {
    /// Credentials in files.
    pub files: Option<Vec<CredentialFile>>,
    /// Credentials in environment variables.
    pub env_vars: Option<Vec<CredentialVariable>>,
    /// Permits masking without `tls_terminate`.
    pub allow_plaintext_inject: Option<bool>,
    /// Variables that together form AWS credentials.
    pub aws_pairs: Option<Vec<AwsPair>>,
    /// Treatment of AWS signatures that the proxy cannot recompute.
    pub sigv4: Option<Sigv4Config>,
}

object!(CredentialsConfig {
    "files" => files,
    "envVars" => env_vars,
    "allowPlaintextInject" => allow_plaintext_inject,
    "awsPairs" => aws_pairs,
    "sigv4" => sigv4,
});

/// Treatment of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum CredentialMode {
    /// The credential is hidden.
    Deny,
    /// A fake value replaces it; the proxy restores the real one in requests.
    Mask,
}

choice!(CredentialMode {
    "deny" => Deny,
    "mask" => Mask,
});

/// Treatment of a credential in which `extract` matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum OnExtractNoMatch {
    /// srt warns and leaves the credential unchanged.
    Warn,
    /// The credential is hidden.
    Deny,
    /// The command does not run.
    Error,
}

choice!(OnExtractNoMatch {
    "warn" => Warn,
    "deny" => Deny,
    "error" => Error,
});

/// Encoding of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum CredentialDecoding {
    /// A JSON Web Token.
    Jwt,
}

choice!(CredentialDecoding {
    "jwt" => Jwt,
});

/// A credential in a file.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct CredentialFile {
    /// Path of the file.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: String,
    /// Hides or masks the credential.
    pub mode: CredentialMode,
    /// A regular expression; its groups are masked.
    pub extract: Option<String>,
    /// Treatment of a credential in which `extract` matches nothing.
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// Encoding of the credential.
    pub decode: Option<CredentialDecoding>,
    /// Claims of the token that are masked; requires `decode`.
    pub mask_claims: Option<Vec<String>>,
    /// Masks every occurrence.
    pub mask_duplicates: Option<bool>,
    /// Hosts that receive the real credential.
    pub inject_hosts: Option<Vec<String>>,
}

object!(CredentialFile {
    "path" => path,
    "mode" => mode,
    "extract" => extract,
    "onExtractNoMatch" => on_extract_no_match,
    "decode" => decode,
    "maskClaims" => mask_claims,
    "maskDuplicates" => mask_duplicates,
    "injectHosts" => inject_hosts,
});

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
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct CredentialVariable {
    /// Name of the variable.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")))]
    pub name: String,
    /// Hides or masks the credential.
    pub mode: CredentialMode,
    /// A regular expression; its groups are masked.
    pub extract: Option<String>,
    /// Treatment of a credential in which `extract` matches nothing.
    pub on_extract_no_match: Option<OnExtractNoMatch>,
    /// Encoding of the credential.
    pub decode: Option<CredentialDecoding>,
    /// Claims of the token that are masked; requires `decode`.
    pub mask_claims: Option<Vec<String>>,
    /// Hosts that receive the real credential.
    pub inject_hosts: Option<Vec<String>>,
}

object!(CredentialVariable {
    "name" => name,
    "mode" => mode,
    "extract" => extract,
    "onExtractNoMatch" => on_extract_no_match,
    "decode" => decode,
    "maskClaims" => mask_claims,
    "injectHosts" => inject_hosts,
});

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
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct AwsPair {
    /// Name of the variable with the access key id.
    pub access_key_id_var: String,
    /// Name of the variable with the secret access key.
    pub secret_access_key_var: String,
    /// Name of the variable with the session token.
    pub session_token_var: Option<String>,
}

object!(AwsPair {
    "accessKeyIdVar" => access_key_id_var,
    "secretAccessKeyVar" => secret_access_key_var,
    "sessionTokenVar" => session_token_var,
});

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum Sigv4Action {
    /// The proxy denies the request.
    Deny,
    /// The request passes unchanged.
    Passthrough,
}

choice!(Sigv4Action {
    "deny" => Deny,
    "passthrough" => Passthrough,
});

/// Treatment of AWS signatures that the proxy cannot recompute.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "camelCase", deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Sigv4Config {
    /// Signatures of streamed bodies.
    pub streaming: Option<Sigv4Action>,
    /// Signatures in presigned URLs.
    pub presigned: Option<Sigv4Action>,
    /// Signatures of version 4A.
    pub sigv4a: Option<Sigv4Action>,
}

object!(Sigv4Config {
    "streaming" => streaming,
    "presigned" => presigned,
    "sigv4a" => sigv4a,
});

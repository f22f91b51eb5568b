//! Settings made in Rust, without JSON.

use policy::{
    AwsPair, CredentialFile, CredentialMode, CredentialVariable, GitConfig, MitmProxyConfig,
    ParentProxyConfig, RipgrepConfig, SandboxRuntimeConfig, SeccompConfig, Sigv4Config,
    SrtWinConfig, TlsTerminateConfig, WindowsConfig,
};

#[test]
fn every_section_can_be_made_in_rust() {
    let mut config = SandboxRuntimeConfig::default();
    config.network.allowed_domains = vec!["a.com".to_owned()];
    config.network.mitm_proxy = Some(MitmProxyConfig::new("/s", vec!["a.com".to_owned()]));
    config.network.tls_terminate = Some(TlsTerminateConfig::default());
    let mut parent = ParentProxyConfig::default();
    parent.http = Some("http://proxy:3128".to_owned());
    config.network.parent_proxy = Some(parent);
    config.ripgrep = Some(RipgrepConfig::new("rg"));
    config.seccomp = Some(SeccompConfig::default());
    config.git = Some(GitConfig::default());
    let mut windows = WindowsConfig::default();
    windows.srt_win = Some(SrtWinConfig::new("C:\\srt-win.exe"));
    config.windows = Some(windows);
    let credentials = config.credentials.get_or_insert_default();
    credentials.files = Some(vec![CredentialFile::new("/a", CredentialMode::Deny)]);
    let masked = |name| CredentialVariable::new(name, CredentialMode::Mask);
    credentials.env_vars = Some(vec![masked("ID"), masked("KEY")]);
    credentials.aws_pairs = Some(vec![AwsPair::new("ID", "KEY")]);
    credentials.sigv4 = Some(Sigv4Config::default());
    config.validate().unwrap();
    assert_eq!(SandboxRuntimeConfig::from_json(&config.to_json()).unwrap(), config);
}

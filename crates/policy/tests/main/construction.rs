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

#[test]
fn the_address_of_a_schema_is_accepted_and_not_kept() {
    let settings = r#"{"network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}"#;
    let with_schema = settings.replacen('{', r#"{"$schema": "./schema.json","#, 1);
    let config = SandboxRuntimeConfig::from_json(&with_schema).unwrap();
    assert_eq!(config, SandboxRuntimeConfig::from_json(settings).unwrap());
    assert!(!config.to_json().contains("$schema"));
    assert!(SandboxRuntimeConfig::recover(&with_schema).errors.is_empty());
    for wrong in [r#"{"$schema": 1,"#, r#"{"$Schema": "x","#] {
        let wrong = settings.replacen('{', wrong, 1);
        assert!(SandboxRuntimeConfig::from_json(&wrong).is_err(), "{wrong}");
    }
    #[cfg(feature = "schema")]
    {
        let schema = SandboxRuntimeConfig::json_schema();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!(schema["properties"]["$schema"]["type"], "string");
        assert!(!schema["required"].as_array().unwrap().contains(&"$schema".into()));
    }
}

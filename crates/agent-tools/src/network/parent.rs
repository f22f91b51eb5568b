//! The parent proxy of a session, from its settings.

use egress::ParentProxy;
use policy::NetworkConfig;

use super::error::NetworkError;

/// Reads `network.parentProxy`. The result is `None` if it names no proxy.
pub(super) fn parent_proxy(settings: &NetworkConfig) -> Result<Option<ParentProxy>, NetworkError> {
    let Some(settings) = &settings.parent_proxy else { return Ok(None) };
    if settings.http.is_none() && settings.https.is_none() {
        return Ok(None);
    }
    let invalid = |key| move |_| NetworkError::ParentProxy { key };
    let mut proxy = ParentProxy::new().no_proxy(settings.no_proxy.as_deref().unwrap_or_default());
    if let Some(url) = &settings.http {
        proxy = proxy.http(url).map_err(invalid("http"))?;
    }
    if let Some(url) = &settings.https {
        proxy = proxy.https(url).map_err(invalid("https"))?;
    }
    Ok(Some(proxy))
}

#[cfg(test)]
mod tests {
    use policy::ParentProxyConfig;

    use super::*;

    fn read(http: Option<&str>, https: Option<&str>) -> Result<bool, String> {
        let mut settings = NetworkConfig::default();
        let parent = settings.parent_proxy.insert(ParentProxyConfig::default());
        (parent.http, parent.https) = (http.map(Into::into), https.map(Into::into));
        let proxy = parent_proxy(&settings).map_err(|error| error.to_string());
        proxy.map(|proxy| proxy.is_some())
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        assert_eq!(read(None, None), Ok(false));
        assert_eq!(read(Some("http://ann:secret@proxy.test:3128"), None), Ok(true));
        let error = read(None, Some("https://ann:secret@proxy.test")).unwrap_err();
        let expected =
            "network.parentProxy.https is no URL http://[USER:PASSWORD@]HOST[:PORT]; the";
        assert!(error.starts_with(expected), "{error}");
        assert!(read(Some("socks5://proxy.test"), None).is_err());
    }
}

//! The way to the API server through a proxy.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Schemes of proxies that can be used.
const SCHEMES: [&str; 3] = ["http", "https", "socks5"];

/// A proxy, and who names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) url: Uri,
    /// Who names it.
    pub named_by: NamedBy,
}

/// Who names a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The kubeconfig's cluster has a `proxy-url`.
    Kubeconfig,
    /// A variable of the environment.
    Variable(&'static str),
}

/// A text that names no proxy that can be used. The text may hold a password, and is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAProxy {
    /// It is no URL.
    #[error("it is not a URL of the form http://HOST:PORT")]
    Url,
    /// Its scheme is another.
    #[error("its scheme is not http, https or socks5")]
    Scheme,
    /// The servers that are exempt from it are not named so that they can be read.
    #[error("it is not a list of host names, addresses and networks, separated by commas")]
    Exemptions,
}

impl fmt::Display for Proxy {
    /// Without the user and password that the URL may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.scheme_str().unwrap_or("http");
        write!(f, "{scheme}://{}", self.url.host().unwrap_or_default())?;
        match self.url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig => f.write_str("proxy-url in the kubeconfig"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// The proxy to go through. `named`: the one of the kubeconfig, which counts whatever the environment says. As for
/// kubectl, a server on loopback has no proxy of the environment.
///
/// kube asks `NO_PROXY` about the address of the proxy instead of the server's, and refuses a proxy without scheme,
/// so the choice is made here.
///
/// # Errors
/// Who names a proxy that cannot be used, and why it cannot.
pub(crate) fn choose(
    named: Option<&str>,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, (NamedBy, NotAProxy)> {
    if let Some(text) = named.filter(|text| !text.is_empty()) {
        return parse(text, NamedBy::Kubeconfig).map(Some);
    }
    let variables = match server.scheme_str() {
        Some("https") => ["HTTPS_PROXY", "https_proxy"],
        _ => ["HTTP_PROXY", "http_proxy"],
    };
    let set = |variables: [&'static str; 2]| {
        variables
            .into_iter()
            .find_map(|name| Some((name, variable(name).filter(|text| !text.trim().is_empty())?)))
    };
    let Some((name, text)) = set(variables) else { return Ok(None) };
    let no_proxy = set(["NO_PROXY", "no_proxy"]).map(|(_, text)| text).unwrap_or_default();
    // Only whether the server is exempt is asked.
    let is_exempt = Matcher::builder().all("http://proxy").no(no_proxy).build().intercept(server).is_none();
    if is_exempt || server.host().is_none_or(is_loopback) {
        return Ok(None);
    }
    parse(text.trim(), NamedBy::Variable(name)).map(Some)
}

/// As Go reads it: without a scheme it is http.
fn parse(text: &str, named_by: NamedBy) -> Result<Proxy, (NamedBy, NotAProxy)> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = with_scheme.parse().map_err(|_| (named_by, NotAProxy::Url))?;
    if url.host().is_none_or(str::is_empty) {
        return Err((named_by, NotAProxy::Url));
    }
    if !url.scheme_str().is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        return Err((named_by, NotAProxy::Scheme));
    }
    Ok(Proxy { url, named_by })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://user:secret@proxy:3128";

    fn chosen(
        named: Option<&str>,
        server: &str,
        variables: &[(&str, &str)],
    ) -> Result<Option<String>, (NamedBy, NotAProxy)> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let chosen = choose(named, &server.parse().unwrap(), variable)?;
        Ok(chosen.map(|proxy| format!("{proxy} ({})", proxy.named_by)))
    }

    #[test]
    fn the_environments_proxy_applies_without_one_in_the_kubeconfig() {
        let server = "https://10.0.0.1:6443";
        let by_variable = Some("http://proxy:3128 (HTTPS_PROXY)");
        let named = Some("http://proxy:3128 (proxy-url in the kubeconfig)");
        for (kubeconfig, exempt, server, expected) in [
            (None, "", server, by_variable),
            (Some(""), "", server, by_variable),
            (None, "10.0.0.0/8", server, None),
            (None, "10.0.0.0/8,", server, None),
            (None, "10.0.0.2,.corp.example", server, by_variable),
            (None, ".corp.example", "https://k8s.corp.example", None),
            (None, "", "https://127.0.0.1:6443", None),
            (None, "", "https://[::1]:6443", None),
            (None, "", "https://localhost:6443", None),
            // The variable is of the other scheme.
            (None, "", "http://10.0.0.1:8080", None),
            (Some(PROXY), "*", server, named),
            (Some(PROXY), "", "https://127.0.0.1:6443", named),
        ] {
            let variables = [("HTTPS_PROXY", PROXY), ("no_proxy", exempt)];
            let chosen = chosen(kubeconfig, server, &variables).unwrap();
            assert_eq!(chosen.as_deref(), expected, "{kubeconfig:?} {exempt:?} {server}");
        }
        assert_eq!(chosen(None, server, &[]), Ok(None));
    }

    #[test]
    fn the_source_of_an_invalid_proxy_is_named_without_its_password() {
        let server = "https://10.0.0.1:6443";
        let variable = NamedBy::Variable("https_proxy");
        for (text, expected) in [
            ("127.0.0.1:1", Ok(Some("http://127.0.0.1:1 (https_proxy)".to_owned()))),
            ("user:secret@proxy:1", Ok(Some("http://proxy:1 (https_proxy)".to_owned()))),
            ("socks5://proxy", Ok(Some("socks5://proxy (https_proxy)".to_owned()))),
            ("ftp://proxy:1", Err((variable, NotAProxy::Scheme))),
            ("http://", Err((variable, NotAProxy::Url))),
            ("http://a b", Err((variable, NotAProxy::Url))),
        ] {
            assert_eq!(chosen(None, server, &[("https_proxy", text)]), expected, "{text}");
        }
        let named = chosen(Some("gopher://proxy"), server, &[]);
        assert_eq!(named, Err((NamedBy::Kubeconfig, NotAProxy::Scheme)));
    }
}

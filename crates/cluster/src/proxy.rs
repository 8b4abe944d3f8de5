//! The way to the API server through a proxy.

use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The proxy to go through. `named`: the kubeconfig names it, then it counts whatever the environment says.
/// Otherwise `configured` comes from `HTTPS_PROXY`, and the server may be exempt from it.
///
/// kube asks `NO_PROXY` about the address of the proxy instead of the server's, so it is asked again here. As for
/// kubectl, a server on loopback has no proxy.
pub(crate) fn choose(
    named: bool,
    configured: Option<Uri>,
    server: &Uri,
    environment: &Matcher,
) -> Option<Uri> {
    let through = !server.host().is_none_or(is_loopback) && environment.intercept(server).is_some();
    configured.filter(|_| named || through)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_rules_where_the_kubeconfig_is_silent() {
        let proxy = || Some(Uri::from_static("http://user:secret@proxy:3128"));
        let named = "https://10.0.0.1:6443";
        let cases = [
            // (kubeconfig names it, NO_PROXY, server, used)
            (false, "", named, true),
            (false, "10.0.0.0/8", named, false),
            (false, "10.0.0.2,.corp.example", named, true),
            (false, ".corp.example", "https://k8s.corp.example", false),
            (false, "", "https://127.0.0.1:6443", false),
            (false, "", "https://[::1]:6443", false),
            (false, "", "https://localhost:6443", false),
            (true, "*", named, true),
            (true, "", "https://127.0.0.1:6443", true),
        ];
        for (named, exempt, server, used) in cases {
            let environment = Matcher::builder().https("http://user:secret@proxy:3128").no(exempt).build();
            let chosen = choose(named, proxy(), &server.parse().unwrap(), &environment);
            assert_eq!(chosen, proxy().filter(|_| used), "{named} {exempt:?} {server}");
        }
    }

    #[test]
    fn without_a_proxy_there_is_none() {
        let environment = Matcher::builder().build();
        let server = Uri::from_static("https://10.0.0.1:6443");
        assert_eq!(choose(false, None, &server, &environment), None);
        assert_eq!(choose(true, None, &server, &environment), None);
    }
}

//! Addresses that browsers are sent back to: which may be registered, and which match what is.

use url::Url;

/// Whether a client may register it.
pub(super) fn is_acceptable(text: &str) -> bool {
    if text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['#', '\\', '*']) {
        return false;
    }
    let Ok(uri) = Url::parse(text) else { return false };
    match uri.scheme() {
        "https" => uri.host().is_some() && uri.username().is_empty() && uri.password().is_none(),
        "http" => is_loopback(&uri) && uri.username().is_empty() && uri.password().is_none(),
        // RFC 8252 §7.1: a reversed domain name. Schemes that browsers act on have no dot.
        scheme => scheme.contains('.'),
    }
}

fn is_loopback(uri: &Url) -> bool {
    match uri.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(domain)) => domain == "localhost",
        None => false,
    }
}

/// Whether a URI is among those registered: character by character (RFC 9700 §2.1), but for the port of a loopback address, which a native
/// application learns only when it starts (RFC 8252 §7.3).
pub(super) fn is_registered(registered: &[String], uri: &str) -> bool {
    registered.iter().any(|one| one == uri || same_but_for_loopback_port(one, uri))
}

fn same_but_for_loopback_port(registered: &str, given: &str) -> bool {
    let (Some(registered), Some(given)) = (LoopbackUri::split(registered), LoopbackUri::split(given)) else {
        return false;
    };
    registered == given
}

/// A loopback URI without its port, split as text: what two parsers could read differently does not match at all.
#[derive(PartialEq, Eq)]
struct LoopbackUri<'a> {
    host: &'a str,
    rest: &'a str,
}

impl<'a> LoopbackUri<'a> {
    fn split(uri: &'a str) -> Option<Self> {
        // RFC 8252 §7.3 speaks of address literals; a name could be resolved to somewhere else (§8.3).
        let rest = uri.strip_prefix("http://")?;
        let host = ["127.0.0.1", "[::1]"].into_iter().find(|host| rest.starts_with(host))?;
        let rest = &rest[host.len()..];
        let rest = match rest.strip_prefix(':') {
            Some(port_and_rest) => {
                let digits = port_and_rest.bytes().take_while(u8::is_ascii_digit).count();
                port_and_rest[..digits].parse::<u16>().ok().filter(|port| *port != 0)?;
                &port_and_rest[digits..]
            }
            None => rest,
        };
        (rest.is_empty() || rest.starts_with('/')).then_some(Self { host, rest })
    }
}

/// Whose page a browser is sent to; `None`: to whatever on the person's own device answers there. What stands for a host in a scheme of the
/// application's own was chosen by it, and says nothing.
pub fn host(uri: &str) -> Option<String> {
    let uri = Url::parse(uri).ok().filter(|uri| uri.scheme() == "https")?;
    uri.host_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(uris: &[&str]) -> Vec<String> {
        uris.iter().map(|uri| (*uri).to_owned()).collect()
    }

    #[test]
    fn redirect_uris_match_character_by_character() {
        let registered = uris(&["https://app.example.com/callback"]);
        assert!(is_registered(&registered, "https://app.example.com/callback"));
        for other in [
            "https://app.example.com/callback/",
            "https://app.example.com/callback?x=1",
            "https://app.example.com/callback#x",
            "https://app.example.com:443/callback",
            "https://APP.example.com/callback",
            "https://app.example.com/callback/../evil",
            "https://app.example.com.evil.example/callback",
            "https://app.example.com@evil.example/callback",
            "https://evil.example/https://app.example.com/callback",
            "http://app.example.com/callback",
            "//app.example.com/callback",
            "https:/app.example.com/callback",
            "https://app.example.com\\callback",
            " https://app.example.com/callback",
            "https://app.example.com/%63allback",
            "javascript:alert(1)//https://app.example.com/callback",
            "",
        ] {
            assert!(!is_registered(&registered, other), "{other}");
        }
    }

    #[test]
    fn a_loopback_uri_matches_on_any_port_and_nothing_else() {
        let registered = uris(&["http://127.0.0.1/callback", "http://[::1]:9/x"]);
        for good in ["http://127.0.0.1:1/callback", "http://127.0.0.1:65535/callback", "http://127.0.0.1/callback"] {
            assert!(is_registered(&registered, good), "{good}");
        }
        assert!(is_registered(&registered, "http://[::1]:8080/x"));
        for bad in [
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:80x/callback",
            "http://127.0.0.1:80@evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://127.0.0.1@evil.example/callback",
            "http://127.0.0.1:1/other",
            "http://127.0.0.1:1/callback?x",
            "http://127.0.0.2:1/callback",
            "http://localhost:1/callback",
            "http://localhost/callback",
            "https://127.0.0.1:1/callback",
            "http://127.1:1/callback",
        ] {
            assert!(!is_registered(&registered, bad), "{bad}");
        }
    }

    #[test]
    fn a_registered_https_uri_gets_no_leeway_for_its_port() {
        assert!(!is_registered(&uris(&["https://app.example.com/cb"]), "https://app.example.com:8443/cb"));
    }

    #[test]
    fn uris_that_browsers_would_run_or_misread_are_not_registered() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://app.example.com/cb",
            "https://u:p@app.example.com/cb",
            "https://app.example.com/cb#x",
            "https://*.example.com/cb",
            "/cb",
            "",
            "https://app.example.com\\@evil",
            "blob:https://x",
            "file:///etc/passwd",
            "https://exa mple.com/",
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
        for good in ["https://app.example.com/cb?tenant=1", "http://localhost:3000/cb", "com.example.app:/cb"] {
            assert!(is_acceptable(good), "{good}");
        }
    }

    #[test]
    fn only_a_web_address_has_a_host_to_show() {
        assert_eq!(host("https://app.example.com:8443/cb").as_deref(), Some("app.example.com"));
        assert_eq!(
            host("https://\u{44}\u{e9}j\u{e0}.example/").as_deref(),
            Some("xn--dj-kia8a.example"),
            "no look-alikes"
        );
        for uri in ["http://127.0.0.1:1/cb", "http://localhost/cb", "com.evil.app://www.bank.example/cb", "com.app:/cb"]
        {
            assert_eq!(host(uri), None, "{uri}");
        }
    }
}

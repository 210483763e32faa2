//! The request target (RFC 9112 §3.2) and the authority it is for.

use super::unreadable::Unreadable;

#[derive(Debug, PartialEq, Eq)]
pub struct Target<'h> {
    pub path: &'h str,
    pub query: Option<&'h str>,
    /// Of the absolute form.
    pub authority: Option<&'h str>,
}

pub fn parse<'h>(method: &str, target: &'h str) -> Result<Target<'h>, Unreadable> {
    if !target.is_ascii() || target.contains('#') {
        return Err(Unreadable::Target);
    }
    if target.starts_with('/') {
        return Ok(split(target, None));
    }
    if target == "*" {
        return if method == "OPTIONS" { Ok(split(target, None)) } else { Err(Unreadable::Target) };
    }
    if matches!(method, "CONNECT") {
        // Refused by its method, with a better answer than the target's form would give.
        return Ok(Target { path: "/", query: None, authority: None });
    }
    // Proxies get the absolute form, and servers must accept it (RFC 9112 §3.2.2).
    let (scheme, rest) = target.split_once("://").ok_or(Unreadable::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Unreadable::Target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_host(authority) {
        return Err(Unreadable::Target);
    }
    let target = split(path, Some(authority));
    Ok(match target.path {
        // RFC 9112 §3.2.4: of the server as a whole, and not of what is at its root.
        "" if method == "OPTIONS" && target.query.is_none() => Target { path: "*", ..target },
        "" => Target { path: "/", ..target },
        _ => target,
    })
}

fn split<'h>(text: &'h str, authority: Option<&'h str>) -> Target<'h> {
    match text.split_once('?') {
        Some((path, query)) => Target { path, query: Some(query), authority },
        None => Target { path: text, query: None, authority },
    }
}

/// `host[:port]` without user information, in the characters that names and addresses have.
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if after.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let good_port = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    good_port
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_told_apart() {
        assert_eq!(parse("GET", "/a?b?c").unwrap(), Target { path: "/a", query: Some("b?c"), authority: None });
        assert_eq!(parse("GET", "HTTP://a:80/b").unwrap(), Target { path: "/b", query: None, authority: Some("a:80") });
        assert_eq!(parse("GET", "https://a?q").unwrap(), Target { path: "/", query: Some("q"), authority: Some("a") });
        assert_eq!(parse("OPTIONS", "*").unwrap().path, "*");
        assert_eq!(parse("OPTIONS", "http://a").unwrap(), Target { path: "*", query: None, authority: Some("a") });
        assert_eq!(parse("OPTIONS", "http://a/").unwrap().path, "/");
        assert_eq!(parse("OPTIONS", "http://a?q").unwrap().path, "/");
        for (method, target) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "a/b"),
            ("GET", "/a#b"),
            ("GET", "/\u{e9}"),
            ("GET", "ftp://a/"),
            ("GET", "http:///a"),
            ("GET", "http://u@a/"),
            ("GET", "http://a:b/"),
            ("GET", "http://a\\b/"),
            ("GET", "?"),
            ("GET", "a:80"),
        ] {
            assert_eq!(parse(method, target), Err(Unreadable::Target), "{method} {target}");
        }
    }

    #[test]
    fn hosts_are_names_and_addresses_only() {
        for good in ["a", "a.example:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "a:"] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a,b", "a@b", "a/b", "a:b", "a:99999", "[::1", "[::1]x", "[zz]", "a:80:80", "a\u{e9}",
            "a%2f", "a\"b", "a;b",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

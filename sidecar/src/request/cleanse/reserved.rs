//! Header names that only the sidecar may set, compared as apps may read them.

/// CGI and its heirs (WSGI, Rack, PHP) turn `X-User`, `x_user` and `X.User` into one variable, so they are one name here.
#[derive(Debug)]
pub struct Reserved {
    names: Vec<Vec<u8>>,
    /// Bit n: a name of length n is reserved. Tells most headers apart without a comparison.
    lengths: u64,
}

/// How proxies tell for whom they forward, and for which URL: a client's word for it is a client's wish.
const FORWARDING: [&[u8]; 19] = [
    b"forwarded",
    b"client-ip",
    b"x-real-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"fastly-client-ip",
    b"x-envoy-external-address",
    b"x-envoy-original-path",
    b"x-original-for",
    b"x-original-forwarded-for",
    b"x-original-host",
    b"x-original-prefix",
    b"x-original-proto",
    b"x-original-uri",
    b"x-original-url",
    b"x-rewrite-url",
    b"x-script-name",
];
const FORWARDING_PREFIX: &[u8] = b"x-forwarded";
const FORWARDING_LENGTHS: u64 = lengths(&FORWARDING);

/// One variable with `Content-Length` and `Transfer-Encoding` to CGI's heirs, and another header to whoever framed the body.
const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

/// `Proxy`: CGI makes `HTTP_PROXY` of it, which programs take for their environment's (httpoxy, CVE-2016-5385). The others are CGI's
/// variables (RFC 3875 §4.1) and what servers set beside them: gunicorn takes `SCRIPT_NAME` and `PATH_INFO` from localhost's word, which
/// here is anybody's, and serves another path than was asked for.
const NEVER: [&str; 20] = [
    "proxy",
    "auth-type",
    "document-root",
    "document-uri",
    "gateway-interface",
    "path-info",
    "path-translated",
    "query-string",
    "remote-addr",
    "remote-host",
    "remote-ident",
    "remote-user",
    "request-method",
    "request-uri",
    "script-filename",
    "script-name",
    "server-name",
    "server-port",
    "server-protocol",
    "server-software",
];

const OWN_PREFIX: &[u8] = b"cloakroom-";

/// Let a POST be a DELETE to the app; dropped where rules tell methods apart.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

impl Reserved {
    pub fn new<'n>(identity_headers: impl Iterator<Item = &'n str>, rules_name_methods: bool) -> Self {
        let overrides = METHOD_OVERRIDES.into_iter().filter(|_| rules_name_methods);
        let names: Vec<Vec<u8>> =
            identity_headers.chain(overrides).chain(NEVER).map(|name| name.bytes().map(fold).collect()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name.len()));
        Self { names, lengths }
    }

    pub fn is_identity(&self, name: &str) -> bool {
        let name = name.as_bytes();
        (self.lengths & length_bit(name.len()) != 0 && self.names.iter().any(|reserved| is_same(reserved, name)))
            || starts_with(name, OWN_PREFIX)
    }
}

pub fn is_forwarding(name: &str) -> bool {
    let name = name.as_bytes();
    starts_with(name, FORWARDING_PREFIX)
        || (FORWARDING_LENGTHS & length_bit(name.len()) != 0 && FORWARDING.iter().any(|known| is_same(known, name)))
}

/// Spelt otherwise than the header that it is read as.
pub fn is_framing_in_disguise(name: &str) -> bool {
    matches!(name.len(), 14 | 17)
        && FRAMING.iter().any(|known| is_same(known, name.as_bytes()) && !name.as_bytes().eq_ignore_ascii_case(known))
}

/// Also for responses: an app's header for the sidecar, in any spelling.
pub fn is_own(name: &str) -> bool {
    starts_with(name.as_bytes(), OWN_PREFIX)
}

/// `folded` is lower case with dashes.
pub fn is_same(folded: &[u8], name: &[u8]) -> bool {
    folded.len() == name.len() && starts_with(name, folded)
}

fn starts_with(name: &[u8], folded: &[u8]) -> bool {
    name.len() >= folded.len() && name.iter().zip(folded).all(|(byte, wanted)| fold(*byte) == *wanted)
}

const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

const fn lengths(names: &[&[u8]]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < names.len() {
        bits |= length_bit(names[at].len());
        at += 1;
    }
    bits
}

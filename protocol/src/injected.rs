//! What injection and sidecar agree on: names, ports, mounts, and the lists that only the pod knows.

use std::str::FromStr;

/// Name of the injected sidecar container.
pub const CONTAINER: &str = "cloakroom";
/// The executable in the sidecar's image.
pub const BINARY: &str = "/cloakroom-sidecar";
/// Name of the init container that redirects ports (Redirect mode).
pub const INTERCEPT_CONTAINER: &str = "cloakroom-intercept";

/// First of the sidecar's listening ports in Redirect mode; further ports count up.
pub const FIRST_LISTEN_PORT: u16 = 15006;
/// Health, metrics, rewritten probes, JWKS. Plain HTTP; answers nothing that needs authentication.
pub const ADMIN_PORT: u16 = 15020;

pub const CONFIG_FILE: &str = "/etc/cloakroom/config/config.json";
pub const PROOF_KEY_FILE: &str = "/etc/cloakroom/proof/key";
pub const TOKEN_FILE: &str = "/var/run/secrets/cloakroom/token";
/// Certificate and key of the protected ports, where the policy has any: keys of a Secret of type `kubernetes.io/tls`, and files below
/// [`TLS_DIRECTORY`].
pub const TLS_CERTIFICATE: &str = "tls.crt";
pub const TLS_KEY: &str = "tls.key";
pub const TLS_DIRECTORY: &str = "/etc/cloakroom/tls";

/// `<app port>:<listen port>`, comma separated, in the sidecar's environment.
pub const PORTS_ENV: &str = "CLOAKROOM_PORTS";
/// `Redirect` or `Loopback`.
pub const INTERCEPTION_ENV: &str = "CLOAKROOM_INTERCEPTION";
/// The pod's original probes of protected ports, one [`Probe`] a line.
pub const PROBES_ENV: &str = "CLOAKROOM_PROBES";
/// Where certificate and key are. Absent: the protected ports speak plain HTTP. It stands in the pod and not in the config, so that no pod
/// is told to speak TLS that was created without the files for it, and none changes its mind while clients are used to the other.
pub const TLS_ENV: &str = "CLOAKROOM_TLS";
pub const POD_UID_ENV: &str = "CLOAKROOM_POD_UID";
pub const POD_NAME_ENV: &str = "CLOAKROOM_POD_NAME";
/// The pod's addresses, comma separated (`status.podIPs`); Loopback mode listens on just these.
pub const POD_IPS_ENV: &str = "CLOAKROOM_POD_IPS";

/// In app containers.
pub const APP_ISSUER_ENV: &str = "CLOAKROOM_ISSUER";
pub const APP_AUDIENCE_ENV: &str = "CLOAKROOM_AUDIENCE";
pub const APP_JWKS_URL_ENV: &str = "CLOAKROOM_JWKS_URL";
pub const APP_JWKS_URL: &str = "http://127.0.0.1:15020/jwks.json";

/// `<namespace>/<name>` of the policy, on an injected pod.
pub const POLICY_ANNOTATION: &str = "cloakroom.dev/policy";
/// The config revision that the operator last pointed kubelet at.
pub const REVISION_ANNOTATION: &str = "cloakroom.dev/revision";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub app: u16,
    pub listen: u16,
}

/// A declared probe, to be replayed against the app on localhost.
///
/// Written `<container>/<kind> <HTTP|HTTPS|TCP|GRPC> <port> <timeout seconds>[ <quoted path or service>[ <quoted header name> <quoted
/// value>]…]`, where quoting is that of CEL's `strings.quote`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub container: String,
    /// `startup`, `readiness` or `liveness`.
    pub kind: String,
    pub port: u16,
    pub timeout_seconds: u64,
    pub action: ProbeAction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    Http { tls: bool, path: String, headers: Vec<(String, String)> },
    Tcp,
    Grpc { service: String },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text:?}")]
pub struct InvalidInjection {
    what: &'static str,
    text: String,
}

pub fn parse_ports(text: &str) -> Result<Vec<Port>, InvalidInjection> {
    let wrong = |part: &str| InvalidInjection { what: "expected <app port>:<listen port>", text: part.to_owned() };
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (app, listen) = part.split_once(':').ok_or_else(|| wrong(part))?;
            let number = |digits: &str| digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong(part));
            Ok(Port { app: number(app)?, listen: number(listen)? })
        })
        .collect()
}

pub fn parse_probes(text: &str) -> Result<Vec<Probe>, InvalidInjection> {
    text.lines().filter(|line| !line.is_empty()).map(str::parse).collect()
}

impl FromStr for Probe {
    type Err = InvalidInjection;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        parse_probe(line).ok_or_else(|| InvalidInjection { what: "not a probe", text: line.to_owned() })
    }
}

fn parse_probe(line: &str) -> Option<Probe> {
    let mut head = line.splitn(5, ' ');
    let (container, kind) = head.next()?.split_once('/')?;
    let scheme = head.next()?;
    let port = head.next()?.parse().ok()?;
    let timeout_seconds = head.next()?.parse().ok()?;
    let mut quoted = parse_quoted(head.next().unwrap_or_default())?.into_iter();
    let action = match scheme {
        "HTTP" | "HTTPS" => {
            let path = quoted.next()?;
            let mut headers = Vec::new();
            while let Some(name) = quoted.next() {
                headers.push((name, quoted.next()?));
            }
            ProbeAction::Http { tls: scheme == "HTTPS", path, headers }
        }
        "TCP" => ProbeAction::Tcp,
        "GRPC" => ProbeAction::Grpc { service: quoted.next().unwrap_or_default() },
        _ => return None,
    };
    let known = matches!(kind, "startup" | "readiness" | "liveness");
    (known && quoted.next().is_none()).then(|| Probe {
        container: container.to_owned(),
        kind: kind.to_owned(),
        port,
        timeout_seconds,
        action,
    })
}

/// Strings as CEL's `strings.quote` writes them, separated by one space.
fn parse_quoted(text: &str) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            None => return Some(strings),
            Some(' ') if !strings.is_empty() => {
                if chars.next()? != '"' {
                    return None;
                }
            }
            Some('"') if strings.is_empty() => {}
            Some(_) => return None,
        }
        let mut string = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => string.push(match chars.next()? {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                c => string.push(c),
            }
        }
        strings.push(string);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs() {
        assert_eq!(parse_ports("8080:15006,9090:15007").unwrap()[1], Port { app: 9090, listen: 15007 });
        assert!(parse_ports("").unwrap().is_empty());
        for wrong in ["8080", "8080:", "0:15006", "8080:70000", "a:b"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn probes_of_every_kind_are_read() {
        let text = "web/readiness HTTP 8080 1 \"/healthz?a=b c\" \"X-A\" \"say \\\"hi\\\"\\n\"\nweb/liveness TCP 8080 3\nrpc/startup GRPC 9090 2 \"svc\"\n";
        let probes = parse_probes(text).unwrap();
        assert_eq!(probes.len(), 3);
        let ProbeAction::Http { path, headers, tls: false } = &probes[0].action else { panic!("{probes:?}") };
        assert_eq!(path, "/healthz?a=b c");
        assert_eq!(headers[0], ("X-A".to_owned(), "say \"hi\"\n".to_owned()));
        assert_eq!(probes[1].action, ProbeAction::Tcp);
        assert_eq!(probes[2].action, ProbeAction::Grpc { service: "svc".to_owned() });
    }

    #[test]
    fn a_line_that_is_no_probe_is_an_error() {
        for wrong in [
            "web HTTP 8080 1 \"/\"",
            "web/exec HTTP 8080 1 \"/\"",
            "web/liveness HTTP 8080 1",
            "web/liveness HTTP 8080 1 \"/",
            "web/liveness UDP 1 1",
            "web/liveness HTTP 8080 1 \"/\" \"half\"",
        ] {
            assert!(parse_probes(wrong).is_err(), "{wrong}");
        }
    }
}

//! What the process was told: arguments, and the environment that the injection sets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use cloakroom_protocol::injected::{self, InvalidInjection, Port, Probe, ProbeAction, parse_ports, parse_probes};

use crate::auth_client::workload_token::TokenSource;
use crate::limits;
use crate::listen::Listen;
use crate::log::{Level, UnknownLevel};
use crate::start::{ConfigSource, Options};
use crate::tls::files::TlsFiles;

pub const USAGE: &str = "\
Usage: cloakroom-sidecar                                   serve, as the environment says
       cloakroom-sidecar intercept --redirect <app>:<listen> [--redirect …]
                                                           send inbound connections to the sidecar's ports
       cloakroom-sidecar leave                             tell the sidecar of this pod that the pod is on its way out
       cloakroom-sidecar log-level [error|warn|info|debug] tell, or change, what the sidecar of this pod logs
       cloakroom-sidecar --version | --help
";

/// Other than as injected: for tests, and for measuring without a cluster.
const CONFIG_ENV: &str = "CLOAKROOM_CONFIG";
const TOKEN_FILE_ENV: &str = "CLOAKROOM_TOKEN_FILE";
const PROOF_KEY_FILE_ENV: &str = "CLOAKROOM_PROOF_KEY_FILE";
const ADMIN_LISTEN_ENV: &str = "CLOAKROOM_ADMIN_LISTEN";
const WORKERS_ENV: &str = "CLOAKROOM_WORKERS";
/// In bytes.
const MEMORY_ENV: &str = "CLOAKROOM_MEMORY";
const LOG_ENV: &str = "CLOAKROOM_LOG";

pub enum Command {
    Serve {
        options: Box<Options>,
        level: Level,
    },
    Intercept(Vec<Port>),
    /// The sidecar's admin port, on this pod's loopback.
    Leave(Vec<SocketAddr>),
    /// The same, and what to change it to.
    LogLevel(Vec<SocketAddr>, Option<Level>),
    Version,
    Help,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidArguments {
    #[error("{0:?} is not understood\n{USAGE}")]
    Argument(String),
    #[error("--redirect needs <app port>:<listen port>")]
    NoRedirect,
    #[error("--redirect: {0}")]
    Redirect(InvalidInjection),
    #[error("{name}: {error}")]
    Injected { name: &'static str, error: InvalidInjection },
    #[error("{name}={value:?} is not understood")]
    Environment { name: &'static str, value: String },
    #[error("{LOG_ENV}: {0}")]
    Level(UnknownLevel),
    #[error("log-level: {0}")]
    LogLevel(UnknownLevel),
    #[error("{} names no address of this pod", injected::POD_IPS_ENV)]
    NoAddress,
}

pub fn parse(
    arguments: impl IntoIterator<Item = String>,
    environment: &dyn Fn(&str) -> Option<String>,
    ipv6: bool,
) -> Result<Command, InvalidArguments> {
    let mut arguments = arguments.into_iter();
    let command = match arguments.next().as_deref() {
        None => serve(environment, ipv6)?,
        Some("intercept") => return Ok(Command::Intercept(redirects(arguments)?)),
        Some("leave") => Command::Leave(admin_on_loopback(environment, ipv6)?),
        Some("log-level") => {
            let level = arguments.next().map(|level| level.parse().map_err(InvalidArguments::LogLevel)).transpose()?;
            Command::LogLevel(admin_on_loopback(environment, ipv6)?, level)
        }
        Some("--version" | "-V") => Command::Version,
        Some("--help" | "-h") => Command::Help,
        Some(other) => return Err(InvalidArguments::Argument(other.to_owned())),
    };
    match arguments.next() {
        None => Ok(command),
        Some(surplus) => Err(InvalidArguments::Argument(surplus)),
    }
}

fn admin_on_loopback(
    environment: &dyn Fn(&str) -> Option<String>,
    ipv6: bool,
) -> Result<Vec<SocketAddr>, InvalidArguments> {
    let port = admin(environment, Ipv4Addr::UNSPECIFIED.into())?.port();
    let addresses = [Some(Ipv4Addr::LOCALHOST.into()), ipv6.then_some(Ipv6Addr::LOCALHOST.into())];
    Ok(addresses.into_iter().flatten().map(|address: IpAddr| SocketAddr::new(address, port)).collect())
}

fn admin(environment: &dyn Fn(&str) -> Option<String>, everywhere: IpAddr) -> Result<SocketAddr, InvalidArguments> {
    match environment(ADMIN_LISTEN_ENV) {
        None => Ok(SocketAddr::new(everywhere, injected::ADMIN_PORT)),
        Some(value) => value.parse().map_err(|_| InvalidArguments::Environment { name: ADMIN_LISTEN_ENV, value }),
    }
}

fn redirects(mut arguments: impl Iterator<Item = String>) -> Result<Vec<Port>, InvalidArguments> {
    let mut ports = Vec::new();
    while let Some(argument) = arguments.next() {
        let pair = match argument.strip_prefix("--redirect=") {
            Some(pair) => pair.to_owned(),
            None if argument == "--redirect" => arguments.next().ok_or(InvalidArguments::NoRedirect)?,
            None => return Err(InvalidArguments::Argument(argument)),
        };
        ports.extend(parse_ports(&pair).map_err(InvalidArguments::Redirect)?);
    }
    Ok(ports)
}

fn serve(environment: &dyn Fn(&str) -> Option<String>, ipv6: bool) -> Result<Command, InvalidArguments> {
    let text = |name: &str| environment(name).unwrap_or_default();
    let path = |name: &str, default: &str| PathBuf::from(environment(name).unwrap_or_else(|| default.to_owned()));
    let injected = |name| move |error| InvalidArguments::Injected { name, error };
    let ports = parse_ports(&text(injected::PORTS_ENV)).map_err(injected(injected::PORTS_ENV))?;
    let mut probes = parse_probes(&text(injected::PROBES_ENV)).map_err(injected(injected::PROBES_ENV))?;
    let everywhere: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let listens = match text(injected::INTERCEPTION_ENV).as_str() {
        "Redirect" | "" => listens(&ports, &[everywhere]),
        "Loopback" => listens(&ports, &pod_addresses(&text(injected::POD_IPS_ENV))?),
        other => {
            return Err(InvalidArguments::Environment { name: injected::INTERCEPTION_ENV, value: other.to_owned() });
        }
    };
    let admin = admin(environment, everywhere)?;
    let workers = match environment(WORKERS_ENV) {
        None => limits::workers(),
        Some(value) => value
            .parse()
            .ok()
            .filter(|count| (1..=256).contains(count))
            .ok_or(InvalidArguments::Environment { name: WORKERS_ENV, value })?,
    };
    let memory = match environment(MEMORY_ENV) {
        None => limits::memory(),
        Some(value) => {
            let memory = value.parse().ok().filter(|memory| *memory >= limits::LEAST_MEMORY);
            memory.ok_or(InvalidArguments::Environment { name: MEMORY_ENV, value })?
        }
    };
    let tls = environment(injected::TLS_ENV).map(|directory| {
        let directory = PathBuf::from(directory);
        TlsFiles { certificate: directory.join(injected::TLS_CERTIFICATE), key: directory.join(injected::TLS_KEY) }
    });
    if tls.is_some() {
        probes.iter_mut().for_each(in_plain_http);
    }
    let level = environment(LOG_ENV).map_or(Ok(Level::Info), |level| level.parse().map_err(InvalidArguments::Level))?;
    let options = Options {
        config: ConfigSource::File(path(CONFIG_ENV, injected::CONFIG_FILE)),
        listens,
        admin: Some(admin),
        workload_token: TokenSource::File(path(TOKEN_FILE_ENV, injected::TOKEN_FILE)),
        proof_key_file: path(PROOF_KEY_FILE_ENV, injected::PROOF_KEY_FILE),
        tls,
        pod_uid: environment(injected::POD_UID_ENV).unwrap_or_else(|| "unknown".to_owned()),
        probes,
        workers,
        memory,
    };
    Ok(Command::Serve { options: Box::new(options), level })
}

/// It is the sidecar that speaks TLS on a protected port, and not the app behind it: a probe that was declared as HTTPS was for the port.
fn in_plain_http(probe: &mut Probe) {
    if let ProbeAction::Http { tls, .. } = &mut probe.action {
        *tls = false;
    }
}

fn listens(ports: &[Port], addresses: &[IpAddr]) -> Vec<Listen> {
    let each = |port: &Port| {
        let port = *port;
        addresses.iter().map(move |ip| Listen { address: SocketAddr::new(*ip, port.listen), app_port: port.app })
    };
    ports.iter().flat_map(each).collect()
}

/// Never the loopback addresses: there the app listens.
fn pod_addresses(text: &str) -> Result<Vec<IpAddr>, InvalidArguments> {
    let wrong = || InvalidArguments::Environment { name: injected::POD_IPS_ENV, value: text.to_owned() };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let addresses: Vec<IpAddr> = parts.map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    if addresses.iter().any(|address| address.is_loopback() || address.is_unspecified()) {
        return Err(wrong());
    }
    if addresses.is_empty() { Err(InvalidArguments::NoAddress) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, InvalidArguments> {
        let look = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        parse(arguments.iter().map(|a| (*a).to_owned()), &look, true)
    }

    fn addresses(environment: &[(&str, &str)]) -> Vec<String> {
        let Ok(Command::Serve { options, .. }) = parsed(&[], environment) else { panic!("not served") };
        options.listens.iter().map(|listen| format!("{} {}", listen.address, listen.app_port)).collect()
    }

    #[test]
    fn redirected_ports_are_listened_on_everywhere() {
        let environment = [("CLOAKROOM_PORTS", "8080:15006,9090:15007"), ("CLOAKROOM_INTERCEPTION", "Redirect")];
        assert_eq!(addresses(&environment), ["[::]:15006 8080", "[::]:15007 9090"]);
    }

    #[test]
    fn loopback_listens_on_the_pods_own_addresses_and_on_no_other() {
        let with = |ips| {
            [("CLOAKROOM_PORTS", "8080:8080"), ("CLOAKROOM_INTERCEPTION", "Loopback"), ("CLOAKROOM_POD_IPS", ips)]
        };
        assert_eq!(addresses(&with("10.0.0.1,fd00::1")), ["10.0.0.1:8080 8080", "[fd00::1]:8080 8080"]);
        for wrong in ["", "127.0.0.1", "0.0.0.0", "10.0.0.1,::", "pod"] {
            assert!(parsed(&[], &with(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn under_tls_what_was_probed_by_https_is_probed_by_http() {
        let serve = |tls: &[(&str, &str)]| {
            let probe = [("CLOAKROOM_PROBES", "web/liveness HTTPS 8443 1 \"/healthz\"")];
            let Ok(Command::Serve { options, .. }) = parsed(&[], &[tls, &probe].concat()) else { panic!("not served") };
            options
        };
        let by_tls = |options: &Options| matches!(options.probes[0].action, ProbeAction::Http { tls: true, .. });
        let plain = serve(&[]);
        assert!(plain.tls.is_none() && by_tls(&plain));
        let secure = serve(&[("CLOAKROOM_TLS", "/etc/cloakroom/tls")]);
        assert!(!by_tls(&secure));
        let files =
            TlsFiles { certificate: "/etc/cloakroom/tls/tls.crt".into(), key: "/etc/cloakroom/tls/tls.key".into() };
        assert_eq!(secure.tls, Some(files));
    }

    #[test]
    fn redirects_are_given_one_by_one_or_together() {
        let Ok(Command::Intercept(ports)) =
            parsed(&["intercept", "--redirect", "80:15006", "--redirect=81:15007,82:15008"], &[])
        else {
            panic!("not understood")
        };
        assert_eq!(ports.iter().map(|port| port.app).collect::<Vec<_>>(), [80, 81, 82]);
    }

    #[test]
    fn the_log_level_is_asked_for_on_loopback() {
        let environment = [("CLOAKROOM_ADMIN_LISTEN", "10.0.0.1:15021")];
        for (arguments, wanted) in [(&["log-level"][..], None), (&["log-level", "debug"], Some(Level::Debug))] {
            let Ok(Command::LogLevel(admin, level)) = parsed(arguments, &environment) else { panic!("not understood") };
            assert_eq!((admin[0].to_string().as_str(), level), ("127.0.0.1:15021", wanted));
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for arguments in [
            &["serve"][..],
            &["--version", "x"],
            &["intercept", "80:1"],
            &["intercept", "--redirect"],
            &["intercept", "--redirect", "x"],
            &["log-level", "loud"],
            &["log-level", "info", "x"],
        ] {
            assert!(parsed(arguments, &[]).is_err(), "{arguments:?}");
        }
        for (name, value) in [
            ("CLOAKROOM_PORTS", "8080"),
            ("CLOAKROOM_PROBES", "junk"),
            ("CLOAKROOM_INTERCEPTION", "Magic"),
            ("CLOAKROOM_WORKERS", "0"),
            ("CLOAKROOM_WORKERS", "many"),
            ("CLOAKROOM_MEMORY", "1Mi"),
            ("CLOAKROOM_MEMORY", "1000"),
            ("CLOAKROOM_ADMIN_LISTEN", "15020"),
            ("CLOAKROOM_LOG", "loud"),
        ] {
            assert!(parsed(&[], &[(name, value)]).is_err(), "{name}={value}");
        }
    }
}

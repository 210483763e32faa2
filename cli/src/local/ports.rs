//! The ports of this process, all on loopback.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

/// Where everything listens
#[derive(clap::Args)]
pub(crate) struct PortArguments {
    /// Port of the protected app; 0 takes any free one
    #[arg(long = "app-port", env = "CLOAKROOM_APP_PORT", default_value_t = 8000, value_name = "PORT")]
    app: u16,
    /// Port of the auth service's pages and OAuth endpoints
    #[arg(long = "auth-port", env = "CLOAKROOM_AUTH_PORT", default_value_t = 8001, value_name = "PORT")]
    auth: u16,
    /// Port of the auth service's internal and admin API
    #[arg(long = "internal-port", env = "CLOAKROOM_INTERNAL_PORT", default_value_t = 8002, value_name = "PORT")]
    internal: u16,
    /// Port of the sidecar's health, metrics and JWKS
    #[arg(long = "health-port", env = "CLOAKROOM_HEALTH_PORT", default_value_t = 0, value_name = "PORT")]
    health: u16,
}

pub(crate) struct Ports {
    pub(crate) app: SocketAddr,
    pub(crate) auth: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) health: SocketAddr,
    /// Bound and not listening: nobody else is given these ports, and whoever is to listen there still can.
    _held: Vec<Socket>,
}

impl PortArguments {
    /// Finds out which are free before anything is started: the sidecar's listeners share their port with whoever else shares it, and
    /// would not notice.
    pub(crate) fn settle(&self) -> Result<Ports> {
        let wanted = [
            ("--app-port", self.app),
            ("--auth-port", self.auth),
            ("--internal-port", self.internal),
            ("--health-port", self.health),
        ];
        let mut held = Vec::new();
        let mut settle = |(flag, port): (&str, u16)| -> Result<SocketAddr> {
            let socket = match hold(port) {
                Ok(socket) => socket,
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    bail!("port {port} is in use: choose another with {flag}, where 0 takes any free one")
                }
                Err(error) => return Err(error).with_context(|| format!("{flag} {port}")),
            };
            let address = socket.local_addr()?.as_socket().context("an internet address")?;
            held.push(socket);
            Ok(address)
        };
        let [app, auth, internal, health] = wanted.map(&mut settle);
        Ok(Ports { app: app?, auth: auth?, internal: internal?, health: health?, _held: held })
    }
}

fn hold(port: u16) -> io::Result<Socket> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if port != 0 {
        // Fails where anybody listens, however willing to share.
        drop(TcpListener::bind(address)?);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Linux: two sockets with this option may bind one port while none of them listens; for port 0 it gives out free ones only.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Ports {
    /// By name, since browsers have passkeys for names only. The app is at the address, which is another host for them: cookies know no
    /// ports, and so neither gets the other's.
    pub(crate) fn issuer(&self) -> String {
        format!("http://localhost:{}", self.auth.port())
    }
}

#[cfg(test)]
impl Ports {
    /// For tests that listen nowhere.
    pub(crate) fn numbered(app: u16) -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { app: at(app), auth: at(2), internal: at(3), health: at(4), _held: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> PortArguments {
        PortArguments { app: 0, auth: 0, internal: 0, health: 0 }
    }

    #[test]
    fn settled_ports_differ_and_can_be_listened_on() {
        let (one, two) = (any().settle().unwrap(), any().settle().unwrap());
        let all = [one.app, one.auth, one.internal, one.health, two.app, two.auth, two.internal, two.health];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        let _listening: Vec<_> = all.iter().map(|address| TcpListener::bind(address).unwrap()).collect();
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_refused_by_its_flag() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = PortArguments { auth: port, ..any() }.settle().err().unwrap().to_string();
        assert!(refused.contains("--auth-port") && refused.contains(&port.to_string()), "{refused}");
    }
}

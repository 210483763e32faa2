//! `cloakroom-sidecar intercept`: sends inbound connections of the protected ports to the sidecar, by nftables in the pod's network namespace.
//!
//! Only what comes in from outside is redirected: the sidecar's own connections to the app go over the loopback interface, and stay.

pub mod netlink;
pub mod ruleset;

use std::io;

use cloakroom_protocol::injected::Port;

#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    #[error("nothing to redirect: give --redirect <app port>:<listen port>")]
    Nothing,
    #[error("port {0} is redirected twice")]
    Twice(u16),
    #[error("port {0} cannot be redirected to itself")]
    Itself(u16),
    #[error("not allowed to change the network: the container needs the capability NET_ADMIN and user 0")]
    NotAllowed,
    #[error(
        "this kernel cannot redirect with nftables (nf_tables, nft_nat, nft_redir are needed, Linux 5.2 or later): {0}"
    )]
    Kernel(io::Error),
    #[error("netlink: {0}")]
    Netlink(io::Error),
}

/// Idempotent: our table is replaced as a whole, in one transaction, so there is no moment without it.
pub fn intercept(ports: &[Port]) -> Result<(), InterceptError> {
    check(ports)?;
    netlink::commit(&ruleset::messages(ports)).map_err(|error| match error.raw_os_error() {
        Some(libc_errno::EPERM | libc_errno::EACCES) => InterceptError::NotAllowed,
        Some(libc_errno::ENOENT | libc_errno::EOPNOTSUPP | libc_errno::EPROTONOSUPPORT | libc_errno::EAFNOSUPPORT) => {
            InterceptError::Kernel(error)
        }
        _ => InterceptError::Netlink(error),
    })
}

fn check(ports: &[Port]) -> Result<(), InterceptError> {
    if ports.is_empty() {
        return Err(InterceptError::Nothing);
    }
    for (at, port) in ports.iter().enumerate() {
        if port.app == port.listen {
            return Err(InterceptError::Itself(port.app));
        }
        if ports[..at].iter().any(|other| other.app == port.app) {
            return Err(InterceptError::Twice(port.app));
        }
    }
    Ok(())
}

/// Linux error numbers, the same on every architecture that we build for.
mod libc_errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EPROTONOSUPPORT: i32 = 93;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const EAFNOSUPPORT: i32 = 97;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let port = |app, listen| Port { app, listen };
        assert!(matches!(check(&[]), Err(InterceptError::Nothing)));
        assert!(matches!(check(&[port(1, 1)]), Err(InterceptError::Itself(1))));
        assert!(matches!(check(&[port(1, 2), port(3, 4), port(1, 5)]), Err(InterceptError::Twice(1))));
        assert!(check(&[port(1, 2), port(3, 4)]).is_ok());
    }
}

//! The data plane on loopback: raw bytes in, and what the app really received.

#[cfg(test)]
mod drain;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod h2c;
#[cfg(test)]
mod hand_back;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod identity_headers;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod under_way;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod upgrades_http2;

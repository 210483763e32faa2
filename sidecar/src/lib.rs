//! The proxy in front of a protected port: authenticates every request, swaps the opaque token for a JWT, forwards to localhost.

pub mod authority;
pub mod identity;
pub mod local_response;
pub mod request;

//! The proxy in front of a protected port: authenticates every request, swaps the opaque token for a JWT, forwards to localhost.

pub mod access_log;
pub mod auth_client;
pub mod authority;
pub mod clock;
pub mod config;
pub mod control;
pub mod http1;
pub mod identity;
pub mod lease;
pub mod listen;
pub mod local_response;
pub mod log;
pub mod metrics;
pub mod open_streams;
pub mod own_paths;
pub mod pages;
pub mod request;
pub mod rules;
pub mod sign_in;
pub mod token_cache;
pub mod upgrade;
pub mod upstream;
pub mod worker;

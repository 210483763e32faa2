//! The auth service: sign-in, sessions, OAuth, introspection and revocation over a shared store.

pub mod app;
pub mod assurance;
pub mod audit;
pub mod backchannel;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod events;
pub mod federation;
pub mod form;
pub mod identity;
pub mod jwt;
pub mod keys;
pub mod metrics;
pub mod outgoing;
pub mod password;
pub mod peer;
pub mod pkce;
pub mod random;
pub mod record;
pub mod registry;
pub mod reseal;
pub mod revoke;
pub mod routes;
pub mod serve;
pub mod start;
pub mod store;
pub mod theme;
pub mod throttle;
pub mod tls;
pub mod totp;
pub mod webauthn;
pub mod workload;

pub use config::Config;
pub use start::{Parts, Running, StartError, start, start_with};

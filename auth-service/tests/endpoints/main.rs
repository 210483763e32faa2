//! The real service on loopback, asked as sidecars, operators, clients and browsers ask it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;
mod provider;

mod abuse;
mod abuse_limits;
mod abuse_timing;
mod account;
mod admin;
mod admin_contract;
mod admin_rights;
mod api_keys;
mod backchannel;
mod client_keys;
mod device;
mod dpop;
mod events;
mod every_route;
mod exchange;
mod factors;
mod federation;
mod federation_abuse;
mod federation_accounts;
mod federation_logout;
mod foreign;
mod foreign_abuse;
mod foreign_issuer;
mod interest;
mod introspection;
mod keys;
mod languages;
mod no_passwords;
mod oauth;
mod oauth_clients;
mod oauth_errors;
mod outage;
mod pages;
mod passkeys;
mod policies;
mod redis;
mod registration;
mod registration_abuse;
mod sign_in;
mod tls;
mod workloads;

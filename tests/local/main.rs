//! The real `cloakroom local`, from outside: what clients, apps and people see.

mod api_keys;
mod app_requests;
mod browser;
mod command_line;
mod demo_client;
mod everything;
mod examples;
mod log;
mod outage;
mod policy_changes;
mod refusals;
mod rules;
mod session_data;
mod sign_in;
mod streams;
mod tls;
mod tokens;

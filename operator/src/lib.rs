//! The operator: an AuthPolicy's way from `kubectl apply` to measured protection. Its first half, from policy to configuration, is
//! pure and shared with the CLI and the local mode.

pub mod args;
mod certificates;
mod conditions;
pub mod context;
mod controller;
mod credential;
pub mod injection;
pub mod leader;
pub mod names;
pub mod policy;
mod proof;
pub mod registration;
mod rollout;
pub mod telemetry;

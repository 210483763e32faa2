//! The operator: an AuthPolicy's way from `kubectl apply` to measured protection. Its first half, from policy to configuration, is
//! pure and shared with the CLI and the local mode.

pub mod injection;
pub mod names;
pub mod policy;

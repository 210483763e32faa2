//! The conversation with the auth service.

pub mod endpoint;

//! One file per endpoint; each has its own errors, all of which become responses in [`problem`], [`oauth::error`] or [`pages::error`].

pub mod admin;
pub mod caller;
pub mod health;
pub mod internal;
pub mod oauth;
pub mod pages;
pub mod problem;
pub mod provider_logout;

//! OAuth 2.1 and OpenID Connect on the public port.

pub mod audiences;
pub mod authorize;
pub mod client_assertion;
pub mod client_auth;
pub mod cors;
pub mod device;
pub mod discovery;
pub mod dpop;
pub mod error;
pub mod form;
pub mod id_token;
pub mod introspect;
pub mod logout;
pub mod par;
pub mod redirects;
pub mod refusals;
pub mod register;
pub mod revoke;
pub mod token;
pub mod userinfo;

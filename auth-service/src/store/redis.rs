//! Redis.
pub struct RedisStore;
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct RedisSetupError;

//! What holds where the file says nothing.

use super::{Factors, Limits, Passwords, SessionConfig, Signing, Theme, Tokens};
use crate::keys::Algorithm;

impl Default for Signing {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::ES256,
            encryption_key_files: Vec::new(),
            rotation_seconds: 30 * 86_400,
            lead_seconds: 3600,
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { idle_seconds: 8 * 3600, absolute_seconds: 24 * 3600 }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            access_seconds: 3600,
            grant_seconds: 30 * 86_400,
            id_token_seconds: 600,
            refresh_grace_seconds: 20,
            gateway_jwt_seconds: 60,
        }
    }
}

impl Default for Passwords {
    /// OWASP's second choice for argon2id: 19 MiB, two passes.
    fn default() -> Self {
        Self {
            enabled: true,
            memory_kib: 19 * 1024,
            iterations: 2,
            parallelism: 1,
            workers: 2,
            min_length: 10,
            reset_link_seconds: 3600,
        }
    }
}

impl Default for Factors {
    fn default() -> Self {
        Self { required_groups: Vec::new(), trust_browser_days: 30, recent_seconds: 600 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_seconds: 300,
            per_account_and_address: 10,
            per_account: 100,
            per_address: 100,
            codes_per_account: 30,
            visits_per_address: 1000,
            per_client_and_address: 50,
        }
    }
}

impl Default for Theme {
    fn default() -> Self {
        Self {
            name: "Cloakroom".to_owned(),
            accent: "#2f5bd8".to_owned(),
            accent_dark: None,
            background: None,
            background_dark: None,
            logo_file: None,
        }
    }
}

//! TLS on the protected ports: which certificate they present, and the stream over which HTTP is spoken then.

pub mod files;
pub mod not_after;
pub mod pair;
pub mod stream;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::metrics::Metrics;
use crate::{clock, log};
use files::TlsFileError;
use pair::Pair;

/// What the protected ports present. Connections that are open keep what they began with.
#[derive(Default)]
pub struct Certificates {
    current: ArcSwapOption<Pair>,
    refused: ArcSwapOption<String>,
}

impl Certificates {
    /// Without one nothing is served: connections are closed.
    pub fn current(&self) -> Option<Arc<Pair>> {
        self.current.load_full()
    }

    /// Why no newer one is in force, if that is so.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// Puts it in force, or keeps the one before it.
    pub fn found(&self, found: Result<Pair, TlsFileError>, metrics: &Metrics) {
        match found {
            Ok(pair) => {
                metrics.tls_loads.inc();
                metrics.tls_not_after.set(usize::try_from(pair.not_after).unwrap_or(usize::MAX));
                log::info("certificate in force", &[("ends", &pair.ends())]);
                self.refused.store(None);
                self.current.store(Some(Arc::new(pair)));
            }
            Err(error) => {
                metrics.tls_refusals.inc();
                let in_force = match self.current() {
                    Some(pair) => format!("the one before, which ends {}", pair.ends()),
                    None => "none: connections are closed".to_owned(),
                };
                let fields: [(_, &dyn Display); 3] = [("error", &error), ("in_force", &in_force), ("todo", &REMEDY)];
                log::error("certificate refused", &fields);
                self.refused.store(Some(Arc::new(error.to_string())));
            }
        }
    }
}

/// What to do where there is none.
pub const REMEDY: &str =
    "put a certificate and its key into the Secret that the policy's spec.tls names, as tls.crt and tls.key";

impl Pair {
    /// For people.
    pub fn ends(&self) -> String {
        clock::Rfc3339(Duration::from_secs(self.not_after)).to_string()
    }
}

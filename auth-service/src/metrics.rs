//! Counters and histograms, in `OpenMetrics` text on the metrics port.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IssuerOutcome {
    /// As the configuration calls it.
    pub issuer: String,
    pub outcome: &'static str,
}

pub struct Metrics {
    registry: Mutex<Registry>,
    /// `active`, `inactive`, `unavailable`, `refused`.
    pub introspections: Family<Outcome, Counter>,
    pub introspection_seconds: Histogram,
    /// `active`, `inactive`, `unavailable`.
    pub foreign_tokens: Family<IssuerOutcome, Counter>,
    /// `success`, `failure`, `throttled`.
    pub sign_ins: Family<Outcome, Counter>,
    /// `success`, `declined`, `unknown`, `refused`, `unavailable`.
    pub provider_sign_ins: Family<Outcome, Counter>,
    pub revocations: Counter,
    pub tokens: Family<Outcome, Counter>,
    pub store_errors: Counter,
    pub sidecars: Gauge,
    /// Of the public port's clients, for want of memory.
    pub turned_away: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("cloakroom_auth")),
            introspections: Family::default(),
            introspection_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            foreign_tokens: Family::default(),
            sign_ins: Family::default(),
            provider_sign_ins: Family::default(),
            revocations: Counter::default(),
            tokens: Family::default(),
            store_errors: Counter::default(),
            sidecars: Gauge::default(),
            turned_away: Counter::default(),
        };
        {
            let mut registry = metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.register("introspections", "Introspections by outcome", metrics.introspections.clone());
            registry.register(
                "introspection_seconds",
                "Time to answer an introspection",
                metrics.introspection_seconds.clone(),
            );
            let foreign = metrics.foreign_tokens.clone();
            registry.register("foreign_tokens", "Tokens of other issuers by issuer and outcome", foreign);
            registry.register("sign_ins", "Password sign-ins by outcome", metrics.sign_ins.clone());
            registry.register(
                "provider_sign_ins",
                "Sign-ins with other providers by outcome",
                metrics.provider_sign_ins.clone(),
            );
            registry.register("revocations", "Revocations acknowledged", metrics.revocations.clone());
            registry.register("token_requests", "Token requests by outcome", metrics.tokens.clone());
            registry.register("store_errors", "Requests that the store failed", metrics.store_errors.clone());
            registry.register("sidecars", "Sidecars whose event stream is open here", metrics.sidecars.clone());
            registry.register(
                "turned_away",
                "Connections and requests of the public port that there was no memory for",
                metrics.turned_away.clone(),
            );
        }
        metrics
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/metrics.md explains every one of them.
    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let text = Metrics::new().render();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
        }
    }
}

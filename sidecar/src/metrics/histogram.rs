//! How long things took.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{head, seconds};

/// Upper bounds: powers of two, from an eighth of a millisecond to beyond every time-out. They are those of a native histogram of schema 0,
/// so that what was recorded of one goes on as the other.
const BOUNDS: usize = 20;
/// Of the first bound.
const UNITS_PER_SECOND: u64 = 1 << 13;
/// In seconds.
const FIRST_BOUND: f64 = 1.0 / 8192.0;

#[derive(Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(nanos / 1000, Ordering::Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    pub(super) fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, help, "histogram");
        self.write_samples(out, name, "");
    }

    /// `label`: `name="value"`, or nothing.
    pub(super) fn write_samples(&self, out: &mut String, name: &str, label: &str) {
        let (all, before) = if label.is_empty() { (String::new(), "") } else { (format!("{{{label}}}"), ",") };
        let mut total = 0;
        let mut bound = FIRST_BOUND;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let le = if at < BOUNDS { bound.to_string() } else { "+Inf".to_owned() };
            let _ = writeln!(out, "{name}_bucket{{{label}{before}le=\"{le}\"}} {total}");
            bound *= 2.0;
        }
        let _ = writeln!(out, "{name}_sum{all} {}", seconds(self.sum_micros.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{name}_count{all} {total}");
    }
}

/// The first bound that is not less.
fn bucket(nanos: u64) -> usize {
    let units = nanos.saturating_mul(UNITS_PER_SECOND).div_ceil(1_000_000_000);
    let power = u64::BITS - units.saturating_sub(1).leading_zeros();
    BOUNDS.min(power as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_with_its_bound() {
        // Two to the minus thirteenth of a second is 122,070.3125 ns.
        for (nanos, wanted) in [(0, 0), (1, 0), (122_070, 0), (122_071, 1), (244_140, 1), (244_141, 2)] {
            assert_eq!(bucket(nanos), wanted, "{nanos}");
        }
        for (seconds, at) in [(1, 13), (2, 14), (64, 19), (65, BOUNDS), (u64::MAX / 1_000_000_000, BOUNDS)] {
            assert_eq!(bucket(seconds * 1_000_000_000), at, "{seconds}");
        }
        assert_eq!(bucket(u64::MAX), BOUNDS);
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(100));
        histogram.observe(Duration::from_micros(200));
        histogram.observe(Duration::from_secs(60));
        histogram.observe(Duration::from_secs(70));
        let mut text = String::new();
        histogram.write(&mut text, "x", "y");
        assert!(text.contains("x_bucket{le=\"0.0001220703125\"} 1\n"), "{text}");
        assert!(text.contains("x_bucket{le=\"0.000244140625\"} 2\n"));
        assert!(text.contains("x_bucket{le=\"0.5\"} 2\n") && text.contains("x_bucket{le=\"64\"} 3\n"));
        assert!(text.contains("x_bucket{le=\"+Inf\"} 4\nx_sum 130.0003\nx_count 4\n"), "{text}");
    }
}

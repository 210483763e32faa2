//! Which workloads to restart, and when. Restarting is the API's way: a new annotation on the pod template. Its value remembers for what
//! and how often, so that a restart which does not help is not repeated for ever.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;

use crate::names;

/// Doubled with each restart that did not help.
const FIRST_WAIT: i64 = 60;
const LONGEST_WAIT: i64 = 6 * 60 * 60;
/// A rollout that takes longer than this is stuck; as long as a Deployment's own deadline is by default.
const ROLLOUT_PATIENCE: i64 = 600;
/// After so many restarts the policy says that it is stuck.
const STUCK_AFTER: u32 = 2;

/// A workload that can be restarted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub kind: Kind,
    pub name: String,
    pub template: PodTemplateSpec,
    /// All its pods are of the current template, and available.
    pub settled: bool,
    /// Paused, or set to restart by hand only.
    pub held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// What was done to a workload before, from its template's annotation: `<goal>.<attempt>.<unix seconds>`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Past {
    goal: String,
    attempt: u32,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Set the annotation to this.
    Restart { annotation: String, attempt: u32 },
    /// A rollout is under way.
    Underway,
    /// Restarting did not help, or takes long; the next attempt is due later.
    Wait { stuck: bool },
    /// Somebody holds it.
    Held,
}

/// What to do with a workload that has pods which are not as they should be. `goal` names what they should become.
pub(crate) fn step(workload: &Workload, goal: &str, now: Timestamp) -> Step {
    if workload.held {
        return Step::Held;
    }
    // The first restart for a goal waits for nothing: a rollout that is stuck is often stuck for want of it.
    let Some(past) = past(&workload.template).filter(|past| past.goal == goal) else {
        return Step::Restart { annotation: format!("{goal}.1.{}", now.as_second()), attempt: 1 };
    };
    let age = now.as_second() - past.at;
    if !workload.settled {
        let stuck = age > ROLLOUT_PATIENCE;
        return if stuck { Step::Wait { stuck } } else { Step::Underway };
    }
    let wait = FIRST_WAIT.saturating_mul(1 << past.attempt.min(16)).min(LONGEST_WAIT);
    if age < wait {
        return if past.attempt > 1 { Step::Wait { stuck: past.attempt > STUCK_AFTER } } else { Step::Underway };
    }
    let attempt = past.attempt + 1;
    Step::Restart { annotation: format!("{goal}.{attempt}.{}", now.as_second()), attempt }
}

fn past(template: &PodTemplateSpec) -> Option<Past> {
    let text = template.metadata.as_ref()?.annotations.as_ref()?.get(names::RESTARTED_ANNOTATION)?;
    let mut parts = text.rsplitn(3, '.');
    let at = parts.next()?.parse().ok()?;
    let attempt = parts.next()?.parse().ok()?;
    Some(Past { goal: parts.next()?.to_owned(), attempt, at })
}

/// Names for a sentence, not more than people read.
pub(crate) fn listed(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(crate) fn labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(settled: bool, annotation: Option<&str>) -> Workload {
        let mut template = PodTemplateSpec::default();
        if let Some(annotation) = annotation {
            let annotations = [(names::RESTARTED_ANNOTATION.to_owned(), annotation.to_owned())];
            template.metadata.get_or_insert_default().annotations = Some(annotations.into());
        }
        Workload { kind: Kind::Deployment, name: "web".into(), template, settled, held: false }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_workload_is_restarted_once_and_then_given_time() {
        let Step::Restart { annotation, attempt: 1 } = step(&workload(true, None), "shop/web.abc", at(1000)) else {
            panic!()
        };
        assert_eq!(annotation, "shop/web.abc.1.1000");
        for settled in [true, false] {
            assert_eq!(step(&workload(settled, Some(&annotation)), "shop/web.abc", at(1100)), Step::Underway);
        }
    }

    #[test]
    fn restarts_that_do_not_help_become_rare() {
        let mut annotation: Option<String> = None;
        let mut times = Vec::new();
        let mut now = 0;
        while now < 24 * 60 * 60 {
            if let Step::Restart { annotation: next, .. } =
                step(&workload(true, annotation.as_deref()), "goal", at(now))
            {
                times.push(now);
                annotation = Some(next);
            }
            now += 10;
        }
        assert!(times.len() < 15, "{times:?}");
        assert!(times.windows(3).all(|t| t[2] - t[1] >= t[1] - t[0]), "{times:?}");
    }

    #[test]
    fn a_new_goal_starts_anew() {
        let old = workload(true, Some("goal.7.1000"));
        assert!(matches!(step(&old, "other", at(1001)), Step::Restart { attempt: 1, .. }));
        assert!(matches!(step(&old, "goal", at(1001)), Step::Wait { stuck: true }));
    }

    #[test]
    fn a_rollout_of_ours_is_waited_for_and_one_that_takes_too_long_is_stuck() {
        assert_eq!(step(&workload(false, Some("goal.1.0")), "goal", at(600)), Step::Underway);
        assert_eq!(step(&workload(false, Some("goal.1.0")), "goal", at(601)), Step::Wait { stuck: true });
    }

    #[test]
    fn a_rollout_that_hangs_does_not_keep_its_workload_from_another_goal() {
        assert!(matches!(step(&workload(false, Some("goal.1.0")), "free", at(1)), Step::Restart { attempt: 1, .. }));
        assert!(matches!(step(&workload(false, None), "goal", at(1)), Step::Restart { attempt: 1, .. }));
    }

    #[test]
    fn what_somebody_holds_is_let_be() {
        assert_eq!(step(&Workload { held: true, ..workload(true, None) }, "goal", at(0)), Step::Held);
    }
}

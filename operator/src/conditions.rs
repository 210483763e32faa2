//! Conditions and the Events that tell of their changes, whichever kind they are of.

use cloakroom_crds::status::{ConditionType, Reason};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Event, EventType};

use crate::context::Context;

/// A condition before it has a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) condition: ConditionType,
    pub(crate) status: &'static str,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

pub(crate) fn verdict(condition: ConditionType, status: &'static str, reason: Reason, message: String) -> Verdict {
    Verdict { condition, status, reason, message }
}

/// With the time of the last change of each status.
pub(crate) fn conditions(
    before: &[Condition],
    generation: Option<i64>,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |verdict: &Verdict| {
        let type_ = verdict.condition.as_str();
        let before = previous(before, type_).filter(|before| before.status == verdict.status);
        Condition {
            type_: type_.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason.as_str().to_owned(),
            message: verdict.message.clone(),
            observed_generation: generation,
            // Whole seconds are what the API server keeps.
            last_transition_time: before.map_or_else(
                || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                |before| before.last_transition_time.clone(),
            ),
        }
    };
    verdicts.iter().map(condition).collect()
}

fn previous<'a>(before: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    before.iter().find(|condition| condition.type_ == type_)
}

/// An Event for each change of a reason, not of every count in a message.
pub(crate) async fn tell(before: &[Condition], after: &[Condition], of: &ObjectReference, context: &Context) {
    for condition in after.iter().filter(|condition| is_news(before, condition)) {
        if let Err(error) = context.recorder.publish(&event(condition), of).await {
            tracing::warn!(%error, "an Event was not taken");
        }
    }
}

fn is_news(before: &[Condition], condition: &Condition) -> bool {
    previous(before, &condition.type_).map_or(condition.reason != Reason::Healthy.as_str(), |before| {
        before.reason != condition.reason || before.status != condition.status
    })
}

fn event(condition: &Condition) -> Event {
    let good = condition.status != "False" && condition.type_ != ConditionType::Degraded.as_str()
        || condition.reason == Reason::Healthy.as_str()
        || condition.reason == Reason::RollingOut.as_str();
    Event {
        type_: if good { EventType::Normal } else { EventType::Warning },
        reason: condition.reason.clone(),
        // An Event's note has at most 1024 bytes.
        note: Some(condition.message.chars().take(250).collect()),
        action: condition.type_.clone(),
        secondary: None,
    }
}

//! Two policies for one pod: the oldest wins, then the name.

use std::collections::BTreeMap;

use cloakroom_crds::status::ConditionType;
use cloakroom_crds::{AuthPolicy, Rollout};
use cloakroom_protocol::policy_ref::PolicyRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::gather::Gathered;
use super::parse;
use crate::injection::selector::{matches, one_implies_the_other};
use crate::rollout;

/// The policies of the namespace that come before this one, oldest first. One that is leaving, or that means nothing, wins nothing.
pub(super) fn older(policy: &AuthPolicy, all: &[AuthPolicy]) -> Vec<(PolicyRef, LabelSelector)> {
    let age = |policy: &AuthPolicy| (policy.metadata.creation_timestamp.clone().map(|time| time.0), policy.name_any());
    let mut before: Vec<&AuthPolicy> =
        all.iter().filter(|other| other.metadata.deletion_timestamp.is_none() && age(other) < age(policy)).collect();
    before.sort_by_key(|other| age(other));
    before
        .into_iter()
        .filter_map(|other| parse::parse(other).ok())
        .map(|other| (other.reference, other.selector))
        .collect()
}

/// The first of the older policies that shares a pod with this one: a running one, one that a workload would create, or any that the
/// selectors could ever meet.
pub(super) fn winner(
    selector: &LabelSelector,
    older: &[(PolicyRef, LabelSelector)],
    gathered: &Gathered,
) -> Option<PolicyRef> {
    let pods = gathered.pods.iter().map(|pod| pod.labels.clone());
    let templates = gathered.workloads.iter().map(|workload| rollout::labels(&workload.template));
    let labels: Vec<_> = pods.chain(templates).filter(|labels| matches(selector, labels)).collect();
    let meets = |other: &LabelSelector| {
        one_implies_the_other(selector, other) || labels.iter().any(|labels| matches(other, labels))
    };
    older.iter().find(|(_, other)| meets(other)).map(|(policy, _)| policy.clone())
}

/// Whether another policy that is in force selects such a pod, and restarts what lacks its sidecar. Two policies must not restart the same
/// workload in turn.
pub(super) fn is_anothers(labels: &BTreeMap<String, String>, policy: &AuthPolicy, all: &[AuthPolicy]) -> bool {
    let in_force = |other: &AuthPolicy| {
        let conditions = other.status.iter().flat_map(|status| &status.conditions);
        let accepted = ConditionType::Accepted.as_str();
        conditions.into_iter().any(|condition| condition.type_ == accepted && condition.status == "True")
    };
    all.iter().any(|other| {
        other.metadata.uid != policy.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && other.spec.rollout == Rollout::Automatic
            && in_force(other)
            && matches(&other.spec.selector, labels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, created: &str, labels: &str) -> AuthPolicy {
        serde_norway::from_str(&format!(
            "{{apiVersion: cloakroom.dev/v1alpha1, kind: AuthPolicy, \
             metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}, \
             spec: {{selector: {{matchLabels: {labels}}}}}}}"
        ))
        .unwrap()
    }

    fn names(older: &[(PolicyRef, LabelSelector)]) -> Vec<&str> {
        older.iter().map(|(policy, _)| policy.name()).collect()
    }

    #[test]
    fn the_oldest_comes_first_then_the_name() {
        let first = policy("z", "2026-01-01T00:00:00Z", "{app: a}");
        let same_second = policy("b", "2026-01-02T00:00:00Z", "{app: a}");
        let this = policy("c", "2026-01-02T00:00:00Z", "{app: a}");
        let later = policy("a", "2026-01-03T00:00:00Z", "{app: a}");
        let all = [later.clone(), this.clone(), same_second.clone(), first.clone()];
        assert_eq!(names(&older(&this, &all)), ["z", "b"]);
        assert_eq!(names(&older(&first, &all)), Vec::<&str>::new());
        assert_eq!(names(&older(&later, &all)), ["z", "b", "c"]);
    }

    #[test]
    fn pods_that_another_policy_in_force_selects_are_its_to_restart() {
        let this: AuthPolicy = policy("a", "2026-01-01T00:00:00Z", "{app: a}");
        let mut other = policy("b", "2026-01-02T00:00:00Z", "{app: a}");
        other.metadata.uid = Some("other".into());
        let labels = [("app".to_owned(), "a".to_owned())].into();
        assert!(!is_anothers(&labels, &this, &[this.clone(), other.clone()]));
        let status = "conditions: [{type: Accepted, status: 'True', reason: Accepted, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}]";
        other.status = Some(serde_norway::from_str(status).unwrap());
        assert!(is_anothers(&labels, &this, &[this.clone(), other.clone()]));
        assert!(!is_anothers(&BTreeMap::new(), &this, &[other.clone()]));
        other.spec.rollout = Rollout::Manual;
        assert!(!is_anothers(&labels, &this, &[other]));
    }

    #[test]
    fn a_policy_that_leaves_or_means_nothing_wins_nothing() {
        let mut leaving = policy("a", "2026-01-01T00:00:00Z", "{app: a}");
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        let senseless = policy("b", "2026-01-01T00:00:00Z", "{}");
        let this = policy("c", "2026-01-02T00:00:00Z", "{app: a}");
        assert!(older(&this, &[leaving, senseless, this.clone()]).is_empty());
    }
}

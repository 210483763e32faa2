//! Conditions, counts and Events. What they say is a pure function of what was observed.

use cloakroom_crds::AuthPolicy;
use cloakroom_crds::status::{AuthPolicyStatus, ConditionType, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::observe::Observed;
use super::{Error, Refusal};
use crate::conditions::{Verdict, conditions, tell, verdict};
use crate::context::Context;
use crate::names;
use crate::rollout::listed;
use crate::telemetry::PolicyLabel;

pub(super) async fn report(policy: &AuthPolicy, observed: &Observed, context: &Context) -> Result<(), Error> {
    let label = PolicyLabel { namespace: policy.namespace().unwrap_or_default(), policy: policy.name_any() };
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    context.metrics.matched_pods.get_or_create(&label).set(number(observed.matched));
    context.metrics.protected_pods.get_or_create(&label).set(number(observed.proven));

    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let status = AuthPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: now_said(policy, &verdicts(observed), context.now()),
        matched_pods: count(observed.matched),
        protected_pods: count(observed.proven),
        outdated_pods: count(observed.outdated.len()),
        protected: format!("{}/{}", observed.proven, observed.matched),
        config_revision: Some(observed.revision.clone()),
    };
    write(policy, status, context).await
}

/// Counts stay as they were: what was in force before still is.
pub(super) async fn report_refusal(policy: &AuthPolicy, refusal: &Refusal, context: &Context) -> Result<(), Error> {
    let verdicts = [
        verdict(ConditionType::Accepted, "False", refusal.reason, refusal.sentence.clone()),
        verdict(
            ConditionType::Enforced,
            "False",
            Reason::NotAccepted,
            "the policy is not accepted; an earlier version of it, if there was one, stays in force".into(),
        ),
    ];
    let status = AuthPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: now_said(policy, &verdicts, context.now()),
        ..policy.status.clone().unwrap_or_default()
    };
    write(policy, status, context).await
}

async fn write(policy: &AuthPolicy, status: AuthPolicyStatus, context: &Context) -> Result<(), Error> {
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let policies: Api<AuthPolicy> = Api::namespaced(context.client.clone(), &policy.namespace().unwrap_or_default());
    let patch = json!({"apiVersion": "cloakroom.dev/v1alpha1", "kind": "AuthPolicy", "status": status});
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    policies.patch_status(&policy.name_any(), &params, &Patch::Apply(&patch)).await?;
    tell(before(policy), &status.conditions, &policy.object_ref(&()), context).await;
    Ok(())
}

fn before(policy: &AuthPolicy) -> &[Condition] {
    policy.status.as_ref().map_or(&[], |status| &status.conditions)
}

fn now_said(policy: &AuthPolicy, verdicts: &[Verdict], now: Timestamp) -> Vec<Condition> {
    conditions(before(policy), policy.metadata.generation, verdicts, now)
}

fn verdicts(observed: &Observed) -> Vec<Verdict> {
    vec![accepted(observed), enforced(observed), degraded(observed)]
}

fn accepted(observed: &Observed) -> Verdict {
    match &observed.conflict {
        Some(winner) => verdict(
            ConditionType::Accepted,
            "False",
            Reason::Conflicted,
            format!("AuthPolicy {winner} is older and selects the same pods: change one of the selectors"),
        ),
        None => verdict(
            ConditionType::Accepted,
            "True",
            Reason::Accepted,
            "in force for every new pod that it selects".into(),
        ),
    }
}

fn enforced(observed: &Observed) -> Verdict {
    let no = |reason, message: String| verdict(ConditionType::Enforced, "False", reason, message);
    let rollout = &observed.rollout;
    // Said wherever pods are waited for: the operator may not look whether the Secret is there.
    let needs =
        observed.tls.as_ref().map(|secret| format!("; a pod starts once Secret {secret} holds tls.crt and tls.key"));
    let needs = needs.unwrap_or_default();
    if let Some((pod, what)) = observed.bypassed.iter().next() {
        let more = match observed.bypassed.len() - 1 {
            0 => String::new(),
            more => format!(" (and in {} more)", pods(more)),
        };
        let message = format!(
            "something other than the sidecar answers in pod {pod}{more}, {what}: delete the pod, and find out who changed its network"
        );
        return no(Reason::Bypassed, message);
    }
    if observed.conflict.is_some() && observed.matched == 0 {
        return no(Reason::NotAccepted, "every pod that it selects belongs to the older policy".into());
    }
    if let Some((workload, sentence)) = rollout.refused.iter().next() {
        return no(
            Reason::Outdated,
            format!("{workload} is not restarted, since its pods would be refused: {sentence}"),
        );
    }
    if !rollout.not_yet.is_empty() {
        return no(Reason::NotInjecting, "waiting for the API server to inject before anything is restarted".into());
    }
    if !rollout.stuck.is_empty() {
        return no(Reason::RolloutStuck, format!("restarting {} did not help{needs}", listed(&rollout.stuck)));
    }
    if !rollout.underway.is_empty() {
        return no(Reason::RollingOut, format!("restarting {}{needs}", listed(&rollout.underway)));
    }
    if !observed.outdated.is_empty() {
        return outdated(observed);
    }
    if !observed.ending.is_empty() {
        let message = format!("waiting for {} without the sidecar to end", pods(observed.ending.len()));
        return no(Reason::RollingOut, message);
    }
    if let Some((pod, why)) = observed.silent.iter().next() {
        return no(
            Reason::Unproven,
            format!(
                "{} of {} pods did not prove their sidecar, e.g. {pod}, {why}",
                observed.silent.len(),
                observed.matched
            ),
        );
    }
    if observed.matched == 0 {
        let message = format!("no running pod is selected{needs}");
        return verdict(ConditionType::Enforced, "Unknown", Reason::NoPods, message);
    }
    if observed.proven == 0 {
        return no(Reason::Unproven, format!("{} starting{needs}", pods(observed.starting.len())));
    }
    if !observed.updating.is_empty() {
        return no(Reason::Updating, format!("{} has not taken the new configuration yet", listed(&observed.updating)));
    }
    if observed.shadow {
        return no(Reason::Shadow, "mode: Shadow decides and logs, but lets every request pass".into());
    }
    let starting = match observed.starting.len() {
        0 => String::new(),
        starting => format!("; {starting} starting"),
    };
    let message = format!(
        "{} of {} pods proved that their sidecar answers on every protected port{starting}",
        observed.proven, observed.matched
    );
    verdict(ConditionType::Enforced, "True", Reason::Enforced, message)
}

fn pods(count: usize) -> String {
    if count == 1 { "1 pod".into() } else { format!("{count} pods") }
}

/// Pods lack the sidecar, and nothing is being done about it.
fn outdated(observed: &Observed) -> Verdict {
    let rollout = &observed.rollout;
    let (reason, what) = if !rollout.manual.is_empty() {
        (Reason::Outdated, format!("rollout: Manual leaves it to you to restart {}", listed(&rollout.manual)))
    } else if !rollout.held.is_empty() {
        (Reason::Outdated, format!("{} is paused or restarts by hand only", listed(&rollout.held)))
    } else {
        (Reason::RestartNeeded, format!("nothing restarts {}: delete and create anew", listed(&rollout.unrestartable)))
    };
    let message = format!("{} without the sidecar as it should be; {what}", pods(observed.outdated.len()));
    verdict(ConditionType::Enforced, "False", reason, message)
}

fn degraded(observed: &Observed) -> Verdict {
    let yes = |reason, message: String| verdict(ConditionType::Degraded, "True", reason, message);
    let rollout = &observed.rollout;
    if let Some(image) = &observed.failed_upgrade {
        return yes(
            Reason::UpgradeFailed,
            format!("a sidecar did not become ready with image {image}, which was taken back"),
        );
    }
    if let Some(why) = &observed.unregistered {
        return yes(
            Reason::AuthServiceUnreachable,
            format!("the auth service has not acknowledged this policy: {why}"),
        );
    }
    if !rollout.stuck.is_empty() || !rollout.refused.is_empty() {
        let names = rollout.stuck.iter().chain(rollout.refused.keys()).cloned().collect();
        return yes(Reason::RolloutStuck, format!("{} cannot get the sidecar", listed(&names)));
    }
    if !rollout.unrestartable.is_empty() {
        return yes(
            Reason::RestartNeeded,
            format!("nothing restarts {}: delete and create anew", listed(&rollout.unrestartable)),
        );
    }
    verdict(ConditionType::Degraded, "False", Reason::Healthy, "everything works".into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn healthy() -> Observed {
        Observed { revision: "r".into(), matched: 2, proven: 2, ..Observed::default() }
    }

    fn says(observed: &Observed) -> (&'static str, Reason) {
        let verdict = enforced(observed);
        (verdict.status, verdict.reason)
    }

    #[test]
    fn enforced_is_true_only_when_every_pod_has_proved_it() {
        assert_eq!(says(&healthy()), ("True", Reason::Enforced));
        let silent = Observed { proven: 1, silent: [("b".into(), "port 80: reset".into())].into(), ..healthy() };
        assert_eq!(says(&silent), ("False", Reason::Unproven));
        let bypassed = Observed {
            proven: 1,
            bypassed: [("b".into(), "port 80: 200 OK instead of a proof".into())].into(),
            ..healthy()
        };
        assert_eq!(says(&bypassed), ("False", Reason::Bypassed));
        assert!(enforced(&bypassed).message.contains("pod b, port 80"));
        assert_eq!(
            says(&Observed {
                outdated: set(&["b"]),
                rollout: super::super::observe::Progress { unrestartable: set(&["Pod b"]), ..Default::default() },
                proven: 1,
                ..healthy()
            }),
            ("False", Reason::RestartNeeded)
        );
        assert_eq!(says(&Observed { updating: set(&["b"]), ..healthy() }), ("False", Reason::Updating));
        assert_eq!(says(&Observed { shadow: true, ..healthy() }), ("False", Reason::Shadow));
        assert_eq!(says(&Observed { matched: 0, proven: 0, ..healthy() }), ("Unknown", Reason::NoPods));
    }

    #[test]
    fn a_pod_that_is_starting_takes_nothing_back_but_proves_nothing_either() {
        let scaling = Observed { matched: 3, starting: set(&["c"]), ..healthy() };
        assert_eq!(says(&scaling), ("True", Reason::Enforced));
        assert!(enforced(&scaling).message.contains("2 of 3"));
        let first = Observed { matched: 1, proven: 0, starting: set(&["a"]), ..healthy() };
        assert_eq!(says(&first), ("False", Reason::Unproven));
        let waiting = Observed { tls: Some("shop-tls".into()), ..first };
        assert!(enforced(&waiting).message.contains("Secret shop-tls"), "{}", enforced(&waiting).message);
        let none = Observed { matched: 0, starting: set(&[]), ..waiting };
        assert!(enforced(&none).message.contains("Secret shop-tls"), "{}", enforced(&none).message);
    }

    #[test]
    fn a_pod_without_the_sidecar_counts_until_it_has_ended() {
        let ending = Observed { ending: set(&["old"]), ..healthy() };
        assert_eq!(says(&ending), ("False", Reason::RollingOut));
        assert!(!ending.is_calm());
    }

    #[test]
    fn a_bypass_outweighs_everything_else() {
        let mut observed = Observed { bypassed: [("b".into(), "port 80: x".into())].into(), shadow: true, ..healthy() };
        observed.rollout.underway = set(&["Deployment web"]);
        assert_eq!(says(&observed), ("False", Reason::Bypassed));
    }

    #[test]
    fn the_loser_of_a_conflict_names_the_winner() {
        let observed = Observed { conflict: Some("shop/old".parse().unwrap()), matched: 0, proven: 0, ..healthy() };
        let accepted = accepted(&observed);
        assert_eq!((accepted.status, accepted.reason), ("False", Reason::Conflicted));
        assert!(accepted.message.contains("shop/old"));
        assert_eq!(says(&observed), ("False", Reason::NotAccepted));
    }

    #[test]
    fn an_outage_of_the_auth_service_degrades_and_takes_nothing_back() {
        let observed = Observed { unregistered: Some("refused".into()), ..healthy() };
        assert_eq!(says(&observed), ("True", Reason::Enforced));
        assert_eq!(degraded(&observed).reason, Reason::AuthServiceUnreachable);
        assert_eq!(degraded(&healthy()).status, "False");
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut policy = AuthPolicy::new("a", serde_norway::from_str("selector: {matchLabels: {a: b}}").unwrap());
        let first = now_said(&policy, &verdicts(&healthy()), at(10));
        policy.status = Some(AuthPolicyStatus { conditions: first, ..Default::default() });
        let same = now_said(&policy, &verdicts(&Observed { matched: 3, proven: 3, ..healthy() }), at(20));
        assert!(same.iter().all(|condition| condition.last_transition_time.0 == at(10)));
        let changed = now_said(&policy, &verdicts(&Observed { shadow: true, ..healthy() }), at(30));
        assert_eq!(changed[1].last_transition_time.0, at(30));
        assert_eq!(changed[0].last_transition_time.0, at(10));
    }
}

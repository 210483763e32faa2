//! Conditions and Events of a credential. What they say is a pure function of what became of it.

use cloakroom_crds::CredentialStatus;
use cloakroom_crds::status::{ConditionType, Reason};
use cloakroom_protocol::credential::CredentialRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Credential, Done, Error, Outcome, secret_name};
use crate::conditions::{Verdict, conditions, tell, verdict};
use crate::context::Context;
use crate::names;

pub(super) async fn report<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    done: &Done<K::Plain>,
    context: &Context,
) -> Result<(), Error> {
    let now = context.now();
    let known = resource.status().cloned().unwrap_or_default();
    let verdicts = verdicts::<K>(&done.outcome, &secret_name::<K>(of));
    let mut status = CredentialStatus {
        observed_generation: resource.meta().generation,
        conditions: conditions(&known.conditions, resource.meta().generation, &verdicts, now),
        ..known.clone()
    };
    if let Some(planned) = &done.planned {
        status.secret_name = Some(secret_name::<K>(of));
        status.id = Some(K::id(of, &planned.plain));
        status.made_at = Some(Time(planned.made));
        let until = planned.before_at(now).and_then(|before| i64::try_from(before.until).ok());
        status.old_secret_until = until.and_then(|until| Timestamp::from_second(until).ok()).map(Time);
    }
    if resource.status() == Some(&status) {
        return Ok(());
    }
    let resources: Api<K> = Api::namespaced(context.client.clone(), of.namespace());
    let patch = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    resources.patch_status(&resource.name_any(), &params, &Patch::Apply(&patch)).await?;
    tell(&known.conditions, &status.conditions, &resource.object_ref(&()), context).await;
    Ok(())
}

fn verdicts<K: Credential>(outcome: &Outcome, secret: &str) -> Vec<Verdict> {
    let accepted = |status, reason, message: &str| verdict(ConditionType::Accepted, status, reason, message.to_owned());
    let taken = || accepted("True", Reason::Accepted, "the auth service takes it as it is");
    let no = |reason, message: String| verdict(ConditionType::Ready, "False", reason, message);
    match outcome {
        Outcome::Registered => {
            let message = format!("Secret {secret} holds it, and it is good");
            vec![taken(), verdict(ConditionType::Ready, "True", Reason::Ready, message)]
        }
        Outcome::Refused { reason, sentence } => vec![
            accepted("False", *reason, sentence),
            no(Reason::NotAccepted, "it is not accepted; what was in force before, if anything was, stays so".into()),
        ],
        Outcome::Revoked => {
            vec![taken(), no(Reason::Revoked, format!("an administrator revoked it: {}", K::remedy(secret)))]
        }
        Outcome::Expired(end) => vec![
            taken(),
            no(Reason::Expired, format!("it ended at {end}: set a later spec.expiresAt, or delete the resource")),
        ],
        Outcome::Unreachable(why) => vec![
            verdict(ConditionType::Accepted, "Unknown", Reason::AuthServiceUnreachable, why.clone()),
            no(Reason::AuthServiceUnreachable, format!("the auth service has not acknowledged it: {why}")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ApiKey, OAuthClient};
    use super::*;

    fn says(outcome: &Outcome) -> [(&'static str, Reason); 2] {
        let verdicts = verdicts::<ApiKey>(outcome, "cloakroom.reports.api-key");
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts.iter().all(|verdict| verdict.message.len() > 10), "{verdicts:?}");
        [(verdicts[0].status, verdicts[0].reason), (verdicts[1].status, verdicts[1].reason)]
    }

    #[test]
    fn ready_is_true_of_what_the_auth_service_has_acknowledged_and_of_nothing_else() {
        assert_eq!(says(&Outcome::Registered), [("True", Reason::Accepted), ("True", Reason::Ready)]);
        let sentence = "audience \"a\" is namespace \"b\"'s".to_owned();
        let refused = Outcome::Refused { reason: Reason::RegistrationRefused, sentence: sentence.clone() };
        assert_eq!(says(&refused), [("False", Reason::RegistrationRefused), ("False", Reason::NotAccepted)]);
        assert_eq!(verdicts::<ApiKey>(&refused, "s")[0].message, sentence);
        assert_eq!(says(&Outcome::Revoked), [("True", Reason::Accepted), ("False", Reason::Revoked)]);
        let revoked = verdicts::<ApiKey>(&Outcome::Revoked, "cloakroom.reports.api-key");
        assert!(revoked[1].message.contains("cloakroom.reports"));
        assert!(verdicts::<OAuthClient>(&Outcome::Revoked, "s")[1].message.contains("make another"));
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(says(&Outcome::Expired(end)), [("True", Reason::Accepted), ("False", Reason::Expired)]);
        assert_eq!(
            says(&Outcome::Unreachable("its Service has no address yet".into())),
            [("Unknown", Reason::AuthServiceUnreachable), ("False", Reason::AuthServiceUnreachable)]
        );
    }
}

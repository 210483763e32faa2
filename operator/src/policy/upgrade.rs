//! A new sidecar version, without a restart of any app: the image of a running pod's native sidecar is patched, a few pods at a time. One
//! that does not become ready is given its old image back, and the rest keep theirs.

use cloakroom_protocol::policy_ref::PolicyRef;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Error;
use super::pods::{PodFacts, SidecarFacts};
use crate::context::Context;
use crate::names;

/// A sidecar that is not ready after this long with a new image, will not be.
const PATIENCE: i64 = 60;

/// So long a status may still be that of the container before.
const STALE: i64 = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) underway: usize,
    pub(super) failed: Option<String>,
}

pub(super) async fn upgrade(policy: &PolicyRef, pods: &[&PodFacts], context: &Context) -> Result<Upgrade, Error> {
    let image = &context.args.sidecar_image;
    let with_sidecar: Vec<(&PodFacts, &SidecarFacts)> =
        pods.iter().filter_map(|pod| Some((*pod, pod.sidecar.as_ref()?))).collect();
    let mut upgrade = Upgrade::default();
    for (pod, sidecar) in &with_sidecar {
        let Some((since, before)) = context.memory().upgrading.get(&pod.uid).cloned() else { continue };
        match progress(sidecar, image, since, context.now()) {
            Progress::Done => drop(context.memory().upgrading.remove(&pod.uid)),
            Progress::Underway => upgrade.underway += 1,
            Progress::Failed => {
                context.memory().failed_images.insert(image.clone());
                tracing::warn!(%policy, pod = pod.name, image, "the sidecar did not become ready: old image back");
                set_image(policy, pod, sidecar, &before, context).await?;
                context.memory().upgrading.remove(&pod.uid);
            }
        }
    }
    if context.memory().failed_images.contains(image) {
        upgrade.failed = Some(image.clone());
        return Ok(upgrade);
    }
    let old: Vec<_> = with_sidecar.iter().filter(|(_, sidecar)| sidecar.image != *image).collect();
    for (pod, sidecar) in old.into_iter().take(at_once(with_sidecar.len()).saturating_sub(upgrade.underway)) {
        set_image(policy, pod, sidecar, image, context).await?;
        context.memory().upgrading.insert(pod.uid.clone(), (context.now(), sidecar.image.clone()));
        upgrade.underway += 1;
    }
    Ok(upgrade)
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Underway,
    Failed,
}

/// Of a sidecar whose image was changed then. Its status may still be that of the container before.
fn progress(sidecar: &SidecarFacts, image: &str, since: Timestamp, now: Timestamp) -> Progress {
    // The API server keeps whole seconds.
    let is_new = sidecar.started.is_some_and(|started| started.as_second() >= since.as_second());
    let age = now.as_second() - since.as_second();
    if sidecar.image == image && sidecar.ready && is_new {
        Progress::Done
    } else if (sidecar.hopeless && age > STALE) || age > PATIENCE {
        Progress::Failed
    } else {
        Progress::Underway
    }
}

/// A tenth of the pods, at least one.
fn at_once(pods: usize) -> usize {
    (pods / 10).max(1)
}

async fn set_image(
    policy: &PolicyRef,
    pod: &PodFacts,
    sidecar: &SidecarFacts,
    image: &str,
    context: &Context,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), policy.namespace());
    // By name, which is this list's merge key: the position of a container may be another meanwhile.
    let patch = json!({
        "metadata": {"annotations": {names::IMAGE_ANNOTATION: image}},
        "spec": {"initContainers": [{"name": cloakroom_protocol::injected::CONTAINER, "image": image}]},
    });
    tracing::info!(%policy, pod = pod.name, from = sidecar.image, to = image, "changing the sidecar's image");
    match pods.patch(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(ready: bool, started: i64) -> SidecarFacts {
        SidecarFacts {
            policy: "shop/web".into(),
            injection: "abc".into(),
            image: "sidecar:2".into(),
            ports: vec![80],
            tls: false,
            ready,
            started: Some(at(started)),
            hopeless: false,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_status_of_the_container_before_is_no_success() {
        assert_eq!(progress(&sidecar(true, 99), "sidecar:2", at(100), at(101)), Progress::Underway);
        assert_eq!(progress(&sidecar(true, 100), "sidecar:2", at(100), at(101)), Progress::Done);
    }

    #[test]
    fn a_sidecar_that_cannot_start_has_failed_soon_and_a_slow_one_in_a_while() {
        let hopeless = SidecarFacts { hopeless: true, ..sidecar(false, 100) };
        assert_eq!(progress(&hopeless, "sidecar:2", at(100), at(105)), Progress::Underway);
        assert_eq!(progress(&hopeless, "sidecar:2", at(100), at(106)), Progress::Failed);
        assert_eq!(progress(&sidecar(false, 101), "sidecar:2", at(100), at(160)), Progress::Underway);
        assert_eq!(progress(&sidecar(false, 101), "sidecar:2", at(100), at(161)), Progress::Failed);
    }

    #[test]
    fn few_pods_at_a_time_but_one_at_least() {
        assert_eq!([0, 1, 9, 10, 25, 200].map(at_once), [1, 1, 1, 1, 2, 20]);
    }
}

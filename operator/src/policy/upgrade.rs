//! A new sidecar version, without a restart of any app: the image of a running pod's native sidecar is patched, a few pods at a time. One
//! that does not become ready is given its old image back, and the rest keep theirs.

use cloakroom_protocol::policy_ref::PolicyRef;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Error;
use super::pods::{PodFacts, SidecarFacts};
use crate::context::Context;
use crate::names;

/// A sidecar that is not ready after this long with a new image, will not be.
const PATIENCE: i64 = 60;

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
        if sidecar.image == *image && sidecar.ready && pod.ready {
            context.memory().upgrading.remove(&pod.uid);
        } else if context.now().as_second() - since.as_second() > PATIENCE {
            context.memory().upgrading.remove(&pod.uid);
            context.memory().failed_images.push(image.clone());
            set_image(policy, pod, sidecar, &before, context).await?;
            tracing::warn!(%policy, pod = pod.name, image, "the sidecar did not become ready: old image back");
        } else {
            upgrade.underway += 1;
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

    #[test]
    fn few_pods_at_a_time_but_one_at_least() {
        assert_eq!([0, 1, 9, 10, 25, 200].map(at_once), [1, 1, 1, 1, 2, 20]);
    }
}

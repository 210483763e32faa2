//! The one mutation: a JSON Patch that the API server computes from the pod. It takes nothing for granted that the pod says about our
//! containers and volumes: what bears our names is removed and written anew, so that a second pass, after other injectors, changes only
//! what they changed, and nobody passes off a container of their own as the sidecar.

use cloakroom_crds::Interception;
use cloakroom_protocol::injected;
use k8s_openapi::api::admissionregistration::v1::{JSONPatch, Mutation};

use super::cel::{quote, quote_all, quote_env};
use super::{Sidecar, containers};
use crate::names::{self, Names};
use crate::policy::Policy;

pub(super) fn mutation(policy: &Policy, names: &Names, revision: &str, sidecar: &Sidecar) -> Mutation {
    // Paths into lists are those of the pod as it came, so whatever moves items comes after whatever points at them.
    let patches = [
        rewrite_probes(),
        app_environment(policy, sidecar),
        replace_containers(policy, sidecar),
        replace_volumes(policy, names),
        annotate(policy, revision, sidecar),
    ];
    let expression = patches.join("\n+ ");
    Mutation {
        patch_type: "JSONPatch".into(),
        json_patch: Some(JSONPatch { expression: Some(expression) }),
        apply_configuration: None,
    }
}

/// Probes of protected ports go to the sidecar's own port, which replays them against the app.
fn rewrite_probes() -> String {
    format!(
        "variables.replayed.map(p, (has(p.spec.httpGet) ? [] : [JSONPatch{{op: \"remove\", path: p.at + (has(p.spec.tcpSocket) ? \"/tcpSocket\" : \"/grpc\")}}]) \
         + [JSONPatch{{op: \"add\", path: p.at + \"/httpGet\", value: Object.spec.containers.readinessProbe.httpGet{{\
         port: {}, path: \"/probe/\" + p.name, scheme: \"HTTP\"}}}}]).flatten()",
        injected::ADMIN_PORT
    )
}

/// Sets variables on every app container, in place of those that have the name already.
fn app_environment(policy: &Policy, sidecar: &Sidecar) -> String {
    let ours = [
        (injected::APP_ISSUER_ENV, sidecar.issuer.as_str()),
        (injected::APP_AUDIENCE_ENV, policy.audience.as_str()),
        (injected::APP_JWKS_URL_ENV, injected::APP_JWKS_URL),
    ];
    let theirs = policy.app_environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<String> =
        theirs.chain(ours).map(|(name, value)| format!("[{}, {}]", quote(name), quote_env(value))).collect();
    format!(
        "object.spec.containers.transformList(i, c, \
         (has(c.env) ? [] : [JSONPatch{{op: \"add\", path: \"/spec/containers/\" + string(i) + \"/env\", value: []}}]) \
         + [{}].map(e, JSONPatch{{\
         op: has(c.env) && c.env.exists(v, v.name == e[0]) ? \"replace\" : \"add\", \
         path: \"/spec/containers/\" + string(i) + \"/env/\" + (has(c.env) && c.env.exists(v, v.name == e[0]) ? string(c.env.map(v, v.name).indexOf(e[0])) : \"-\"), \
         value: Object.spec.containers.env{{name: e[0], value: e[1]}}}})).flatten()",
        pairs.join(", ")
    )
}

fn replace_containers(policy: &Policy, sidecar: &Sidecar) -> String {
    let mut patches = vec![
        remove_named("variables.initContainers", "/spec/initContainers/", &quote_all(containers::CONTAINERS)),
        add_if_absent("has(object.spec.initContainers)", "/spec/initContainers", "[]"),
        insert_first(&containers::sidecar(sidecar, policy).construct("Object.spec.initContainers")),
    ];
    if policy.interception == Interception::Redirect {
        patches.push(insert_first(&containers::intercept(sidecar).construct("Object.spec.initContainers")));
    }
    patches.join("\n+ ")
}

fn insert_first(container: &str) -> String {
    format!("[JSONPatch{{op: \"add\", path: \"/spec/initContainers/0\", value: {container}}}]")
}

fn replace_volumes(policy: &Policy, names: &Names) -> String {
    let ours = containers::mounts(policy).into_iter().map(|(volume, _)| volume);
    let mut patches = vec![
        remove_named("(has(object.spec.volumes) ? object.spec.volumes : [])", "/spec/volumes/", &quote_all(ours)),
        add_if_absent("has(object.spec.volumes)", "/spec/volumes", "[]"),
    ];
    patches.extend(containers::volumes(policy, names).into_iter().map(|volume| {
        format!(
            "[JSONPatch{{op: \"add\", path: \"/spec/volumes/-\", value: {}}}]",
            volume.construct("Object.spec.volumes")
        )
    }));
    patches.join("\n+ ")
}

fn annotate(policy: &Policy, revision: &str, sidecar: &Sidecar) -> String {
    let annotations = [
        (names::POLICY_ANNOTATION, policy.reference.to_string()),
        (names::IMAGE_ANNOTATION, sidecar.image.clone()),
        (names::INJECTION_ANNOTATION, revision.to_owned()),
    ];
    let mut patches = vec![add_if_absent("has(object.metadata.annotations)", "/metadata/annotations", "{}")];
    patches.extend(annotations.map(|(name, value)| {
        format!(
            "[JSONPatch{{op: \"add\", path: \"/metadata/annotations/\" + jsonpatch.escapeKey({}), value: {}}}]",
            quote(name),
            quote(&value)
        )
    }));
    patches.join("\n+ ")
}

/// From the last to the first, so that each index still holds when its turn comes.
fn remove_named(list: &str, path: &str, names: &str) -> String {
    format!(
        "{list}.transformList(i, x, x.name in {names}, i).reverse().map(i, JSONPatch{{op: \"remove\", path: {} + string(i)}})",
        quote(path)
    )
}

fn add_if_absent(has: &str, path: &str, empty: &str) -> String {
    format!("({has} ? [] : [JSONPatch{{op: \"add\", path: {}, value: {empty}}}])", quote(path))
}

//! What stands behind the injection and judges the pod after every other injector: a selected pod that would run unprotected is refused
//! with a sentence.

use cloakroom_crds::Interception;
use cloakroom_protocol::injected;
use k8s_openapi::api::admissionregistration::v1::Validation;

use super::cel::{quote, quote_all};
use super::containers::{self, EnvValue};
use super::{Sidecar, port_text};
use crate::names::Names;
use crate::policy::Policy;
use crate::policy::parse::MAX_PORTS;

pub(super) fn validations(policy: &Policy, names: &Names, sidecar: &Sidecar) -> Vec<Validation> {
    let on_create = |expression: String, sentence: &str| {
        validation(format!("request.operation != \"CREATE\" || ({expression})"), policy, sentence)
    };
    let mut validations = vec![
        on_create(
            "!has(object.spec.hostNetwork) || !object.spec.hostNetwork".into(),
            "a pod with hostNetwork shares the node's ports and cannot be protected: remove hostNetwork, or do not select the pod",
        ),
        on_create("variables.protected.size() > 0".into(), &no_port(policy)),
        on_create(
            format!("variables.protected.size() <= {MAX_PORTS}"),
            &format!(
                "the pod declares more TCP ports than the {MAX_PORTS} that can be protected: name the ones to protect in spec.ports"
            ),
        ),
        on_create(
            format!(
                "!variables.protected.exists(p, p >= {} && p <= {})",
                injected::FIRST_LISTEN_PORT,
                injected::ADMIN_PORT
            ),
            "the pod declares one of the ports 15006 to 15020, which are the sidecar's own",
        ),
        on_create(
            format!("variables.initContainers.filter(c, c.name == {}).size() == 1", quote(injected::CONTAINER)),
            "the sidecar is missing: it was not injected, or another injector took it out",
        ),
        on_create(
            format!(
                "variables.initContainers.filter(c, c.name == {}).all(c, {})",
                quote(injected::CONTAINER),
                sidecar_check(policy, sidecar)
            ),
            "the sidecar is not as it was injected: another injector changed its image, arguments, environment or mounts",
        ),
        on_create(
            containers::volumes_check(policy, names),
            "the sidecar's volumes are not as they were injected: another injector changed them",
        ),
    ];
    if policy.interception == Interception::Redirect {
        validations.push(on_create(
            format!(
                "variables.initContainers.exists_one(c, c.name == {} && {})",
                quote(injected::INTERCEPT_CONTAINER),
                intercept_check(sidecar)
            ),
            "the init container that redirects the protected ports is missing or changed: another injector took it out",
        ));
    }
    validations.push(validation(
        format!("request.operation != \"UPDATE\" || {}", image_kept(sidecar)),
        policy,
        "the sidecar's image can only be changed to the one of this installation",
    ));
    validations
}

fn validation(expression: String, policy: &Policy, sentence: &str) -> Validation {
    Validation {
        expression,
        message: Some(format!("AuthPolicy {}: {sentence}", policy.reference)),
        reason: Some("Forbidden".into()),
        message_expression: None,
    }
}

fn no_port(policy: &Policy) -> String {
    if policy.ports.is_empty() {
        return "the pod declares no TCP port, so there is nothing to protect: declare containerPorts, or name the ports in spec.ports".into();
    }
    let ports: Vec<String> = policy.ports.iter().map(port_text).collect();
    format!("the pod declares none of the ports that spec.ports names ({})", ports.join(", "))
}

/// Extra environment and mounts of others are let be (cloud identity injectors add theirs to every container); nothing that the sidecar
/// goes by may differ.
fn sidecar_check(policy: &Policy, sidecar: &Sidecar) -> String {
    let mut checks = vec![
        format!("c.image == {}", quote(&sidecar.image)),
        "has(c.restartPolicy) && c.restartPolicy == \"Always\"".into(),
        "!has(c.command) && !has(c.args) && has(c.env) && has(c.volumeMounts)".into(),
    ];
    let environment = containers::sidecar_environment(policy);
    checks.push(format!("c.env.filter(e, e.name.startsWith(\"CLOAKROOM_\")).size() == {}", environment.len()));
    for (name, value) in environment {
        let value = match value {
            // The probes' lines cannot be told from the rewritten pod; they are an allow-list of what the pod itself declared.
            EnvValue::Cel(_) if name == injected::PROBES_ENV => "true".into(),
            EnvValue::Cel(cel) => format!("has(e.value) && e.value == {cel}"),
            EnvValue::Field(path) => format!(
                "has(e.valueFrom) && has(e.valueFrom.fieldRef) && e.valueFrom.fieldRef.fieldPath == {}",
                quote(path)
            ),
        };
        checks.push(format!("c.env.exists_one(e, e.name == {} && {value})", quote(name)));
    }
    let mounts = containers::mounts(policy);
    for &(volume, path) in &mounts {
        checks.push(format!(
            "c.volumeMounts.exists_one(m, (m.mountPath == {path} || m.mountPath.startsWith({inside})) && m.name == {volume} && m.mountPath == {path} && !has(m.subPath))",
            path = quote(path),
            inside = quote(&format!("{path}/")),
            volume = quote(volume)
        ));
    }
    let ours = quote_all(mounts.iter().map(|(_, path)| *path));
    checks.push(format!(
        "c.volumeMounts.filter(m, {ours}.exists(p, m.mountPath == p || m.mountPath.startsWith(p + \"/\") || p.startsWith(m.mountPath + \"/\"))).size() == {}",
        mounts.len()
    ));
    checks.join(" && ")
}

fn intercept_check(sidecar: &Sidecar) -> String {
    format!(
        "c.image == {} && !has(c.command) && has(c.args) && c.args == {} && !has(c.restartPolicy)",
        quote(&sidecar.image),
        containers::intercept_arguments()
    )
}

/// `spec.initContainers[*].image` is one of the few fields that can be changed in a running pod.
fn image_kept(sidecar: &Sidecar) -> String {
    format!(
        "request.userInfo.username == {operator} || !has(object.spec.initContainers) || object.spec.initContainers.all(c, !(c.name in {ours}) || c.image == {image} \
         || oldObject.spec.initContainers.exists(o, o.name == c.name && o.image == c.image))",
        ours = quote_all(containers::CONTAINERS),
        image = quote(&sidecar.image),
        operator = quote(&sidecar.operator)
    )
}

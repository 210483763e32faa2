//! The containers and volumes that injection adds, described once: mutations construct them, the safety net compares with them.

use cloakroom_crds::Interception;
use cloakroom_protocol::injected;
use cloakroom_protocol::internal_api::WORKLOAD_AUDIENCE;

use super::Sidecar;
use super::cel::{Node, quote};
use crate::names::Names;
use crate::policy::Policy;

/// A user of its own, so that no app shares its UID by chance: processes of one UID can look into each other where the pod shares its
/// process namespace.
const USER: i64 = 15020;

const CONFIG_VOLUME: &str = "cloakroom-config";
const PROOF_VOLUME: &str = "cloakroom-proof";
const TOKEN_VOLUME: &str = "cloakroom-token";
const TLS_VOLUME: &str = "cloakroom-tls";

pub(super) const CONTAINERS: [&str; 2] = [injected::CONTAINER, injected::INTERCEPT_CONTAINER];

/// An environment variable of the sidecar: its name, and where its value comes from.
pub(super) enum EnvValue {
    Cel(String),
    Field(&'static str),
}

/// What the sidecar learns from the pod. Expressions refer to the variables of [`super::pod`].
pub(super) fn sidecar_environment(policy: &Policy) -> Vec<(&'static str, EnvValue)> {
    let interception = match policy.interception {
        Interception::Redirect => "Redirect",
        Interception::Loopback => "Loopback",
    };
    let mut environment = vec![
        (injected::INTERCEPTION_ENV, EnvValue::Cel(quote(interception))),
        (injected::PORTS_ENV, EnvValue::Cel("variables.portPairs.join(\",\")".into())),
        (injected::PROBES_ENV, EnvValue::Cel("variables.probeLines.join(\"\\n\")".into())),
        (injected::POD_NAME_ENV, EnvValue::Field("metadata.name")),
        (injected::POD_UID_ENV, EnvValue::Field("metadata.uid")),
        (injected::POD_IPS_ENV, EnvValue::Field("status.podIPs")),
    ];
    if policy.tls.is_some() {
        environment.push((injected::TLS_ENV, EnvValue::Cel(quote(injected::TLS_DIRECTORY))));
    }
    environment
}

/// Volume and where the sidecar finds it.
pub(super) fn mounts(policy: &Policy) -> Vec<(&'static str, &'static str)> {
    let mut mounts = vec![
        (CONFIG_VOLUME, directory(injected::CONFIG_FILE)),
        (PROOF_VOLUME, directory(injected::PROOF_KEY_FILE)),
        (TOKEN_VOLUME, directory(injected::TOKEN_FILE)),
    ];
    if policy.tls.is_some() {
        mounts.push((TLS_VOLUME, injected::TLS_DIRECTORY));
    }
    mounts
}

pub(super) fn directory(file: &'static str) -> &'static str {
    file.rsplit_once('/').map_or(file, |(directory, _)| directory)
}

fn file_name(file: &'static str) -> &'static str {
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

/// The native sidecar: an init container that goes on running (Kubernetes 1.29), so that it is there before the app and Jobs still end.
pub(super) fn sidecar(settings: &Sidecar, policy: &Policy) -> Node {
    let env = sidecar_environment(policy).into_iter().map(|(name, value)| {
        Node::Object(match value {
            EnvValue::Cel(cel) => vec![("name", Node::text(name)), ("value", Node::Cel(cel))],
            EnvValue::Field(path) => vec![
                ("name", Node::text(name)),
                ("valueFrom", Node::Object(vec![("fieldRef", Node::Object(vec![("fieldPath", Node::text(path))]))])),
            ],
        })
    });
    let mounts = mounts(policy).into_iter().map(|(volume, path)| {
        Node::Object(vec![
            ("name", Node::text(volume)),
            ("mountPath", Node::text(path)),
            ("readOnly", Node::bool(true)),
        ])
    });
    Node::Object(vec![
        ("name", Node::text(injected::CONTAINER)),
        ("image", Node::text(&settings.image)),
        ("imagePullPolicy", Node::text(&settings.pull_policy)),
        ("restartPolicy", Node::text("Always")),
        ("env", Node::List(env.collect())),
        ("volumeMounts", Node::List(mounts.collect())),
        ("lifecycle", Node::Object(vec![("preStop", leave())])),
        ("startupProbe", ready_probe(&[("periodSeconds", 1), ("failureThreshold", 120)])),
        ("readinessProbe", ready_probe(&[("periodSeconds", 5), ("failureThreshold", 2)])),
        ("resources", resources(settings)),
        ("terminationMessagePolicy", Node::text("FallbackToLogsOnError")),
        (
            "securityContext",
            Node::Object(vec![
                ("runAsNonRoot", Node::bool(true)),
                ("runAsUser", Node::number(USER)),
                ("runAsGroup", Node::number(USER)),
                ("privileged", Node::bool(false)),
                ("allowPrivilegeEscalation", Node::bool(false)),
                ("readOnlyRootFilesystem", Node::bool(true)),
                ("capabilities", Node::Object(vec![("drop", Node::texts(["ALL"]))])),
                ("seccompProfile", Node::Object(vec![("type", Node::text("RuntimeDefault"))])),
            ]),
        ),
    ])
}

/// Ready once it has its config, auth service or not: an outage must not take pods out of their Services.
fn ready_probe(timing: &[(&'static str, i64)]) -> Node {
    let http = Node::Object(vec![
        ("path", Node::text("/ready")),
        ("port", Node::number(injected::ADMIN_PORT)),
        ("scheme", Node::text("HTTP")),
    ]);
    let timing = timing.iter().map(|(name, value)| (*name, Node::number(*value)));
    Node::Object([("httpGet", http), ("timeoutSeconds", Node::number(2))].into_iter().chain(timing).collect())
}

/// Hooks run as soon as a pod is deleted, while a native sidecar is ended only after the app: clients have to be sent elsewhere before
/// that, or those that keep their connections would meet a sidecar without an app.
fn leave() -> Node {
    let exec = Node::Object(vec![("command", Node::texts([injected::BINARY, "leave"]))]);
    Node::Object(vec![("exec", exec)])
}

/// Writes the redirection into the pod's network namespace, then ends. The only container with a privilege.
pub(super) fn intercept(settings: &Sidecar) -> Node {
    Node::Object(vec![
        ("name", Node::text(injected::INTERCEPT_CONTAINER)),
        ("image", Node::text(&settings.image)),
        ("imagePullPolicy", Node::text(&settings.pull_policy)),
        ("args", Node::Cel(intercept_arguments().into())),
        ("resources", resources(settings)),
        ("terminationMessagePolicy", Node::text("FallbackToLogsOnError")),
        (
            "securityContext",
            Node::Object(vec![
                // Kubernetes grants added capabilities to root only: there are no ambient ones.
                ("runAsNonRoot", Node::bool(false)),
                ("runAsUser", Node::number(0)),
                ("runAsGroup", Node::number(0)),
                ("privileged", Node::bool(false)),
                ("allowPrivilegeEscalation", Node::bool(false)),
                ("readOnlyRootFilesystem", Node::bool(true)),
                (
                    "capabilities",
                    Node::Object(vec![("drop", Node::texts(["ALL"])), ("add", Node::texts(["NET_ADMIN"]))]),
                ),
                ("seccompProfile", Node::Object(vec![("type", Node::text("RuntimeDefault"))])),
            ]),
        ),
    ])
}

pub(super) fn intercept_arguments() -> &'static str {
    "[\"intercept\"] + variables.portPairs.map(p, [\"--redirect\", p]).flatten()"
}

fn resources(settings: &Sidecar) -> Node {
    let mut fields = vec![("requests", Node::map(&settings.resources.requests))];
    if !settings.resources.limits.is_empty() {
        fields.push(("limits", Node::map(&settings.resources.limits)));
    }
    Node::Object(fields)
}

pub(super) fn volumes(policy: &Policy, names: &Names) -> Vec<Node> {
    let config = Node::Object(vec![
        ("name", Node::text(CONFIG_VOLUME)),
        ("configMap", Node::Object(vec![("name", Node::text(&names.config_map))])),
    ]);
    let proof = Node::Object(vec![
        ("name", Node::text(PROOF_VOLUME)),
        ("secret", Node::Object(vec![("secretName", Node::text(&names.proof_secret))])),
    ]);
    let token = Node::Object(vec![
        ("audience", Node::text(WORKLOAD_AUDIENCE)),
        ("expirationSeconds", Node::number(3600)),
        ("path", Node::text(file_name(injected::TOKEN_FILE))),
    ]);
    let token = Node::Object(vec![
        ("name", Node::text(TOKEN_VOLUME)),
        (
            "projected",
            Node::Object(vec![("sources", Node::List(vec![Node::Object(vec![("serviceAccountToken", token)])]))]),
        ),
    ]);
    [config, proof, token].into_iter().chain(policy.tls.as_deref().map(certificate)).collect()
}

/// Optional, so that a pod is created without it: then the sidecar says what is missing. Nothing else of the Secret is mounted.
fn certificate(secret: &str) -> Node {
    let items = [injected::TLS_CERTIFICATE, injected::TLS_KEY]
        .map(|file| Node::Object(vec![("key", Node::text(file)), ("path", Node::text(file))]));
    let secret = Node::Object(vec![
        ("secretName", Node::text(secret)),
        ("optional", Node::bool(true)),
        ("items", Node::List(items.into())),
    ]);
    Node::Object(vec![("name", Node::text(TLS_VOLUME)), ("secret", secret)])
}

/// Whether the pod's volumes are these; the names of volumes are unique within a pod.
pub(super) fn volumes_check(policy: &Policy, names: &Names) -> String {
    let check = format!(
        "has(object.spec.volumes) && object.spec.volumes.exists(v, v.name == {} && has(v.configMap) && v.configMap.name == {}) \
         && object.spec.volumes.exists(v, v.name == {} && has(v.secret) && v.secret.secretName == {}) \
         && object.spec.volumes.exists(v, v.name == {} && has(v.projected) && has(v.projected.sources) && v.projected.sources.size() == 1 \
         && has(v.projected.sources[0].serviceAccountToken) && has(v.projected.sources[0].serviceAccountToken.audience) \
         && v.projected.sources[0].serviceAccountToken.audience == {})",
        quote(CONFIG_VOLUME),
        quote(&names.config_map),
        quote(PROOF_VOLUME),
        quote(&names.proof_secret),
        quote(TOKEN_VOLUME),
        quote(WORKLOAD_AUDIENCE),
    );
    let Some(secret) = &policy.tls else { return check };
    format!(
        "{check} && object.spec.volumes.exists(v, v.name == {} && has(v.secret) && has(v.secret.secretName) && v.secret.secretName == {})",
        quote(TLS_VOLUME),
        quote(secret)
    )
}

/// The file in the ConfigMap, and the one in the Secret, that the sidecar reads.
pub fn config_key() -> &'static str {
    file_name(injected::CONFIG_FILE)
}

pub fn proof_key() -> &'static str {
    file_name(injected::PROOF_KEY_FILE)
}

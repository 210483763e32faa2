//! What only the pod knows, computed by the API server: the protected ports, and the probes that would meet the sidecar there.

use cloakroom_crds::Interception;
use cloakroom_protocol::injected;
use k8s_openapi::api::admissionregistration::v1::Variable;

use super::cel::{quote, quote_all};
use super::containers::CONTAINERS;
use crate::policy::Policy;
use crate::policy::parse::Port;

/// Variables that injection and safety net share. A pure function of the pod as it is now, ours in it or not: other injectors may come
/// before or after, and the result is the same.
pub(super) fn variables(policy: &Policy) -> Vec<Variable> {
    vec![
        variable("initContainers", "has(object.spec.initContainers) ? object.spec.initContainers : []".into()),
        variable("sidecars", other_sidecars()),
        variable("ports", declared_ports()),
        variable("protected", protected_ports(&policy.ports)),
        variable("portPairs", port_pairs(policy.interception)),
    ]
}

/// Variables about probes, for the injection alone.
pub(super) fn probe_variables() -> Vec<Variable> {
    vec![
        variable("probes", probes()),
        variable("replayed", "variables.probes.filter(p, p.port in variables.protected)".into()),
        variable("probeLines", probe_lines()),
    ]
}

fn variable(name: &str, expression: String) -> Variable {
    Variable { name: name.into(), expression }
}

/// Native sidecars of others: they run beside the app and their ports are as reachable as the app's.
fn other_sidecars() -> String {
    format!(
        "variables.initContainers.filter(c, has(c.restartPolicy) && c.restartPolicy == \"Always\" && !(c.name in {}))",
        quote_all(CONTAINERS)
    )
}

fn declared_ports() -> String {
    "(object.spec.containers + variables.sidecars).map(c, has(c.ports) ? c.ports.filter(p, !has(p.protocol) || p.protocol == \"TCP\") : [])\
     .flatten()"
        .into()
}

/// Sorted, so that the order of containers makes no difference.
fn protected_ports(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "variables.ports.map(p, int(p.containerPort)).distinct().sort()".into();
    }
    let ports: Vec<String> = ports
        .iter()
        .map(|port| match port {
            Port::Name(name) => format!(
                "variables.ports.filter(p, has(p.name) && p.name == {}).map(p, int(p.containerPort))",
                quote(name)
            ),
            Port::Number(number) => format!("[{number}]"),
        })
        .collect();
    format!("[{}].flatten().distinct().sort()", ports.join(", "))
}

/// `<app port>:<listening port>`, as the sidecar reads them. In Redirect mode each protected port has a listening port of its own, so
/// that nothing needs to ask for a connection's original destination.
fn port_pairs(interception: Interception) -> String {
    match interception {
        Interception::Redirect => format!(
            "variables.protected.transformList(i, p, string(p) + \":\" + string({} + i))",
            injected::FIRST_LISTEN_PORT
        ),
        Interception::Loopback => "variables.protected.map(p, string(p) + \":\" + string(p))".into(),
    }
}

/// Every probe of the pod: where it stands, `<container>/<kind>`, itself, and its port as a number (0: none, or of another host).
fn probes() -> String {
    let mut lists = Vec::new();
    for (list, containers, condition) in [
        ("containers", "object.spec.containers", String::new()),
        (
            "initContainers",
            "variables.initContainers",
            format!(
                "has(c.restartPolicy) && c.restartPolicy == \"Always\" && !(c.name in {}) && ",
                quote_all(CONTAINERS)
            ),
        ),
    ] {
        for (field, kind) in
            [("startupProbe", "startup"), ("readinessProbe", "readiness"), ("livenessProbe", "liveness")]
        {
            lists.push(format!(
                "{containers}.transformList(i, c, {condition}has(c.{field}), {{\
                 \"at\": dyn(\"/spec/{list}/\" + string(i) + \"/{field}\"), \
                 \"name\": dyn(c.name + \"/{kind}\"), \
                 \"spec\": dyn(c.{field}), \
                 \"port\": dyn({})}})",
                probe_port(&format!("c.{field}"))
            ));
        }
    }
    format!("[{}].flatten()", lists.join(", "))
}

fn probe_port(probe: &str) -> String {
    let number = |port: String| {
        format!(
            "type({port}) == int ? int({port}) : ((has(c.ports) ? c.ports : []).filter(d, has(d.name) && d.name == {port})\
             .map(d, int(d.containerPort)) + [0])[0]"
        )
    };
    // A probe that names a host asks somebody else; it never meets the sidecar.
    let elsewhere = |action: &str| format!("has({probe}.{action}.host) && {probe}.{action}.host != \"\"");
    format!(
        "has({probe}.httpGet) ? ({} ? 0 : ({})) : has({probe}.tcpSocket) ? ({} ? 0 : ({})) : has({probe}.grpc) ? int({probe}.grpc.port) : 0",
        elsewhere("httpGet"),
        number(format!("{probe}.httpGet.port")),
        elsewhere("tcpSocket"),
        number(format!("{probe}.tcpSocket.port")),
    )
}

/// The probes that the sidecar replays: those found now, and those that an earlier pass of this injection has rewritten already.
/// kubelet replaces `$(NAME)` in environment values, so each `$` is doubled.
fn probe_lines() -> String {
    format!(
        "(variables.replayed.map(p, ({LINE}).replace(\"$\", \"$$\")) + \
         variables.initContainers.filter(c, c.name == {name} && has(c.env))\
         .map(c, c.env.filter(e, e.name == {env} && has(e.value)).map(e, e.value.split(\"\\n\")).flatten()).flatten()\
         .filter(line, variables.probes.exists(p, line.startsWith(p.name + \" \") && p.port == {admin} \
         && has(p.spec.httpGet) && has(p.spec.httpGet.path) && p.spec.httpGet.path == \"/probe/\" + p.name))).sort()",
        name = quote(injected::CONTAINER),
        env = quote(injected::PROBES_ENV),
        admin = injected::ADMIN_PORT,
    )
}

/// One line as `cloakroom_protocol::injected::Probe` reads it.
const LINE: &str = "p.name + \" \" \
     + (has(p.spec.httpGet) ? (has(p.spec.httpGet.scheme) ? p.spec.httpGet.scheme : \"HTTP\") : has(p.spec.tcpSocket) ? \"TCP\" : \"GRPC\") \
     + \" \" + string(p.port) + \" \" + string(has(p.spec.timeoutSeconds) ? p.spec.timeoutSeconds : 1) \
     + (has(p.spec.httpGet) \
       ? \" \" + strings.quote(has(p.spec.httpGet.path) && p.spec.httpGet.path != \"\" ? p.spec.httpGet.path : \"/\") \
         + (has(p.spec.httpGet.httpHeaders) ? p.spec.httpGet.httpHeaders.map(h, \" \" + strings.quote(h.name) + \" \" \
           + strings.quote(has(h.value) ? h.value : \"\")).join(\"\") : \"\") \
       : has(p.spec.grpc) && has(p.spec.grpc.service) && p.spec.grpc.service != \"\" ? \" \" + strings.quote(p.spec.grpc.service) : \"\")";

//! `AuthPolicy`: which pods are protected, and how. What can be refused at `kubectl apply` is refused here, each with a sentence;
//! what needs more than CEL is refused by the operator's parser.

mod limits;
mod outage;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::status::AuthPolicyStatus;
pub use limits::Limits;
pub use outage::{Outage, OutageMode};

/// Which pods are protected, and how.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "cloakroom.dev",
    version = "v1alpha1",
    kind = "AuthPolicy",
    plural = "authpolicies",
    shortname = "authp",
    category = "cloakroom",
    namespaced,
    status = "AuthPolicyStatus",
    derive = "PartialEq",
    cel,
    doc = "Requests to the selected pods are authenticated by an injected sidecar, which swaps the client's opaque token for a short-lived JWT that only the app sees.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name is part of the OAuth client's id and of labels: use at most 63 characters"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status", description = "The policy is valid and in force for new pods."),
    printcolumn(name = "Enforced", type_ = "string", json_path = ".status.conditions[?(@.type=='Enforced')].status", description = "Measured: every protected port of every matched pod is answered by the sidecar."),
    printcolumn(name = "Protected", type_ = "string", json_path = ".status.protected", description = "Protected pods of matched pods."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Enforced')].reason", description = "Why Enforced is what it is."),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Interception", type_ = "string", json_path = ".spec.interception", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.configRevision", description = "Revision of the sidecars' configuration.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.unauthenticated != 'Redirect' || (has(self.origins) && size(self.origins) > 0)")
        .message("unauthenticated: Redirect sends people to sign in, so `origins` must say where they come back to").field_path(".origins"),
    validation = Rule::new("!has(self.rules) || (has(self.origins) && size(self.origins) > 0) || self.rules.all(r, !has(r.unauthenticated) || r.unauthenticated != 'Redirect')")
        .message("unauthenticated: Redirect sends people to sign in, so `origins` must say where they come back to").field_path(".origins"),
    validation = Rule::new("!has(self.outage.__for__) || duration(self.outage.__for__) + duration('25s') <= duration(self.jwt.lifetime)")
        .message("an outage is bridged with the JWTs that are there: `for` must be at least 25s shorter than jwt.lifetime").field_path(".outage"),
    validation = Rule::new("!has(self.rules) || self.rules.all(r, !has(r.outage) || !has(r.outage.__for__) || duration(r.outage.__for__) + duration('25s') <= duration(self.jwt.lifetime))")
        .message("an outage is bridged with the JWTs that are there: `for` must be at least 25s shorter than jwt.lifetime").field_path(".rules"),
    validation = Rule::new("!has(self.appEnvironment) || self.interception == 'Loopback'")
        .message("appEnvironment is there to make an app listen on 127.0.0.1: it needs `interception: Loopback`").field_path(".appEnvironment")
)]
pub struct AuthPolicySpec {
    /// The pods of this namespace that are protected.
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
        .message("an empty selector would select every pod of the namespace: name labels of the pods to protect"))]
    pub selector: LabelSelector,

    /// The protected container ports, by name or number. Without it: every TCP port that the pod's containers declare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(p, !(p in [15006, 15007, 15008, 15009, 15010, 15011, 15012, 15013, 15014, 15015, 15016, 15017, 15018, 15019, 15020]))")
            .message("ports 15006 to 15020 are the sidecar's own")
    )]
    #[schemars(schema_with = "ports_schema")]
    pub ports: Vec<IntOrString>,

    /// How requests reach the sidecar. `Redirect`: nftables in the pod sends the protected ports to the sidecar; works with any app,
    /// needs `NET_ADMIN` in an init container. `Loopback`: the app listens on 127.0.0.1 only and the sidecar takes the same ports on
    /// the pod's addresses; fits the restricted Pod Security Standard.
    #[serde(default)]
    pub interception: Interception,

    /// Environment set on every app container, e.g. `HOST: 127.0.0.1` for an app that takes its listening address from there.
    /// Only with `interception: Loopback`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(
        validation = Rule::new("self.all(k, size(k) <= 64 && size(self[k]) <= 256)").message("a variable's name has at most 64 characters, its value 256"),
        validation = Rule::new("self.all(k, !k.startsWith('CLOAKROOM_'))").message("variables that start with CLOAKROOM_ are set by the injection")
    )]
    #[schemars(extend("maxProperties" = 8))]
    pub app_environment: BTreeMap<String, String>,

    /// `Enforce`, or `Shadow`: decide, count and log, but let pass what the rules or the lack of a token would stop. Whoever is nobody
    /// here keeps the credentials in the request's headers, so that an app's own authentication goes on working; only tokens of ours
    /// are removed. As under Enforce, what is ambiguous, malformed or larger than `limits` is refused, identity headers are
    /// set by the sidecar alone, and streams end with their session.
    #[serde(default)]
    pub mode: Mode,

    /// `Automatic` restarts the Deployments, StatefulSets and DaemonSets whose pods lack the sidecar; `Manual` leaves that to you.
    #[serde(default)]
    pub rollout: Rollout,

    /// Where people use the app, e.g. `https://shop.example.com`. Sign-in returns only there. `http` for localhost only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(
        length(max = 16),
        inner(
            length(max = 260),
            regex(
                pattern = r"^(https://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)|http://(([a-z0-9-]+\.)*localhost|127\.0\.0\.1|\[::1\]))(:[1-9][0-9]{0,4})?$"
            )
        )
    )]
    pub origins: Vec<String>,

    /// Networks (CIDR) of the proxies in front, whose `X-Forwarded-For`, `-Proto` and `-Host` are believed. Their other forwarding headers,
    /// `Forwarded` too, go on to the app and decide nothing here: many proxies pass a client's own `Forwarded` on as it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 64), inner(length(max = 49), regex(pattern = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$")))]
    pub trusted_proxies: Vec<String>,

    /// Where clients present their opaque token.
    #[serde(default)]
    pub token: Token,

    /// The protected ports speak TLS. Without it they speak plain HTTP, for an ingress to put TLS in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// What a request without a valid token gets, where the rules ask for one. `Auto`: a page load is sent to sign in, everything
    /// else gets 401. `Redirect`: everything is sent to sign in. `Deny`: always 401. Nothing is sent to sign in without `origins` and a
    /// cookie in `token.sources`, nor what has its token in a header: that gets 401, with a challenge that says what is missing.
    #[serde(default)]
    pub unauthenticated: Unauthenticated,

    /// What the app speaks on the protected ports, in the words of a Service's `appProtocol`. `http`: HTTP/1.1, which it is asked in
    /// whatever the client speaks; gRPC calls go on in HTTP/2. `kubernetes.io/h2c`: HTTP/2 with prior knowledge and nothing else, so
    /// that everything goes on in that; such an app gets no WebSockets.
    #[serde(default)]
    pub app_protocol: AppProtocol,

    /// What a CORS preflight gets: an `OPTIONS` request that a browser sends before a page of another origin may ask, without
    /// credentials. `AsRules`: what the rules say, so 401 where they ask for a token. `Pass`: the app answers it, except where a rule
    /// denies everything; the app sees the question only, without body or any other header of the client's.
    #[serde(default)]
    pub preflight: Preflight,

    /// Sessions of people who sign in through this policy.
    #[serde(default)]
    pub session: Session,

    /// The JWT that the app receives.
    #[serde(default)]
    pub jwt: Jwt,

    /// What requests get while no auth service answers.
    #[serde(default)]
    pub outage: Outage,

    /// Who may do what. The first rule that matches decides; without a match, any authenticated caller passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[schemars(length(max = 64))]
    pub rules: Vec<AccessRule>,

    /// Bounds on what clients send.
    #[serde(default)]
    pub limits: Limits,
}

/// As long as the range of the sidecar's listening ports allows. Written by hand: the library's schema of an `IntOrString` bounds nothing.
fn ports_schema(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 14,
        "items": {
            "description": "A port's name or number.",
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 65535,
            "maxLength": 15,
            "pattern": "^[a-z0-9-]*[a-z][a-z0-9-]*$",
        },
    })
}

// Variants carry plain comments: documented variants would become a `oneOf`, which `kubectl explain` does not show.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    #[default]
    Redirect,
    Loopback,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    Shadow,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    #[default]
    Automatic,
    Manual,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unauthenticated {
    #[default]
    Auto,
    Redirect,
    Deny,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    #[default]
    #[serde(rename = "http")]
    Http,
    #[serde(rename = "kubernetes.io/h2c")]
    H2c,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    #[default]
    AsRules,
    Pass,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    Anonymous,
    Optional,
    #[default]
    Authenticated,
    Deny,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.secretName.startsWith('cloakroom.')").message("Secrets whose names begin with cloakroom. are the operator's own").field_path(".secretName")
)]
pub struct Tls {
    /// Name of a Secret of type `kubernetes.io/tls` in this namespace, such as cert-manager writes: `tls.crt` is the certificate, with
    /// those that vouch for it after it, `tls.key` its key. Changes are picked up without a restart. Only the sidecar mounts it; until it
    /// is there, pods are not ready.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
    )]
    pub secret_name: String,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.issuers) || size(self.issuers) == 0 || self.sources.exists(s, has(s.header))")
        .message("tokens of other issuers are taken from headers only: name one among the sources").field_path(".issuers")
)]
pub struct Token {
    /// Tried in order; the first that carries a token is used. Two different tokens in one request are an error.
    #[serde(default = "default_sources")]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(a, self.exists_one(b, a == b))").message("two sources are the same")
    )]
    #[schemars(length(min = 1, max = 8))]
    pub sources: Vec<TokenSource>,

    /// Other issuers whose access tokens are taken too, from headers only, by the ids that the auth service's configuration gives them
    /// (`token_issuers`). Without it: nothing but the auth service's own tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 8), inner(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")))]
    pub issuers: Vec<String>,
}

impl Default for Token {
    fn default() -> Self {
        Self { sources: default_sources(), issuers: Vec::new() }
    }
}

fn default_sources() -> Vec<TokenSource> {
    vec![
        TokenSource { cookie: Some("__Host-cloakroom".into()), header: None, scheme: None },
        TokenSource { cookie: None, header: Some("Authorization".into()), scheme: Some("Bearer".into()) },
    ]
}

/// Either a cookie or a header.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cookie) != has(self.header)").message("a source is either a cookie or a header"),
    validation = Rule::new("!has(self.scheme) || has(self.header)").message("only a header has a scheme"),
    validation = Rule::new("!has(self.header) || self.header.lowerAscii() != 'authorization' || has(self.scheme)")
        .message("the Authorization header needs a scheme, e.g. Bearer"),
    validation = Rule::new("!has(self.header) || !(self.header.lowerAscii() in ['cookie', 'set-cookie', 'host', 'content-length', 'content-type', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'forwarded', 'origin', 'referer', 'expect', 'date'])")
        .message("this header has a meaning of its own in HTTP and cannot carry a token"),
    validation = Rule::new("!has(self.cookie) || !self.cookie.startsWith('__Host-cloakroom-flow')").message("cookies named __Host-cloakroom-flow… belong to the sign-in flow")
)]
pub struct TokenSource {
    /// Name of a cookie. The prefix `__Host-` makes browsers keep every other host from setting it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub cookie: Option<String>,

    /// Name of a request header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?$"))]
    pub header: Option<String>,

    /// What stands before the token in that header, e.g. `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9A-Za-z-]+$"))]
    pub scheme: Option<String>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.idle) <= duration(self.absolute)").message("idle must not be longer than absolute: the session would end before").field_path(".idle"),
    validation = Rule::new("duration(self.idle) >= duration('1m')").message("idle must be at least 1m").field_path(".idle"),
    validation = Rule::new("duration(self.absolute) <= duration('8760h')").message("absolute must be at most 8760h (a year)").field_path(".absolute")
)]
pub struct Session {
    /// A session ends when it was not used for so long.
    #[serde(default = "default_idle")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub idle: String,

    /// A session ends so long after sign-in, whatever happens.
    #[serde(default = "default_absolute")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub absolute: String,

    /// Keys of the session's data that the app may write, by answering with the header `Cloakroom-Session`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$")))]
    pub writable: Vec<String>,
}

impl Default for Session {
    fn default() -> Self {
        Self { idle: default_idle(), absolute: default_absolute(), writable: Vec::new() }
    }
}

fn default_idle() -> String {
    "30m".into()
}

fn default_absolute() -> String {
    "12h".into()
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.lifetime) >= duration('10s') && duration(self.lifetime) <= duration('15m')")
        .message("lifetime must be between 10s and 15m").field_path(".lifetime"),
    validation = Rule::new("!(self.header.lowerAscii() in ['cookie', 'set-cookie', 'host', 'content-length', 'content-type', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'forwarded', 'origin', 'referer', 'expect', 'date'])")
        .message("this header has a meaning of its own in HTTP and cannot carry the JWT").field_path(".header"),
    validation = Rule::new("!has(self.claimHeaders) || self.claimHeaders.all(h, size(h) <= 64 && size(self.claimHeaders[h]) <= 64)")
        .message("header and claim names have at most 64 characters").field_path(".claimHeaders")
)]
pub struct Jwt {
    /// The request header that carries the JWT to the app; in `Authorization` it follows `Bearer`.
    #[serde(default = "default_jwt_header")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?$"))]
    pub header: String,

    /// The JWT's `aud`, and the audience that access tokens and API keys must be meant for. Default: `<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$"))]
    pub audience: Option<String>,

    /// How long a JWT is valid; it is renewed before it ends.
    #[serde(default = "default_lifetime")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub lifetime: String,

    /// Claims about the person beside the standard ones, e.g. `email`, `groups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64), regex(pattern = r"^[!-~]+$")))]
    pub claims: Vec<String>,

    /// Request headers filled from claims, for apps that read no JWT. Clients' own headers of these names are removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub claim_headers: BTreeMap<String, String>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            header: default_jwt_header(),
            audience: None,
            lifetime: default_lifetime(),
            claims: Vec::new(),
            claim_headers: BTreeMap::new(),
        }
    }
}

fn default_jwt_header() -> String {
    "Authorization".into()
}

fn default_lifetime() -> String {
    "60s".into()
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.require) || self.access == 'Authenticated'").message("require needs access: Authenticated"),
    validation = Rule::new("!has(self.unauthenticated) || self.access == 'Authenticated'").message("unauthenticated needs access: Authenticated"),
    validation = Rule::new("!has(self.outage) || self.access in ['Authenticated', 'Optional']").message("outage needs access: Authenticated or Optional")
)]
pub struct AccessRule {
    /// The requests that this rule is about; one of them has to match.
    #[serde(rename = "match")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[schemars(length(min = 1, max = 32))]
    pub matches: Vec<RuleMatch>,

    /// `Anonymous`: passes, tokens are not looked at, and not passed on either. `Optional`: passes, with a JWT if there is a valid token. `Authenticated`:
    /// needs a valid token. `Deny`: 403 for everyone.
    #[serde(default)]
    pub access: Access,

    /// What the authenticated caller must have besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Require>,

    /// Instead of the policy's, for these requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unauthenticated: Option<Unauthenticated>,

    /// Instead of the policy's, for these requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.path) || (has(self.methods) && size(self.methods) > 0)").message("say which path or methods; /** is every path")
)]
pub struct RuleMatch {
    /// An absolute path, compared with the request's canonical one: `/healthz` alone; `/orders/{id}` or `/orders/*` with any one
    /// segment there; `/admin/**` with `/admin` and everything below it. Without it: every path. A rule that opens (Anonymous,
    /// Optional) matches just that. A rule that guards (Authenticated, Deny) also matches what an app may take for the same: in
    /// other letters' case, with a slash at the end, with `;parameters`, with characters percent-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,

    /// HTTP methods, in capitals; `GET` includes `HEAD`. Without it: every method. Where any rule names methods, headers that would have
    /// an app take another one (`X-HTTP-Method-Override` and its like) are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = r"^[A-Z][A-Z-]*$")))]
    pub methods: Vec<String>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.scopes) || has(self.roles) || has(self.acr) || has(self.maxAge)").message("an empty require requires nothing: leave it out"),
    validation = Rule::new("!has(self.maxAge) || duration(self.maxAge) >= duration('1s')").message("maxAge must be at least 1s").field_path(".maxAge")
)]
pub struct Require {
    /// Scopes that the token must all have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128), regex(pattern = r"^[!#-\[\]-~]+$")))]
    pub scopes: Vec<String>,

    /// Roles of which the caller must have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub roles: Vec<String>,

    /// How the caller must have authenticated, e.g. `mfa`. People who have not are sent to do so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[!-~]+$"))]
    pub acr: Option<String>,

    /// How long ago the caller may have authenticated at most. People for whom it is longer are sent to do it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub max_age: Option<String>,
}

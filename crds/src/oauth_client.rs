//! `OAuthClient`: a third-party application, or a service that gets tokens for itself. What can be refused at `kubectl apply` is refused here,
//! each with a sentence; what takes other namespaces' policies to know, the auth service refuses.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::{CredentialStatus, Rotation};

/// What a client may ask for, and where it is.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "cloakroom.dev",
    version = "v1alpha1",
    kind = "OAuthClient",
    plural = "oauthclients",
    category = "cloakroom",
    namespaced,
    status = "CredentialStatus",
    derive = "PartialEq",
    cel,
    doc = "An application that people sign in to or give access to, or a service that gets tokens for itself. Its client id is <name>@<namespace>. The operator writes what it needs to the Secret cloakroom.<name>.oauth-client: client_id, issuer and, unless it is public, client_secret, of which the auth service keeps the hash only.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name is part of the client's id and of its Secret's name: use at most 63 characters"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status", description = "The auth service takes it as it is."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "The Secret holds what is good."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why Ready is what it is."),
    printcolumn(name = "Client", type_ = "string", json_path = ".status.id", description = "The client id."),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", description = "Where client id, issuer and secret are."),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", priority = 1),
    printcolumn(name = "Made", type_ = "date", json_path = ".status.madeAt", description = "When the present secret was made.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!('authorization_code' in self.grantTypes) || (has(self.redirectURIs) && size(self.redirectURIs) > 0)")
        .message("authorization_code sends people back to the application: redirectURIs must say where").field_path(".redirectURIs"),
    validation = Rule::new("'authorization_code' in self.grantTypes || !has(self.redirectURIs) || size(self.redirectURIs) == 0")
        .message("redirectURIs belong to the grant type authorization_code").field_path(".redirectURIs"),
    validation = Rule::new(r"!has(self.redirectURIs) || self.redirectURIs.all(uri, uri.matches('^(https://|http://(localhost|127[.]0[.]0[.]1|\\[::1\\])([:/?]|$)|[a-zA-Z][a-zA-Z0-9+-]*[.][a-zA-Z0-9+.-]*:)'))")
        .message("a redirect URI is https, http on localhost, 127.0.0.1 or [::1], or of a scheme of the application's own with a dot in it").field_path(".redirectURIs"),
    validation = Rule::new(r"!has(self.postLogoutRedirectURIs) || self.postLogoutRedirectURIs.all(uri, uri.matches('^(https://|http://(localhost|127[.]0[.]0[.]1|\\[::1\\])([:/?]|$)|[a-zA-Z][a-zA-Z0-9+-]*[.][a-zA-Z0-9+.-]*:)'))")
        .message("an address after signing out is https, http on localhost, 127.0.0.1 or [::1], or of a scheme of the application's own with a dot in it").field_path(".postLogoutRedirectURIs"),
    validation = Rule::new("self.type != 'Public' || !('client_credentials' in self.grantTypes)")
        .message("a client without a secret cannot show who it is: client_credentials needs type Confidential").field_path(".grantTypes"),
    validation = Rule::new("!('refresh_token' in self.grantTypes) || 'authorization_code' in self.grantTypes")
        .message("refresh tokens come with authorization_code; client_credentials asks again instead").field_path(".grantTypes"),
    validation = Rule::new("self.type != 'Public' || !has(self.rotation) || (!has(self.rotation.every) && (!has(self.rotation.trigger) || self.rotation.trigger == ''))")
        .message("a public client has no secret that could be replaced").field_path(".rotation"),
    validation = Rule::new("self.type == oldSelf.type")
        .message("whether a client has a secret stays as it is: delete the OAuthClient and make another").field_path(".type")
)]
pub struct OAuthClientSpec {
    /// What people who are asked for consent see. Without it, the client's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 80), regex(pattern = r"^[^\p{C}]*$"))]
    pub display_name: String,

    /// `Confidential`: it runs where it can keep a secret, and has one. `Public`: it is a page, or runs on people's devices, and has none.
    #[serde(default, rename = "type")]
    pub client_type: ClientType,

    /// `authorization_code` (with PKCE, always): people sign in and allow. `refresh_token`: and it may go on without them.
    /// `client_credentials`: a service for itself.
    #[serde(default = "default_grant_types")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = 3))]
    pub grant_types: Vec<ClientGrantType>,

    /// Where people come back to, compared exactly, at no app of another namespace.
    #[serde(default, rename = "redirectURIs", skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048), regex(pattern = r#"^[!"$-)+-\[\]-~]+$"#)))]
    pub redirect_uris: Vec<String>,

    /// Where people may be sent after signing out, likewise.
    #[serde(default, rename = "postLogoutRedirectURIs", skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048), regex(pattern = r#"^[!"$-)+-\[\]-~]+$"#)))]
    pub post_logout_redirect_uris: Vec<String>,

    /// It may ask for these: `openid`, `profile`, `email` and the like, and those of the apps that it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 128), regex(pattern = r"^[!#-\[\]-~]+$")))]
    pub scopes: Vec<String>,

    /// The audience of each AuthPolicy, of this namespace, where its tokens count: `<namespace>/<name>` unless the policy says otherwise with
    /// `jwt.audience`. None: they are good for user info only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$")))]
    pub audiences: Vec<String>,

    /// Every access token is bound to a key of the client's (RFC 9449).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dpop_bound_access_tokens: bool,

    /// People sign in to it with two factors, whatever it asks for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_mfa: bool,

    /// New secrets, by time and on demand.
    #[serde(default)]
    pub rotation: Rotation,
}

fn default_grant_types() -> Vec<ClientGrantType> {
    vec![ClientGrantType::AuthorizationCode]
}

// Variants carry no doc comments: documented variants would become a `oneOf`, which `kubectl explain` does not show.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    #[default]
    Confidential,
    Public,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ClientGrantType {
    AuthorizationCode,
    RefreshToken,
    ClientCredentials,
}

//! Kubernetes' own RBAC as what decides about administrators: the API server is asked by a SubjectAccessReview.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri, header};
use http_body_util::Full;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AuthenticationError, Workload};
use crate::clock::Clock;
use crate::config::KubernetesRbac;
use crate::outgoing;

/// API group of the resources that roles name; there need not be such an API.
const GROUP: &str = "admin.cloakroom.dev";
/// So long a role that was taken away may still count.
const REMEMBER: Duration = Duration::from_secs(10);
const REMEMBERED: usize = 1000;

/// What somebody wants to do at the admin API, in RBAC's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    pub verb: &'static str,
    pub resource: String,
    pub subresource: Option<String>,
    pub name: Option<String>,
}

impl Wish {
    /// From the route that was taken, not from the path as it was spelled: `/users/{id}/password` is `password` of `users`.
    pub fn of(method: &Method, route: &str, name: Option<&str>) -> Self {
        let mut segments = route.split('/').filter(|segment| !segment.is_empty());
        let resource = segments.next().unwrap_or_default().to_owned();
        let (one, subresource) = (segments.next(), segments.next().map(str::to_owned));
        let verb = match *method {
            Method::GET | Method::HEAD if one.is_none() => "list",
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::DELETE => "delete",
            _ => "update",
        };
        Self { verb, resource, subresource, name: name.map(str::to_owned) }
    }
}

pub(super) struct AccessReview {
    issuer: String,
    url: Uri,
    ca_file: Option<PathBuf>,
    bearer_file: Option<PathBuf>,
    clock: Clock,
    /// Who and what → whether, and until when that counts, in milliseconds.
    known: Cache<(String, Wish), (bool, u64)>,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    allowed: bool,
    #[serde(default)]
    denied: bool,
}

impl AccessReview {
    pub(super) fn new(config: &KubernetesRbac, clock: Clock) -> Result<Self, super::JwksError> {
        let url = format!("{}/apis/authorization.k8s.io/v1/subjectaccessreviews", config.url.trim_end_matches('/'));
        Ok(Self {
            issuer: config.issuer.clone(),
            url: url.parse().map_err(|error| super::JwksError::Source(format!("{url}: {error}")))?,
            ca_file: config.ca_file.clone(),
            bearer_file: config.bearer_file.clone(),
            clock,
            known: Cache::new(REMEMBERED),
        })
    }

    /// Whether the cluster's roles let this account do it. Another cluster's account of the same name is not the same.
    pub(super) async fn allows(&self, workload: &Workload, wish: &Wish) -> Result<bool, AuthenticationError> {
        if workload.issuer != self.issuer {
            return Ok(false);
        }
        let now = self.clock.millis();
        let asked = (workload.subject.clone(), wish.clone());
        if let Some((allowed, until)) = self.known.get(&asked)
            && now < until
        {
            return Ok(allowed);
        }
        let allowed = self.ask(&question(workload, wish)).await.map_err(AuthenticationError::Unavailable)?;
        let remember = u64::try_from(REMEMBER.as_millis()).unwrap_or(0);
        self.known.insert(asked, (allowed, now + remember));
        Ok(allowed)
    }

    async fn ask(&self, question: &Value) -> Result<bool, String> {
        let mut request = http::Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(file) = &self.bearer_file {
            request = request.header(header::AUTHORIZATION, outgoing::bearer_of(file).await?);
        }
        let body = Full::new(Bytes::from(question.to_string()));
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = outgoing::send(request, self.ca_file.as_deref()).await?;
        if answer.status() != http::StatusCode::CREATED {
            return Err(format!("{}: {}", self.url, answer.status()));
        }
        let review: Review = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
        Ok(review.status.allowed && !review.status.denied)
    }
}

fn question(workload: &Workload, wish: &Wish) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": workload.subject,
            // As the API server itself would say of the account.
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{}", workload.namespace),
                "system:authenticated",
            ],
            "resourceAttributes": {
                "group": GROUP,
                "version": "v1",
                "resource": wish.resource,
                "subresource": wish.subresource.clone().unwrap_or_default(),
                "verb": wish.verb,
                "name": wish.name.clone().unwrap_or_default(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_read_as_resources_and_methods_as_verbs() {
        let say = |method: Method, route| {
            let Wish { verb, resource, subresource, .. } = Wish::of(&method, route, None);
            format!("{verb} {resource} {}", subresource.unwrap_or_default())
        };
        assert_eq!(say(Method::GET, "/users"), "list users ");
        assert_eq!(say(Method::GET, "/users/{id}"), "get users ");
        assert_eq!(say(Method::POST, "/users"), "create users ");
        assert_eq!(say(Method::PATCH, "/users/{id}"), "update users ");
        assert_eq!(say(Method::PUT, "/users/{id}/password"), "update users password");
        assert_eq!(say(Method::DELETE, "/groups/{name}/members/{id}"), "delete groups members");
        assert_eq!(say(Method::POST, "/keys/rotate"), "create keys ");
    }
}

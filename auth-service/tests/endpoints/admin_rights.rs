//! Service accounts at the admin API: the cluster's roles say what they may.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Service};

/// An API server that answers reviews: a role that may read users, and nothing else.
#[derive(Clone, Default)]
struct ApiServer {
    asked: Arc<Mutex<Vec<Value>>>,
    broken: Arc<Mutex<bool>>,
}

impl ApiServer {
    async fn start(&self) -> String {
        async fn review(State(server): State<ApiServer>, Json(review): Json<Value>) -> (StatusCode, Json<Value>) {
            if *server.broken.lock().unwrap() {
                return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({})));
            }
            let what = &review["spec"]["resourceAttributes"];
            let reads = ["get", "list"].iter().any(|verb| what["verb"] == *verb);
            let allowed = reads
                && what["resource"] == "users"
                && what["subresource"] == ""
                && what["group"] == "admin.cloakroom.dev";
            server.asked.lock().unwrap().push(review["spec"].clone());
            (StatusCode::CREATED, Json(json!({"status": {"allowed": allowed}})))
        }
        let router = Router::new()
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (_stop, stopping) = tokio::sync::watch::channel(false);
            cloakroom_auth_service::serve::serve(listener, None, router, None, stopping).await;
        });
        url
    }

    fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn service(server: &ApiServer) -> Service {
    let url = server.start().await;
    let adjust = |config: &mut Value| {
        config["admin"]["kubernetes_rbac"] = json!({"issuer": "https://kubernetes.test", "url": url});
    };
    Service::start_as(adjust, None).await
}

fn token(service: &Service, audience: &str) -> String {
    let mut claims = Cluster::claims("support", "desk", service.now());
    claims["aud"] = json!([audience]);
    format!("Bearer {}", service.cluster.sign(&claims))
}

async fn ask(service: &Service, token: &str, method: Method, path: &str) -> Answer {
    service.internal_json(method, &format!("/admin/v1{path}"), token, &json!({})).await
}

#[tokio::test]
async fn a_service_account_may_what_its_roles_say() {
    let server = ApiServer::default();
    let service = service(&server).await;
    let id = service.create_user("ann").await;
    let desk = token(&service, "cloakroom-admin");
    ask(&service, &desk, Method::GET, "/users").await.expect(200);
    ask(&service, &desk, Method::GET, &format!("/users/{id}")).await.expect(200);
    for (method, path) in [
        (Method::POST, "/users".to_owned()),
        (Method::DELETE, format!("/users/{id}")),
        (Method::GET, format!("/users/{id}/sessions")),
        (Method::PUT, format!("/users/{id}/password")),
        (Method::GET, "/clients".to_owned()),
        (Method::GET, "/audit".to_owned()),
    ] {
        ask(&service, &desk, method, &path).await.expect(403);
    }
    let asked = server.asked.lock().unwrap()[1].clone();
    assert_eq!(asked["user"], "system:serviceaccount:support:desk");
    assert!(asked["groups"].as_array().unwrap().contains(&json!("system:serviceaccounts:support")));
    assert_eq!(asked["resourceAttributes"]["name"], json!(id));
    // The token of another audience is nobody here, whatever roles say.
    ask(&service, &token(&service, "cloakroom"), Method::GET, "/users").await.expect(401);
}

#[tokio::test]
async fn an_answer_is_remembered_for_seconds_and_no_answer_is_an_outage() {
    let server = ApiServer::default();
    let service = service(&server).await;
    let desk = token(&service, "cloakroom-admin");
    for _ in 0..5 {
        ask(&service, &desk, Method::GET, "/users").await.expect(200);
    }
    assert_eq!(server.questions(), 1);
    *server.broken.lock().unwrap() = true;
    ask(&service, &desk, Method::GET, "/users").await.expect(200);
    service.clock.pass(11);
    let outage = ask(&service, &desk, Method::GET, "/users").await;
    assert_eq!((outage.status.as_u16(), outage.header("retry-after")), (503, "1"), "not a refusal");
}

#[tokio::test]
async fn another_clusters_account_of_the_same_name_is_not_asked_about() {
    let server = ApiServer::default();
    let url = server.start().await;
    let other = Cluster::new(5).await;
    let adjust = |config: &mut Value| {
        let issuer = json!({"issuer": "https://other.test", "jwks": {"inline": other.jwks()}});
        config["workload_issuers"].as_array_mut().unwrap().push(issuer);
        config["admin"]["kubernetes_rbac"] = json!({"issuer": "https://kubernetes.test", "url": url});
    };
    let service = Service::start_as(adjust, None).await;
    let mut claims = Cluster::claims("support", "desk", service.now());
    claims["aud"] = json!(["cloakroom-admin"]);
    claims["iss"] = json!("https://other.test");
    let desk = format!("Bearer {}", other.sign(&claims));
    ask(&service, &desk, Method::GET, "/users").await.expect(403);
    assert_eq!(server.questions(), 0);
}

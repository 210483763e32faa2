//! The API server and the auth service of the tests. Neither knows what it keeps.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use cloakroom_protocol::token::OpaqueToken;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use rand::SeedableRng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::{ApiKey, Credential, Error, reconcile};
use crate::args::Args;
use crate::certificates;
use crate::context::{Context, Memory};
use crate::registration::AuthService;
use crate::telemetry::Metrics;

const HOME: &str = "/api/v1/namespaces/cloakroom-system";

type Answer = Response<Full<bytes::Bytes>>;
/// Method, path and body.
type Call = (String, String, Value);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    events: Vec<Value>,
    version: u64,
    /// What is answered with an error, by method and a part of the path.
    failing: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct Told(Arc<Mutex<(u16, Vec<Call>)>>);

/// A resource `reports` of the kind, and what there is around it.
pub(super) struct Bench<K> {
    api: ApiServer,
    told: Told,
    context: Arc<Context>,
    namespace: Mutex<String>,
    _token: tempfile::NamedTempFile,
    kind: PhantomData<K>,
}

impl Bench<ApiKey> {
    /// What the Secret holds.
    pub(super) fn key(&self) -> OpaqueToken {
        OpaqueToken::parse(self.entry("api_key").unwrap().as_bytes()).unwrap()
    }
}

impl<K: Credential> Bench<K> {
    pub(super) async fn start(spec: Value) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = ApiServer::default();
        let client = kube::Client::new(api.clone(), "default");
        let args = Args::parse_from(
            "operator --namespace cloakroom-system --issuer https://auth.example.com --internal-service auth \
             --internal-tls-secret auth-tls --sidecar-image sidecar"
                .split_whitespace(),
        );
        let told = Told::default();
        told.0.lock().unwrap().0 = 204;
        certificates::ensure(&client, &args, Timestamp::now()).await.unwrap();
        let port = serve(&api.get(&format!("{HOME}/secrets/auth-tls")), told.clone()).await;
        let service =
            json!({"metadata": {"name": "auth"}, "spec": {"clusterIPs": ["127.0.0.1"], "ports": [{"port": port}]}});
        api.0.lock().unwrap().objects.insert(format!("{HOME}/services/auth"), service);
        let token = tempfile::NamedTempFile::new().unwrap();
        let reporter = Reporter { controller: "test".into(), instance: None };
        let context = Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            auth_service: AuthService { token_file: token.path().to_owned() },
            metrics: Metrics::default(),
            clock: Timestamp::now,
            random: Mutex::new(rand::rngs::StdRng::seed_from_u64(1)),
            memory: Mutex::new(Memory::default()),
            args,
        });
        let namespace = Mutex::new("shop".into());
        let bench = Self { api, told, context, namespace, _token: token, kind: PhantomData };
        let metadata =
            json!({"name": "reports", "namespace": "shop", "uid": "1", "generation": 1, "resourceVersion": "1"});
        let resource =
            json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "spec": spec});
        bench.api.0.lock().unwrap().objects.insert(bench.path(), resource);
        bench
    }

    pub(super) async fn round(&self) -> Result<Action, Error> {
        let resource: K = serde_json::from_value(self.resource()).unwrap();
        reconcile(Arc::new(resource), self.context.clone()).await
    }

    fn path(&self) -> String {
        let (kinds, namespace) = (K::plural(&()), self.namespace.lock().unwrap());
        format!("/apis/cloakroom.dev/v1alpha1/namespaces/{namespace}/{kinds}/reports")
    }

    fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace.lock().unwrap(), Self::secret_name())
    }

    pub(super) fn secret_name() -> String {
        format!("cloakroom.reports.{}", K::SUFFIX)
    }

    pub(super) fn resource(&self) -> Value {
        self.api.get(&self.path())
    }

    /// Status and reason of a condition.
    pub(super) fn says(&self, kind: &str) -> (String, String) {
        let resource = self.resource();
        let conditions = resource["status"]["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        assert!(
            condition["message"].as_str().unwrap().len() > 5 && condition["observedGeneration"] == 1,
            "{condition}"
        );
        (condition["status"].as_str().unwrap().into(), condition["reason"].as_str().unwrap().into())
    }

    pub(super) fn secret(&self) -> Option<Value> {
        Some(self.api.get(&self.secret_path())).filter(|secret| !secret.is_null())
    }

    /// What the Secret says there.
    pub(super) fn entry(&self, name: &str) -> Option<String> {
        let secret = self.secret().unwrap();
        let text = STANDARD.decode(secret["data"][name].as_str()?).unwrap();
        Some(String::from_utf8(text).unwrap())
    }

    pub(super) fn put_secret(&self, secret: Value) {
        self.api.0.lock().unwrap().objects.insert(self.secret_path(), secret);
    }

    pub(super) fn delete_secret(&self) {
        self.api.0.lock().unwrap().objects.remove(&self.secret_path());
    }

    pub(super) fn edit(&self, patch: Value) {
        let mut state = self.api.0.lock().unwrap();
        merge(state.objects.get_mut(&self.path()).unwrap(), patch);
    }

    pub(super) fn move_to(&self, namespace: &str) {
        let mut resource = self.resource();
        resource["metadata"]["namespace"] = json!(namespace);
        namespace.clone_into(&mut self.namespace.lock().unwrap());
        self.api.0.lock().unwrap().objects.insert(self.path(), resource);
    }

    pub(super) fn objects(&self) -> BTreeMap<String, Value> {
        self.api.0.lock().unwrap().objects.clone()
    }

    pub(super) fn events(&self) -> Vec<Value> {
        self.api.0.lock().unwrap().events.clone()
    }

    pub(super) fn fail(&self, method: &'static str, path: &'static str) {
        self.api.0.lock().unwrap().failing = Some((method, path));
    }

    pub(super) fn mend(&self) {
        self.api.0.lock().unwrap().failing = None;
    }

    /// What the auth service answers from now on.
    pub(super) fn answer(&self, status: u16) {
        self.told.0.lock().unwrap().0 = status;
    }

    /// What the auth service was told and took.
    pub(super) fn told(&self) -> Vec<Call> {
        self.told.0.lock().unwrap().1.clone()
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

impl ApiServer {
    fn get(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects.get(path).cloned().unwrap_or_default()
    }

    fn answer(&self, method: &Method, path: &str, kind: &str, body: Value) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        if state.failing.is_some_and(|(failing, part)| method == failing && path.contains(part)) {
            return failure(409, "Conflict");
        }
        if path.contains("/events") {
            state.events.push(body.clone());
            return (201, body);
        }
        state.version += 1;
        let version = json!((state.version + 1).to_string());
        let (path, is_status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        let collection = method == Method::POST;
        let path =
            if collection { format!("{path}/{}", body["metadata"]["name"].as_str().unwrap()) } else { path.into() };
        let known = state.objects.get(&path).cloned();
        let mut object = match (method.as_str(), known) {
            ("GET", Some(known)) => return (200, known),
            ("POST", Some(_)) => return failure(409, "AlreadyExists"),
            ("POST", None) => body,
            ("PATCH", Some(mut known)) if is_status => {
                known["status"] = body["status"].clone();
                known
            }
            ("PATCH", _) if kind.contains("apply") => body,
            ("PATCH", Some(mut known)) => {
                let seen = &body["metadata"]["resourceVersion"];
                if !seen.is_null() && *seen != known["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                merge(&mut known, body);
                known
            }
            _ => return failure(404, "NotFound"),
        };
        object["metadata"]["resourceVersion"] = version;
        let left = object["metadata"]["finalizers"].as_array().is_some_and(Vec::is_empty);
        if left && object["metadata"]["deletionTimestamp"].is_string() {
            state.objects.remove(&path);
        } else {
            state.objects.insert(path, object.clone());
        }
        (if collection { 201 } else { 200 }, object)
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}

fn response(status: u16, body: &Value) -> Answer {
    let body = if status == 204 { Full::default() } else { Full::from(body.to_string()) };
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

impl tower_service::Service<Request<Body>> for ApiServer {
    type Response = Answer;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let kind = parts.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
            let (status, answer) = api.answer(&parts.method, parts.uri.path(), kind, body);
            Ok(response(status, &answer))
        })
    }
}

/// The auth service's internal port, with the certificate that the operator has issued.
async fn serve(secret: &Value, told: Told) -> u16 {
    let entry = |name: &str| STANDARD.decode(secret["data"][name].as_str().unwrap()).unwrap();
    let certificates = CertificateDer::pem_slice_iter(&entry("tls.crt")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&entry("tls.key")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = service_fn(|request| take(request, told.clone()));
            // A client that goes away in the middle of an answer is its own affair.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        }
    });
    port
}

async fn take(request: Request<Incoming>, told: Told) -> Result<Answer, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut told = told.0.lock().unwrap();
    let status = told.0;
    if status == 204 {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        told.1.push((parts.method.to_string(), parts.uri.path().to_owned(), body));
    }
    let problem = json!({"title": "no", "status": status, "detail": "a sentence that says why"});
    Ok(response(status, &problem))
}

//! Asks every protected port who answers there. Only the sidecar can prove that it is the sidecar: by a MAC under the policy's key, over
//! TLS too, where the certificate is for clients and proves nothing here.

mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_protocol::proof::{PATH, Proof};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::{CryptoRng, RngExt};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 4096;
const AT_ONCE: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// One port of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub pod: String,
    pub pod_uid: String,
    pub ip: IpAddr,
    pub port: u16,
    /// Asked over TLS.
    pub tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The sidecar, with this config.
    Proven { revision: String },
    /// Something else answers there: what it said.
    Bypassed(String),
    /// Nothing that could be judged: starting, overloaded, gone.
    Silent(String),
}

/// Asks all of them, some at a time; answers come in the order of the questions.
pub(crate) async fn ask(questions: &[Question], key: &[u8], random: &mut impl CryptoRng) -> Vec<Answer> {
    let asked: Vec<_> = questions.iter().map(|question| (question.clone(), nonce(random))).collect();
    stream::iter(asked.into_iter().map(|(question, nonce)| async move { ask_one(&question, &nonce, key).await }))
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn ask_one(question: &Question, nonce: &str, key: &[u8]) -> Answer {
    match tokio::time::timeout(TIMEOUT, exchange(question, nonce)).await {
        Ok(Ok((status, body))) => judge(question, nonce, key, status, &body),
        Ok(Err(error)) if tls::is_something_else(&error) => Answer::Bypassed(format!("no TLS: {error}")),
        Ok(Err(error)) => Answer::Silent(error.to_string()),
        Err(_) => Answer::Silent(format!("nothing within {} s", TIMEOUT.as_secs())),
    }
}

async fn exchange(question: &Question, nonce: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let address = SocketAddr::new(question.ip, question.port);
    let stream = TcpStream::connect(address).await?;
    if question.tls {
        let name = ServerName::from(question.ip);
        let stream = tls::connector()?.connect(name, stream).await?;
        return over(stream, address, nonce).await;
    }
    over(stream, address, nonce).await
}

async fn over<S>(stream: S, address: SocketAddr, nonce: &str) -> anyhow::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("{PATH}?nonce={nonce}"))
        .header("host", address.to_string())
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        // Too long an answer is an answer all the same.
        Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    }
    .await;
    connection.abort();
    answer
}

/// 503 from the sidecar (no key yet) cannot be told from 503 of an app, so it is neither proof nor bypass.
fn judge(question: &Question, nonce: &str, key: &[u8], status: StatusCode, body: &[u8]) -> Answer {
    match serde_json::from_slice::<Proof>(body) {
        Ok(proof) if proof.verify(key, nonce, &question.pod_uid, question.port) => {
            Answer::Proven { revision: proof.revision }
        }
        _ if status == StatusCode::SERVICE_UNAVAILABLE => Answer::Silent(status.to_string()),
        Ok(_) => Answer::Bypassed("a proof that does not verify".into()),
        Err(_) => Answer::Bypassed(format!("{status} instead of a proof")),
    }
}

fn nonce(random: &mut impl CryptoRng) -> String {
    (0..22).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rustls_pki_types::PrivateKeyDer;

    use super::*;

    fn question() -> Question {
        Question { pod: "web-1".into(), pod_uid: "uid".into(), ip: [127, 0, 0, 1].into(), port: 8080, tls: false }
    }

    fn judged(status: u16, body: &[u8]) -> Answer {
        judge(&question(), "nonce", b"key", StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn only_a_proof_for_this_nonce_pod_and_port_proves_anything() {
        let proof = |key: &[u8], nonce: &str, uid: &str, port: u16| {
            serde_json::to_vec(&Proof::new(key, nonce, uid, port, "rev")).unwrap()
        };
        assert_eq!(judged(200, &proof(b"key", "nonce", "uid", 8080)), Answer::Proven { revision: "rev".into() });
        for wrong in [
            proof(b"other", "nonce", "uid", 8080),
            proof(b"key", "replayed", "uid", 8080),
            proof(b"key", "nonce", "neighbour", 8080),
            proof(b"key", "nonce", "uid", 9090),
        ] {
            assert!(matches!(judged(200, &wrong), Answer::Bypassed(_)));
        }
    }

    #[test]
    fn whatever_else_answers_is_a_bypass_but_an_outage_is_not() {
        assert!(matches!(judged(200, b"<html>"), Answer::Bypassed(_)));
        assert!(matches!(judged(404, b""), Answer::Bypassed(_)));
        assert!(matches!(judged(401, b"{}"), Answer::Bypassed(_)));
        assert!(matches!(judged(503, b"{}"), Answer::Silent(_)));
    }

    #[tokio::test]
    async fn a_closed_port_is_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let answers = ask(&[Question { port, ..question() }], b"key", &mut StdRng::seed_from_u64(1)).await;
        assert!(matches!(answers[..], [Answer::Silent(_)]), "{answers:?}");
    }

    #[tokio::test]
    async fn over_tls_any_certificate_will_do_and_something_else_is_still_a_bypass() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let certified = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                count += 1;
                let mut read = [0; 1024];
                if count == 2 {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                    continue;
                }
                let mut stream = acceptor.accept(stream).await.unwrap();
                let length = stream.read(&mut read).await.unwrap();
                let request = String::from_utf8_lossy(&read[..length]).into_owned();
                let nonce = request.split_once("nonce=").unwrap().1[..22].to_owned();
                let proof = serde_json::to_string(&Proof::new(b"key", &nonce, "uid", port, "rev")).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{proof}", proof.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let questions = [Question { port, tls: true, ..question() }];
        let mut random = StdRng::seed_from_u64(1);
        let proven = ask(&questions, b"key", &mut random).await;
        assert_eq!(proven, [Answer::Proven { revision: "rev".into() }]);
        let bypassed = ask(&questions, b"key", &mut random).await;
        assert!(matches!(&bypassed[..], [Answer::Bypassed(what)] if what.contains("no TLS")), "{bypassed:?}");
    }

    #[test]
    fn nonces_are_what_the_sidecar_takes() {
        let nonce = nonce(&mut StdRng::seed_from_u64(1));
        assert!(nonce.len() == 22 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}

//! The internal CA, and the auth service's internal certificate that it issues. Both are Secrets of our own namespace; the auth service
//! reads its certificate again when kubelet has refreshed the file, so that rotation restarts nothing.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::args::{Args, Certificates};
use crate::names;

const DAY: i64 = 24 * 60 * 60;
const CA_DAYS: i64 = 3650;
const CERTIFICATE_DAYS: i64 = 30;
/// Two thirds of its life: the rest is time for an operator that was away.
const RENEW_AFTER_DAYS: i64 = 20;
/// Clocks of nodes differ.
const BACKDATE: i64 = 60 * 60;

const RENEW_AFTER: &str = "cloakroom.dev/renew-after";
const HOST: &str = "cloakroom.dev/host";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("making a certificate: {0}")]
    Generation(#[from] rcgen::Error),
    #[error("Secret {0} has no readable {1}")]
    Incomplete(String, &'static str),
    #[error("no such moment")]
    Time(#[from] time::error::ComponentRange),
}

/// The CA that sidecars and the operator trust, in PEM; and with `Certificates::Operator`, a certificate that is good for a while.
pub(crate) async fn ensure(client: &Client, args: &Args, now: Timestamp) -> Result<String, CertificateError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &args.namespace);
    if args.internal_certificates == Certificates::External {
        let incomplete = || CertificateError::Incomplete(args.internal_tls_secret.clone(), "ca.crt");
        let secret = secrets.get_opt(&args.internal_tls_secret).await?.ok_or_else(incomplete)?;
        return text(&secret, "ca.crt").ok_or_else(incomplete);
    }
    let (certificate, key) = ensure_ca(&secrets, &args.internal_ca_secret, now).await?;
    let current = secrets.get_opt(&args.internal_tls_secret).await?;
    if !current.is_some_and(|secret| is_good(&secret, &certificate, &args.internal_host(), now)) {
        let issuer = Issuer::new(ca_params(now)?, key);
        write(&secrets, &issued(&args.internal_tls_secret, &args.internal_host(), &certificate, &issuer, now)?).await?;
        tracing::info!(secret = args.internal_tls_secret, "issued the auth service's internal certificate");
    }
    Ok(certificate)
}

async fn ensure_ca(secrets: &Api<Secret>, name: &str, now: Timestamp) -> Result<(String, KeyPair), CertificateError> {
    if let Some(secret) = secrets.get_opt(name).await? {
        let certificate =
            text(&secret, "tls.crt").ok_or_else(|| CertificateError::Incomplete(name.into(), "tls.crt"))?;
        let key = text(&secret, "tls.key").ok_or_else(|| CertificateError::Incomplete(name.into(), "tls.key"))?;
        return Ok((certificate, KeyPair::from_pem(&key)?));
    }
    let key = KeyPair::generate()?;
    let certificate = ca_params(now)?.self_signed(&key)?.pem();
    let data = [("tls.crt", certificate.clone()), ("tls.key", key.serialize_pem())];
    write(secrets, &tls_secret(name, BTreeMap::new(), &data)).await?;
    tracing::info!(secret = name, "made an internal CA");
    Ok((certificate, key))
}

fn ca_params(now: Timestamp) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Cloakroom internal CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = moment(now, -BACKDATE)?;
    params.not_after = moment(now, CA_DAYS * DAY)?;
    Ok(params)
}

fn issued(
    name: &str,
    host: &str,
    ca: &str,
    issuer: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<Secret, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = common_name("Cloakroom auth service");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = moment(now, -BACKDATE)?;
    params.not_after = moment(now, CERTIFICATE_DAYS * DAY)?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    let annotations = [
        (RENEW_AFTER.to_owned(), (now.as_second() + RENEW_AFTER_DAYS * DAY).to_string()),
        (HOST.to_owned(), host.to_owned()),
    ];
    let data = [("tls.crt", certificate), ("tls.key", key.serialize_pem()), ("ca.crt", ca.to_owned())];
    Ok(tls_secret(name, annotations.into(), &data))
}

/// Of this CA, for this host, and not due.
fn is_good(secret: &Secret, ca: &str, host: &str, now: Timestamp) -> bool {
    let annotation = |key: &str| secret.metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let due: Option<i64> = annotation(RENEW_AFTER).and_then(|seconds| seconds.parse().ok());
    let complete = text(secret, "tls.crt").is_some() && text(secret, "tls.key").is_some();
    complete
        && text(secret, "ca.crt").as_deref() == Some(ca)
        && annotation(HOST) == Some(host)
        && due.is_some_and(|due| now.as_second() < due)
}

fn tls_secret(name: &str, annotations: BTreeMap<String, String>, data: &[(&str, String)]) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into()),
            annotations: Some(annotations),
            ..Default::default()
        },
        // Not kubernetes.io/tls: such a Secret's type cannot change later, and nothing asks for it.
        type_: Some("Opaque".into()),
        data: Some(data.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes()))).collect()),
        ..Default::default()
    }
}

async fn write(secrets: &Api<Secret>, secret: &Secret) -> Result<(), kube::Error> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    secrets.patch(name, &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(secret)).await?;
    Ok(())
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn moment(now: Timestamp, offset: i64) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(now.as_second() + offset)
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn make(now: Timestamp) -> (String, Secret) {
        let key = KeyPair::generate().unwrap();
        let ca = ca_params(now).unwrap().self_signed(&key).unwrap().pem();
        // As after a restart: the issuer is made again from the key alone.
        let issuer = Issuer::new(ca_params(at(now.as_second() + 5 * DAY)).unwrap(), key);
        (ca.clone(), issued("tls", "auth.system.svc", &ca, &issuer, now).unwrap())
    }

    fn verify(ca: &str, secret: &Secret, host: &str, now: i64) -> bool {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let leaf = CertificateDer::from_pem_slice(text(secret, "tls.crt").unwrap().as_bytes()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.try_into().unwrap()));
        verifier.verify_server_cert(&leaf, &[], &ServerName::try_from(host.to_owned()).unwrap(), &[], now).is_ok()
    }

    #[test]
    fn clients_that_trust_the_ca_accept_the_certificate_for_its_host_and_time_only() {
        let start = 1_800_000_000;
        let (ca, secret) = make(at(start));
        assert!(verify(&ca, &secret, "auth.system.svc", start));
        assert!(!verify(&ca, &secret, "other.system.svc", start));
        assert!(!verify(&ca, &secret, "auth.system.svc", start + 31 * DAY));
        let (other_ca, _) = make(at(start));
        assert!(!verify(&other_ca, &secret, "auth.system.svc", start));
    }

    #[test]
    fn a_certificate_is_renewed_when_due_or_when_it_is_another_ones() {
        let (ca, secret) = make(at(0));
        assert!(is_good(&secret, &ca, "auth.system.svc", at(RENEW_AFTER_DAYS * DAY - 1)));
        assert!(!is_good(&secret, &ca, "auth.system.svc", at(RENEW_AFTER_DAYS * DAY)));
        assert!(!is_good(&secret, &ca, "new.system.svc", at(0)));
        assert!(!is_good(&secret, "another CA", "auth.system.svc", at(0)));
        assert!(!is_good(&Secret::default(), &ca, "auth.system.svc", at(0)));
    }
}

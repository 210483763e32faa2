//! The policies that operators have registered: one document, held in memory by every replica.
//!
//! An audience or origin belongs to the namespace that registered it first, so that no namespace can have tokens minted for another's
//! apps, nor people sent back to another's pages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::registration::PolicyRegistration;
use url::Url;

use crate::record::profile::RESERVED_CLAIMS;
use crate::record::session::Terms;
use crate::store::{Entry, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// Told to other replicas on the event stream; not for sidecars.
pub const CHANGED: &str = "policies";

/// Tries before giving up on a registry that others change all the time.
const TRIES: usize = 20;

#[derive(Default)]
pub struct Registry {
    policies: ArcSwap<HashMap<String, Arc<PolicyRegistration>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{0}")]
    Invalid(String),
    #[error("{what} {value:?} is registered by namespace {holder:?}")]
    Held { what: &'static str, value: String, holder: String },
    #[error("too many registrations at once")]
    Contention,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose policies an audience is of. It is one namespace's at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Namespace(String),
    Nobody,
}

pub fn terms(policy: &PolicyRegistration) -> Terms {
    Terms { idle: policy.session.idle_seconds, absolute: policy.session.absolute_seconds }
}

impl Registry {
    pub fn get(&self, policy: &str) -> Option<Arc<PolicyRegistration>> {
        self.policies.load().get(policy).cloned()
    }

    pub fn all(&self) -> Vec<Arc<PolicyRegistration>> {
        let mut all: Vec<_> = self.policies.load().values().cloned().collect();
        all.sort_by(|one, other| one.policy.cmp(&other.policy));
        all
    }

    /// Audiences of the policies of whichever app has this address: several may share an origin, by path.
    pub fn audiences_at(&self, address: &str) -> Vec<String> {
        let Ok(url) = Url::parse(address) else { return Vec::new() };
        // RFC 8707 §2: no fragment. Whoever has a user name in it means some other host than it looks like.
        if !matches!(url.scheme(), "https" | "http") || url.fragment().is_some() || !url.username().is_empty() {
            return Vec::new();
        }
        let origin = url.origin().ascii_serialization();
        let there = |policy: &&Arc<PolicyRegistration>| policy.origins.contains(&origin);
        self.all().iter().filter(there).map(|policy| policy.audience.clone()).collect()
    }

    /// Whoever registered it; or whose policy's name it is, since nobody else can register that.
    pub fn holder(&self, audience: &str) -> Holder {
        let policies = self.policies.load();
        let registered = policies.values().find(|policy| policy.audience == audience);
        let named = || audience.parse::<PolicyRef>().ok();
        let namespace = registered.map(|policy| policy.policy.namespace().to_owned());
        let namespace = namespace.or_else(|| named().map(|policy| policy.namespace().to_owned()));
        namespace.map_or(Holder::Nobody, Holder::Namespace)
    }

    /// The other namespace whose app has this address, if one has: a browser that is sent there takes an answer to a page that did not ask.
    pub fn stranger_at(&self, address: &str, namespace: &str) -> Option<String> {
        // Of a scheme of an application's own there is no origin: its serialisation is "null", which nobody can register.
        let origin = Url::parse(address).ok()?.origin().ascii_serialization();
        let policies = self.policies.load();
        let strangers = policies.values().filter(|policy| policy.policy.namespace() != namespace);
        let mut there = strangers.filter(|policy| policy.origins.contains(&origin));
        there.next().map(|policy| policy.policy.namespace().to_owned())
    }

    pub async fn reload(&self, store: &dyn Store) -> Result<(), StoreError> {
        let (policies, _) = read(store).await?;
        self.hold(policies);
        Ok(())
    }

    /// Registers a policy as it should be. `Ok(false)`: it was just so already.
    pub async fn put(&self, store: &dyn Store, wanted: PolicyRegistration) -> Result<bool, RegistryError> {
        let wanted = validate(wanted)?;
        for _ in 0..TRIES {
            let (mut policies, version) = read(store).await?;
            let name = wanted.policy.to_string();
            if policies.get(&name).is_some_and(|held| **held == wanted) {
                self.hold(policies);
                return Ok(false);
            }
            refuse_takeover(&policies, &wanted)?;
            if write(store, version, (&name, Some(&wanted))).await? {
                policies.insert(name, Arc::new(wanted));
                self.hold(policies);
                store.publish(&changed()).await?;
                return Ok(true);
            }
        }
        Err(RegistryError::Contention)
    }

    /// `Ok(false)`: there was none.
    pub async fn delete(&self, store: &dyn Store, policy: &PolicyRef) -> Result<bool, RegistryError> {
        let name = policy.to_string();
        for _ in 0..TRIES {
            let (mut policies, version) = read(store).await?;
            if policies.remove(&name).is_none() {
                self.hold(policies);
                return Ok(false);
            }
            if write(store, version, (&name, None)).await? {
                self.hold(policies);
                store.publish(&changed()).await?;
                return Ok(true);
            }
        }
        Err(RegistryError::Contention)
    }

    fn hold(&self, policies: BTreeMap<String, Arc<PolicyRegistration>>) {
        self.policies.store(Arc::new(policies.into_iter().collect()));
    }
}

fn changed() -> Entry {
    Entry { name: CHANGED.to_owned(), data: "{}".to_owned() }
}

fn key() -> Key {
    Key::new("registry", "policies")
}

type Policies = BTreeMap<String, Arc<PolicyRegistration>>;

async fn read(store: &dyn Store) -> Result<(Policies, Option<String>), StoreError> {
    let mut fields = store.read_all(&key()).await?.unwrap_or_default();
    let version = fields.remove("version");
    let policies = fields
        .iter()
        .map(|(name, json)| Ok((name.clone(), Arc::new(from_json::<PolicyRegistration>("policy", json)?))))
        .collect::<Result<_, StoreError>>()?;
    Ok((policies, version))
}

async fn write(
    store: &dyn Store,
    version: Option<String>,
    (name, policy): (&str, Option<&PolicyRegistration>),
) -> Result<bool, StoreError> {
    let next = version.as_deref().map_or(1, |version| version.parse::<u64>().unwrap_or(0) + 1);
    let mut update = Update { require: vec![("version".to_owned(), version)], ..Update::default() };
    update.set.push(("version".to_owned(), next.to_string()));
    match policy {
        Some(policy) => update.set.push((name.to_owned(), to_json(policy))),
        None => update.unset.push(name.to_owned()),
    }
    Ok(store.upsert(&key(), update).await? == Updated::Yes)
}

fn refuse_takeover(policies: &Policies, wanted: &PolicyRegistration) -> Result<(), RegistryError> {
    let others = policies.values().filter(|other| other.policy.namespace() != wanted.policy.namespace());
    for other in others {
        let holder = other.policy.namespace().to_owned();
        if other.audience == wanted.audience {
            return Err(RegistryError::Held { what: "audience", value: wanted.audience.clone(), holder });
        }
        if let Some(origin) = wanted.origins.iter().find(|origin| other.origins.contains(origin)) {
            return Err(RegistryError::Held { what: "origin", value: origin.clone(), holder });
        }
    }
    Ok(())
}

/// Origins are kept in the one form in which browsers send them.
fn validate(mut wanted: PolicyRegistration) -> Result<PolicyRegistration, RegistryError> {
    let refuse = |sentence: String| Err(RegistryError::Invalid(sentence));
    let audience = &wanted.audience;
    if audience.is_empty() || audience.len() > 255 || !audience.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse("audience: 1 to 255 visible ASCII characters".to_owned());
    }
    // The default audience of a policy is its name: nobody else's namespace may be claimed that way, registered or not.
    if let Some((namespace, _)) = audience.split_once('/')
        && audience.parse::<PolicyRef>().is_ok()
        && namespace != wanted.policy.namespace()
    {
        return refuse(format!("audience {audience:?} is the name of a policy in namespace {namespace:?}"));
    }
    for origin in &mut wanted.origins {
        let Some(canonical) = canonical_origin(origin) else {
            return refuse(format!(
                "origin {origin:?}: https://host[:port], or http for localhost, and nothing after it"
            ));
        };
        *origin = canonical;
    }
    let session = &wanted.session;
    if session.idle_seconds == 0 || session.absolute_seconds == 0 || session.absolute_seconds > 366 * 86_400 {
        return refuse("session: idle and absolute are between one second and a year".to_owned());
    }
    if !(5..=3600).contains(&wanted.jwt.lifetime_seconds) {
        return refuse("jwt.lifetime: between 5 seconds and an hour".to_owned());
    }
    if let Some(claim) = wanted.jwt.claims.iter().find(|name| RESERVED_CLAIMS.contains(&name.as_str())) {
        return refuse(format!("jwt.claims: {claim:?} is set by the auth service itself"));
    }
    if wanted.jwt.claims.len() > 64 || wanted.writable.len() > 64 || wanted.origins.len() > 64 {
        return refuse("at most 64 claims, writable keys and origins".to_owned());
    }
    if wanted.writable.iter().any(|name| name.is_empty() || name.len() > 64) {
        return refuse("writable: keys of 1 to 64 bytes".to_owned());
    }
    Ok(wanted)
}

/// `https://host[:port]` in lower case, without a default port; `http` for this machine only.
pub fn canonical_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    // RFC 6761 section 6.3: names under localhost are this machine too, to browsers as well.
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost");
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-[]:".contains(&b));
    let scheme_fits = url.scheme() == "https" || (url.scheme() == "http" && local);
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    // The parser forgives much; what it would have to mend is refused.
    let origin = url.origin().ascii_serialization();
    let as_written = text.trim_end_matches('/').to_ascii_lowercase();
    let default_port = if url.scheme() == "https" { ":443" } else { ":80" };
    let plain = as_written == origin || as_written.strip_suffix(default_port) == Some(&origin);
    (named && scheme_fits && bare && anonymous && plain).then_some(origin)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cloakroom_protocol::registration::{JwtTerms, SessionTerms};

    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    fn policy(name: &str, audience: &str, origin: &str) -> PolicyRegistration {
        PolicyRegistration {
            policy: name.parse().unwrap(),
            revision: "1".into(),
            audience: audience.into(),
            origins: vec![origin.into()],
            session: SessionTerms { idle_seconds: 60, absolute_seconds: 600 },
            jwt: JwtTerms { lifetime_seconds: 60, claims: vec!["email".into()] },
            writable: ["cart".to_owned()].into(),
            token_issuers: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn an_audience_or_origin_of_another_namespace_is_refused() {
        let (store, registry) = (MemoryStore::new(Clock::system()), Registry::default());
        assert!(registry.put(&store, policy("shop/web", "shop-api", "https://shop.example.com")).await.unwrap());
        let taken = registry.put(&store, policy("evil/web", "shop-api", "https://evil.example.com")).await;
        assert!(matches!(taken, Err(RegistryError::Held { what: "audience", .. })));
        let taken = registry.put(&store, policy("evil/web", "evil", "https://SHOP.example.com:443/")).await;
        assert!(
            matches!(taken, Err(RegistryError::Held { what: "origin", .. })),
            "another spelling is the same origin"
        );
        assert!(
            registry.put(&store, policy("shop/api", "shop-api", "https://shop.example.com")).await.unwrap(),
            "same namespace"
        );
        assert!(registry.delete(&store, &"shop/web".parse().unwrap()).await.unwrap());
        let taken = registry.put(&store, policy("evil/web", "shop-api", "https://evil.example.com")).await;
        assert!(taken.is_err(), "the namespace's other policy still holds it");
    }

    #[tokio::test]
    async fn the_name_of_a_policy_elsewhere_is_no_audience_even_before_it_is_registered() {
        let (store, registry) = (MemoryStore::new(Clock::system()), Registry::default());
        let early = registry.put(&store, policy("evil/web", "shop/web", "https://evil.example.com")).await;
        assert!(matches!(early, Err(RegistryError::Invalid(_))));
    }

    #[tokio::test]
    async fn registering_again_is_idempotent_and_other_replicas_learn_of_it() {
        let store = MemoryStore::new(Clock::system());
        let (one, other) = (Registry::default(), Registry::default());
        assert!(one.put(&store, policy("shop/web", "shop/web", "https://shop.example.com")).await.unwrap());
        assert!(!one.put(&store, policy("shop/web", "shop/web", "https://shop.example.com/")).await.unwrap());
        other.reload(&store).await.unwrap();
        assert_eq!(other.get("shop/web").unwrap().origins, ["https://shop.example.com"]);
    }

    #[tokio::test]
    async fn an_address_of_an_app_stands_for_its_audience() {
        let (store, registry) = (MemoryStore::new(Clock::system()), Registry::default());
        for (name, origin) in [
            ("shop/web", "https://shop.example.com"),
            ("shop/api", "https://shop.example.com"),
            ("wiki/web", "https://wiki.example.com:8443"),
        ] {
            registry.put(&store, policy(name, name, origin)).await.unwrap();
        }
        for address in ["https://shop.example.com", "https://shop.example.com/", "https://SHOP.example.com:443/mcp?x=1"]
        {
            assert_eq!(registry.audiences_at(address), ["shop/api", "shop/web"], "{address}");
        }
        assert_eq!(registry.audiences_at("https://wiki.example.com:8443/x"), ["wiki/web"]);
        for address in [
            "https://wiki.example.com",
            "http://shop.example.com",
            "https://shop.example.com#x",
            "https://shop.example.com@evil.example",
            "https://evil@shop.example.com",
            "https://shop.example.com.evil.example",
            "shop.example.com",
            "ftp://shop.example.com",
            "",
        ] {
            assert!(registry.audiences_at(address).is_empty(), "{address}");
        }
    }

    #[tokio::test]
    async fn an_app_s_addresses_are_its_namespace_s_however_they_are_written() {
        let (store, registry) = (MemoryStore::new(Clock::system()), Registry::default());
        registry.put(&store, policy("shop/web", "shop/web", "https://shop.example.com")).await.unwrap();
        for address in [
            "https://shop.example.com/cb",
            "https://SHOP.example.com:443/cb?x=1",
            "https://u@shop.example.com/cb",
            "https:\\\\shop.example.com/cb",
        ] {
            assert_eq!(registry.stranger_at(address, "evil").as_deref(), Some("shop"), "{address}");
            assert_eq!(registry.stranger_at(address, "shop"), None, "{address}");
        }
        for address in
            ["https://shop.example.com:8443/", "https://a.shop.example.com/", "com.example.app:/cb", "null", ""]
        {
            assert_eq!(registry.stranger_at(address, "evil"), None, "{address}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for (text, canonical) in [
            ("https://Shop.example.com", "https://shop.example.com"),
            ("https://shop.example.com:443", "https://shop.example.com"),
            ("https://shop.example.com:8443/", "https://shop.example.com:8443"),
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://wiki.localhost", "http://wiki.localhost"),
        ] {
            assert_eq!(canonical_origin(text).as_deref(), Some(canonical), "{text}");
        }
        for bad in [
            "http://shop.example.com",
            "https://shop.example.com/path",
            "https://u@shop.example.com",
            "https://shop.example.com?x",
            "https://shop.example.com#x",
            "shop.example.com",
            "javascript:x",
            "https://",
            "https:shop.example.com",
            "https:\\\\shop.example.com",
            "https://*.example.com",
            "http://localhost.evil.example",
            "http://evillocalhost",
            " https://shop.example.com",
            "https://shop.example.com\t",
            "https://shop.ex\nample.com",
        ] {
            assert_eq!(canonical_origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn claims_that_the_service_sets_cannot_be_asked_for() {
        for claim in RESERVED_CLAIMS {
            let mut wanted = policy("shop/web", "shop/web", "https://shop.example.com");
            wanted.jwt.claims = vec![claim.to_owned()];
            assert!(validate(wanted).is_err(), "{claim}");
        }
    }
}

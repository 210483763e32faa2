//! A request's way: cleanse → credential → decide → exchange → forward → hand back; any stage's error → rescue.

pub mod cleanse;
pub mod cors;
pub mod credential;
pub mod decide;
pub mod ending;
pub mod forward;
pub mod gate;
pub mod hand_back;
pub mod head;
pub mod rescue;
pub mod trace;

use std::net::IpAddr;
use std::sync::Arc;

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::sidecar_config::{Access, Mode, Outage};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::authority::{Authority, Exchanged, Unavailable, is_own_path};
use crate::config::Policy;
use crate::identity::Identity;
use crate::rules;
use cleanse::Cleansed;
use credential::CredentialError;
use decide::{First, Refusal, Terms};
use forward::{Admitted, Outside, Peer};
use head::{Head, RequestHead};
use rescue::{Failure, Manner};

/// What a request is judged by, beside itself.
#[derive(Clone, Copy)]
pub struct Bench<'b> {
    pub policy: &'b Policy,
    pub authority: &'b dyn Authority,
    pub peer: &'b Peer,
    /// Unix seconds.
    pub now: u64,
}

/// Where a request's way leads.
pub enum Judgement<'h> {
    Forward(Passed<'h>),
    /// Ask about the token, then judge again with the answer.
    Ask {
        token: Presented,
        outage: Outage,
    },
    Own(Cleansed<'h>, Option<Presented>),
    Denied(Box<Denied<'h>>),
}

pub struct Passed<'h> {
    pub admitted: Admitted<'h>,
    pub token: Option<Presented>,
    /// There is no one token because there are several.
    pub several_tokens: bool,
    pub manner: Manner,
    /// By what caches do not know for a credential.
    pub unshown: bool,
    /// Passes without a token only because it has nothing but a question; so it may have no body either.
    pub preflight: bool,
    /// The rule that it matched, as its policy counts them.
    pub route: usize,
    /// What Enforce would have refused, in Shadow mode.
    pub shadowed: Option<Failure>,
}

pub struct Denied<'h> {
    pub failure: Failure,
    pub manner: Manner,
    /// Absent where the head itself was refused.
    pub cleansed: Option<Cleansed<'h>>,
    pub route: Option<usize>,
    pub identity: Option<Arc<Identity>>,
}

pub type Answer = Result<Exchanged, Unavailable>;

/// No IO: called once, or twice where the cache has no answer.
pub fn judge<'h>(head: &Head<'h>, bench: Bench<'_>, answer: Option<Answer>) -> Judgement<'h> {
    let policy = bench.policy;
    let mut cleansed = match cleanse::cleanse(head, &policy.reserved, bench.peer.address, &policy.trusted_proxies) {
        Ok(cleansed) => cleansed,
        Err(malformed) => {
            let denied = Denied {
                failure: malformed.into(),
                manner: Manner::default(),
                cleansed: None,
                route: None,
                identity: None,
            };
            return Judgement::Denied(Box::new(denied));
        }
    };
    if is_own_path(cleansed.path.forwarded()) {
        let credential = credential::find(&cleansed, &policy.token_sources, policy.takes_foreign()).ok().flatten();
        return Judgement::Own(cleansed, credential.map(|credential| credential.token));
    }
    // RFC 9110 §7.6.2: it asks how far it gets, and here it ends.
    if cleansed.max_forwards == Some(0) {
        return Judgement::Own(cleansed, None);
    }
    let found = rules::find(&policy.rules, head.method, &cleansed.path);
    let terms = Terms::of(policy, found.map(|(_, rule)| rule));
    let route = found.map_or(policy.rules.len(), |(index, _)| index);
    let manner = manner(&cleansed, &terms);
    let mut token = None;
    let mut identity = None;
    let (mut preflight, mut several_tokens) = (false, false);
    let (mut by_header, mut unshown) = (false, false);
    let decision = (|| {
        let found = || credential::find(&cleansed, &policy.token_sources, policy.takes_foreign());
        let credential = match decide::first(&terms, &cleansed, found, &policy.origins)? {
            First::Unidentified => {
                // Nobody asks whose it is, but the app may wish to end what it stands for.
                if terms.access == Access::Anonymous {
                    let bystander = found();
                    several_tokens = matches!(bystander, Err(CredentialError::Ambiguous(_)));
                    token = bystander.ok().flatten().map(|credential| credential.token);
                }
                return Ok(Some(None));
            }
            First::Preflight => {
                preflight = true;
                return Ok(Some(None));
            }
            First::Ask(credential) => {
                (by_header, unshown) = (!credential.ambient, !credential.shown);
                token.insert(credential.token)
            }
        };
        let answer = match answer {
            Some(answer) => answer?,
            None => match bench.authority.cached(credential) {
                Some(identity) => Exchanged::Active(identity),
                None => return Ok(None),
            },
        };
        if let Exchanged::Active(active) = &answer {
            identity = Some(Arc::clone(active));
        }
        Ok::<_, Failure>(Some(decide::second(&terms, &answer, bench.now)?))
    })();
    let shadow = policy.mode == Mode::Shadow;
    let manner = Manner { by_header, ..manner };
    match (decision, token) {
        (Ok(None), Some(token)) => Judgement::Ask { token, outage: terms.outage },
        (Ok(identity), token) => {
            let identity = identity.flatten();
            if preflight {
                cleansed.only_the_question();
            } else if shadow && identity.is_none() {
                credential::leave_to_app(&mut cleansed, &policy.token_sources);
            }
            let admitted = Admitted { cleansed, identity };
            let shadowed = None;
            Judgement::Forward(Passed { admitted, token, several_tokens, manner, unshown, preflight, route, shadowed })
        }
        (Err(failure), token) if shadow => {
            let identity = identity.filter(|identity| !identity.life.is_over());
            if identity.is_none() {
                credential::leave_to_app(&mut cleansed, &policy.token_sources);
            }
            Judgement::Forward(Passed {
                admitted: Admitted { cleansed, identity },
                token,
                several_tokens: matches!(failure, Failure::Refused(Refusal::Credential(CredentialError::Ambiguous(_)))),
                manner,
                unshown,
                preflight,
                route,
                shadowed: Some(failure),
            })
        }
        (Err(failure), _) => {
            let manner = Manner { by_header: credential::is_in_header(&cleansed, &policy.token_sources), ..manner };
            let (cleansed, route) = (Some(cleansed), Some(route));
            Judgement::Denied(Box::new(Denied { failure, manner, cleansed, route, identity }))
        }
    }
}

fn manner(cleansed: &Cleansed<'_>, terms: &Terms<'_>) -> Manner {
    // An upgrade cannot be answered with a page.
    let page = cleansed.is_page_load() && !cleansed.head.upgrade;
    Manner { page, grpc: cleansed.is_grpc(), by_header: false, unauthenticated: Some(terms.unauthenticated) }
}

/// For the paths that outlive the bytes a head was read from.
pub fn to_owned_head(
    cleansed: &Cleansed<'_>,
    peer: &Peer,
    client: IpAddr,
    decision_id: String,
) -> Result<RequestHead, Failure> {
    let mut headers = HeaderMap::with_capacity(cleansed.head.fields.len());
    for field in cleansed.head.fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) else { continue };
        headers.append(name, value);
    }
    Ok(RequestHead {
        method: Method::from_bytes(cleansed.head.method.as_bytes()).map_err(|_| cleanse::Malformed::Method)?,
        path: cleansed.path.forwarded().to_owned(),
        query: cleansed.head.query.map(str::to_owned),
        headers,
        origin: Outside::of(cleansed, peer).origin(),
        client,
        decision_id,
    })
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Refusal::from(error).into()
    }
}

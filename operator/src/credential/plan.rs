//! Which secret is to be, and whether the Secret has to be written for it. Pure.

use std::collections::BTreeMap;

use cloakroom_protocol::credential::{CredentialRef, EarlierSecret};
use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;

use super::Credential;
use super::gather::Kept;
use crate::policy::Rejected;
use crate::policy::parse::value::seconds;

const MAX_OVERLAP: u64 = 2_592_000;
/// A hundred years: any date that a duration of the definition's can name.
const MAX_EVERY: u64 = 3_155_760_000;

#[derive(Debug)]
pub(super) struct Planned<P> {
    pub plain: P,
    pub before: Option<EarlierSecret>,
    pub made: Timestamp,
    pub trigger: String,
    pub entries: BTreeMap<String, ByteString>,
    pub write: Write,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    Nothing,
    Create,
    /// Unless it has changed since this version.
    Replace(Option<String>),
}

pub(super) fn plan<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    kept: Option<Kept<K::Plain>>,
    issuer: &str,
    now: Timestamp,
    rng: &mut StdRng,
) -> Result<Planned<K::Plain>, Rejected> {
    let rotation = resource.rotation();
    let overlap = seconds("rotation.overlap", &rotation.overlap, 0, MAX_OVERLAP)?;
    let every = rotation.every.as_deref().map(|every| seconds("rotation.every", every, 3600, MAX_EVERY)).transpose()?;
    let trigger = rotation.trigger.clone();
    // Whole seconds are what is written down.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let entries = |plain: &K::Plain| {
        let entries = K::entries(of, plain, issuer);
        entries.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes()))).collect()
    };
    let new = |plain: K::Plain, before, write| Planned {
        entries: entries(&plain),
        plain,
        before,
        made: now,
        trigger: trigger.clone(),
        write,
    };
    let Some(kept) = kept else { return Ok(new(resource.make(None, rng), None, Write::Create)) };
    let Some(plain) = kept.plain else { return Ok(new(resource.make(None, rng), None, Write::Replace(kept.version))) };
    let of_age = every.zip(kept.made).is_some_and(|(every, made)| now >= after(made, every));
    let asked_for = kept.trigger.as_ref().is_some_and(|before| *before != trigger);
    if of_age || asked_for {
        let until = u64::try_from(after(now, overlap).as_second()).unwrap_or_default();
        let before = K::hash(&plain).filter(|_| overlap > 0).map(|secret| EarlierSecret { secret, until });
        return Ok(new(resource.make(Some(&plain), rng), before, Write::Replace(kept.version)));
    }
    let entries: BTreeMap<String, ByteString> = entries(&plain);
    let complete = entries.iter().all(|(name, value)| kept.data.get(name) == Some(value));
    let complete = complete && kept.made.is_some() && kept.trigger.is_some();
    Ok(Planned {
        entries,
        plain,
        before: kept.before,
        made: kept.made.unwrap_or(now),
        trigger: kept.trigger.unwrap_or(trigger),
        write: if complete { Write::Nothing } else { Write::Replace(kept.version) },
    })
}

fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.saturating_add(seconds).unwrap_or(Timestamp::MAX)
}

impl<P> Planned<P> {
    /// The secret before, as long as it is good.
    pub(super) fn before_at(&self, now: Timestamp) -> Option<EarlierSecret> {
        let now = u64::try_from(now.as_second()).unwrap_or_default();
        self.before.clone().filter(|before| now < before.until)
    }
}

#[cfg(test)]
mod tests {
    use cloakroom_protocol::token::OpaqueToken;
    use rand::SeedableRng;

    use super::super::gather::{self, Found};
    use super::super::{ApiKey, write};
    use super::*;

    const START: i64 = 1_800_000_000;

    /// A resource, its Secret as the API server would hold it, and a clock.
    struct Bench {
        resource: ApiKey,
        secret: Option<k8s_openapi::api::core::v1::Secret>,
        now: i64,
        rng: StdRng,
    }

    impl Bench {
        fn new(spec: &str) -> Self {
            let mut resource = ApiKey::new("reports", serde_norway::from_str(spec).unwrap());
            resource.metadata.namespace = Some("shop".into());
            resource.metadata.uid = Some("1".into());
            Self { resource, secret: None, now: START, rng: StdRng::seed_from_u64(1) }
        }

        fn plan(&mut self) -> Planned<OpaqueToken> {
            let kept = match self.secret.as_ref().map(|secret| gather::read(&self.resource, secret)) {
                Some(Found::Ours(kept)) => kept,
                Some(Found::Anothers) => panic!("it is ours"),
                None => None,
            };
            let now = Timestamp::from_second(self.now).unwrap();
            let of = "shop/reports".parse().unwrap();
            plan(&self.resource, &of, kept, "https://auth.example.com", now, &mut self.rng).unwrap()
        }

        /// Plans and writes, as one round does that is not cut off.
        fn round(&mut self) -> Planned<OpaqueToken> {
            let planned = self.plan();
            if planned.write != Write::Nothing {
                let of = "shop/reports".parse().unwrap();
                let mut secret = write::as_secret(&self.resource, &of, &planned);
                secret.metadata.resource_version = Some(self.now.to_string());
                self.secret = Some(secret);
            }
            planned
        }
    }

    #[test]
    fn a_key_is_made_once_and_then_left_alone() {
        let mut bench = Bench::new("audiences: [shop/web]");
        let first = bench.round();
        assert_eq!((&first.write, &first.before), (&Write::Create, &None));
        bench.now += 100_000_000;
        let later = bench.round();
        assert_eq!((later.write, &later.plain, later.made), (Write::Nothing, &first.plain, first.made));
    }

    #[test]
    fn a_round_that_was_cut_off_before_the_secret_was_written_leaves_nothing_to_be_found() {
        let mut bench = Bench::new("audiences: [shop/web]");
        let lost = bench.plan();
        let written = bench.round();
        assert_ne!(lost.plain, written.plain);
        // Cut off after that, it registers what is written.
        assert_eq!(bench.plan().plain, written.plain);
    }

    #[test]
    fn a_deleted_or_spoilt_secret_is_made_anew_with_another_id() {
        let mut bench = Bench::new("audiences: [shop/web]");
        let first = bench.round();
        bench.secret = None;
        let second = bench.round();
        assert_ne!(first.plain.id(), second.plain.id());
        assert_eq!(second.before, None, "the old one ends at once");
        let data = bench.secret.as_mut().unwrap().data.as_mut().unwrap();
        data.insert("api_key".into(), ByteString(b"ck_nonsense".to_vec()));
        let third = bench.round();
        assert_eq!(third.write, Write::Replace(Some(START.to_string())));
        assert_ne!(third.plain.id(), second.plain.id());
        bench.secret.as_mut().unwrap().data.as_mut().unwrap().insert("note".into(), ByteString(b"mine".to_vec()));
        assert_eq!(bench.round().write, Write::Nothing, "what somebody added is not ours to judge");
    }

    #[test]
    fn another_trigger_rotates_under_the_same_id_once() {
        let mut bench = Bench::new("{audiences: [shop/web], rotation: {overlap: 1h, trigger: a}}");
        let first = bench.round();
        bench.resource.spec.rotation.trigger = "b".into();
        let second = bench.round();
        assert_eq!(first.plain.id(), second.plain.id());
        assert_ne!(first.plain, second.plain);
        let before = EarlierSecret { secret: first.plain.secret_hash(), until: 1_800_003_600 };
        assert_eq!(second.before, Some(before.clone()));
        let third = bench.round();
        assert_eq!((third.write, &third.plain), (Write::Nothing, &second.plain));
        assert_eq!(third.before, Some(before), "as long as it overlaps, it is registered again as well");
        assert_eq!(bench.plan().before_at(Timestamp::from_second(1_800_003_600).unwrap()), None);
    }

    #[test]
    fn without_an_overlap_the_old_secret_is_not_registered_any_more() {
        let mut bench = Bench::new("{audiences: [shop/web], rotation: {overlap: 0s}}");
        bench.round();
        bench.resource.spec.rotation.trigger = "leaked".into();
        let rotated = bench.round();
        assert!(rotated.write != Write::Nothing && rotated.before.is_none());
    }

    #[test]
    fn a_secret_gets_as_old_as_it_may() {
        let mut bench = Bench::new("{audiences: [shop/web], rotation: {every: 48h, overlap: 1h}}");
        let first = bench.round();
        bench.now += 48 * 3600 - 1;
        assert_eq!(bench.round().plain, first.plain);
        bench.now += 1;
        let second = bench.round();
        assert_ne!(second.plain, first.plain);
        assert_eq!(bench.round().plain, second.plain);
        bench.now += 48 * 3600;
        assert_ne!(bench.round().plain, second.plain);
    }

    #[test]
    fn what_the_definition_would_have_refused_is_refused_here_too() {
        let bench = Bench::new("{audiences: [shop/web], rotation: {every: soon}}");
        let now = Timestamp::from_second(START).unwrap();
        let of = "shop/reports".parse().unwrap();
        let refused = plan(&bench.resource, &of, None, "", now, &mut StdRng::seed_from_u64(1)).unwrap_err();
        assert!(refused.to_string().contains("rotation.every"), "{refused}");
    }

    #[test]
    fn a_secret_of_somebody_else_is_not_ours_whatever_it_holds() {
        let mut bench = Bench::new("audiences: [shop/web]");
        bench.round();
        let (mut resource, secret) = (bench.resource, bench.secret.unwrap());
        for uid in [None, Some("2"), Some("")] {
            resource.metadata.uid = uid.map(str::to_owned);
            assert!(matches!(gather::read(&resource, &secret), Found::Anothers), "{uid:?}");
        }
        resource.metadata.uid = Some("1".into());
        let mut orphan = secret;
        orphan.metadata.owner_references = None;
        assert!(matches!(gather::read(&resource, &orphan), Found::Anothers));
    }

    #[test]
    fn no_secret_shows_in_what_is_logged() {
        let mut bench = Bench::new("audiences: [shop/web]");
        let planned = bench.round();
        let secret = &planned.plain.expose()[25..60];
        let registration = bench.resource.registration(&"shop/reports".parse().unwrap(), &planned.plain, None);
        assert!(!format!("{registration:?} {:?}", planned.plain).contains(secret));
        assert!(!serde_json::to_string(&registration).unwrap().contains(secret), "only its hash leaves the cluster");
    }
}

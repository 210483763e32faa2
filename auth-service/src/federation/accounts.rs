//! Who a provider's subject is among us: by issuer and `sub` and nothing else. Neither an address, verified or not, nor a name makes anybody
//! somebody; only the account page connects an identity with an account that is there already.

use cloakroom_protocol::token::TokenId;

use super::claims::{self, Mapped};
use super::{Presented, Provider};
use crate::app::App;
use crate::record::RecordError;
use crate::record::factors::Factors;
use crate::record::federated::{self, Connected, Held, Identities, Identity};
use crate::record::origin::{self, Departure};
use crate::record::user::{self, Change, Details, ProfileDetails, User};
use crate::revoke::{self, Ended};
use crate::store::StoreError;

/// Tries against others who change the same account.
const TRIES: usize = 5;
/// Characters of their user name, so that ours has room for what tells it apart.
const MAX_NAME: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("this account is not active")]
    Disabled,
    #[error("the provider tells more of this person than an account can hold")]
    TooMuch,
    #[error("that sign-in belongs to another account")]
    Taken,
    #[error("another sign-in of that provider is connected")]
    Occupied,
    #[error("that sign-in has been disconnected already")]
    Gone,
    #[error("that is the only way to sign in that is left")]
    LastWay,
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Record(error.into())
    }
}

/// The account that somebody signs in to, as the provider knows the person now; made, where that is wanted. `None`: there is none.
pub async fn arrive(app: &App, provider: &Provider, presented: &Presented) -> Result<Option<User>, AccountError> {
    let mapped = claims::map(&provider.settings, &presented.claims);
    for _ in 0..TRIES {
        let owner = federated::owner(app.store(), provider.id(), provider.issuer(), &presented.sub).await?;
        let Some((id, held)) = owner else {
            if !provider.settings.create {
                return Ok(None);
            }
            match create(app, provider, presented, &mapped).await? {
                Some(user) => return Ok(Some(user)),
                // The same person was faster in another window.
                None => continue,
            }
        };
        let Some(user) = user::load(app.store(), &id).await? else {
            // Left over from an account that was deleted.
            federated::forget_all(app.store(), &id).await?;
            continue;
        };
        if user.details.disabled {
            return Err(AccountError::Disabled);
        }
        if let Some(user) = update(app, provider, user, held, &mapped).await? {
            return Ok(Some(user));
        }
    }
    Err(RecordError::Contention.into())
}

/// `None`: the identity got an account meanwhile.
async fn create(
    app: &App,
    provider: &Provider,
    presented: &Presented,
    mapped: &Mapped,
) -> Result<Option<User>, AccountError> {
    let profile = ProfileDetails {
        name: mapped.name.clone(),
        email: mapped.email.clone(),
        email_verified: mapped.email_verified,
        roles: mapped.roles.clone(),
        groups: mapped.groups.clone(),
        ..ProfileDetails::default()
    };
    fits(&profile)?;
    let details = Details { username: String::new(), profile, created: app.now(), disabled: false };
    let user = User { id: app.random.with(TokenId::generate).to_string(), details, epoch: 1, password: None };
    let Some(user) = name(app, provider, mapped, user).await? else { return Err(RecordError::Contention.into()) };
    let new = Identity {
        made: true,
        groups: mapped.groups.clone(),
        roles: mapped.roles.clone(),
        ..identity(app, provider, presented, mapped)
    };
    if federated::connect(app.store(), &user.id, provider.id(), &new).await? != Connected::Yes {
        user::remove(app.store(), &user).await?;
        return Ok(None);
    }
    crate::audit::record("user.created", provider.id(), &user.id, &user.details.username);
    Ok(Some(user))
}

/// Under a name that nobody has: an account that is there already is never entered by having its name elsewhere.
async fn name(app: &App, provider: &Provider, mapped: &Mapped, user: User) -> Result<Option<User>, StoreError> {
    let unnamed = || format!("{}-{}", provider.id(), app.random.reference().to_lowercase());
    let theirs = mapped.username.as_ref().or(mapped.email.as_ref());
    let base = theirs.map_or_else(unnamed, |name| name.chars().take(MAX_NAME).collect());
    let further = format!("{base}-{}", provider.id());
    let last = format!("{base}-{}", unnamed());
    for username in [base, further, last] {
        let details = Details { username, ..user.details.clone() };
        let user = User { details, ..user.clone() };
        if user::create(app.store(), &user).await? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

fn identity(app: &App, provider: &Provider, presented: &Presented, mapped: &Mapped) -> Identity {
    let shown = mapped.email.as_ref().or(mapped.username.as_ref()).or(mapped.name.as_ref());
    Identity {
        issuer: provider.issuer().to_owned(),
        sub: presented.sub.clone(),
        made: false,
        shown: shown.unwrap_or(&presented.sub).clone(),
        since: app.now(),
        used: app.now(),
        groups: Vec::new(),
        roles: Vec::new(),
    }
}

fn fits(profile: &ProfileDetails) -> Result<(), AccountError> {
    if user::is_small(profile) { Ok(()) } else { Err(AccountError::TooMuch) }
}

/// Brings an account up to what the provider says today. `None`: somebody else changed it meanwhile.
async fn update(
    app: &App,
    provider: &Provider,
    user: User,
    held: Held,
    mapped: &Mapped,
) -> Result<Option<User>, AccountError> {
    let (profile, mut told) = merged(&user.details.profile, &held.identity, mapped);
    told.used = app.now();
    if profile == user.details.profile {
        let kept = federated::renew(app.store(), &user.id, provider.id(), &held, &told).await?;
        return Ok(kept.map(|_| user));
    }
    fits(&profile)?;
    // First that they may be the provider's, then that they are the account's: what is taken back there must not stay here because a process
    // died in between.
    let both = Identity {
        groups: union(&held.identity.groups, &told.groups),
        roles: union(&held.identity.roles, &told.roles),
        ..held.identity.clone()
    };
    let Some(held) = federated::renew(app.store(), &user.id, provider.id(), &held, &both).await? else {
        return Ok(None);
    };
    let details = Details { profile, ..user.details.clone() };
    let change = Change { details: Some(details.clone()), password: None };
    let epoch = match user::change(app.store(), &user, change).await {
        Err(RecordError::Contention) => return Ok(None),
        other => other?,
    };
    federated::renew(app.store(), &user.id, provider.id(), &held, &told).await?;
    let user = User { details, epoch, ..user };
    revoke::refresh_profile(app, &user).await?;
    crate::audit::record("user.updated", provider.id(), &user.id, "as the provider says");
    Ok(Some(user))
}

/// The profile with what a provider says. Name and address are the provider's word only for an account that was made for it; of groups and
/// roles, it takes back none but what it gave.
fn merged(profile: &ProfileDetails, identity: &Identity, mapped: &Mapped) -> (ProfileDetails, Identity) {
    let (groups, their_groups) = replaced(&profile.groups, &identity.groups, &mapped.groups);
    let (roles, their_roles) = replaced(&profile.roles, &identity.roles, &mapped.roles);
    let mut new = ProfileDetails { roles, groups, ..profile.clone() };
    if identity.made {
        new.name = mapped.name.clone().or(new.name);
        if mapped.email.is_some() {
            new.email.clone_from(&mapped.email);
            new.email_verified = mapped.email_verified;
        }
    }
    (new, Identity { groups: their_groups, roles: their_roles, ..identity.clone() })
}

/// All that holds now, and what of it is the provider's.
fn replaced(all: &[String], before: &[String], now: &[String]) -> (Vec<String>, Vec<String>) {
    let own: Vec<String> = all.iter().filter(|one| !before.contains(one)).cloned().collect();
    let mut theirs: Vec<String> = now.iter().filter(|one| !own.contains(one)).cloned().collect();
    theirs.sort();
    (own.iter().chain(&theirs).cloned().collect(), theirs)
}

fn union(one: &[String], other: &[String]) -> Vec<String> {
    one.iter().chain(other.iter().filter(|name| !one.contains(name))).cloned().collect()
}

/// Connects an account with whoever has signed in at the provider for it.
pub async fn connect(app: &App, provider: &Provider, user: User, presented: &Presented) -> Result<(), AccountError> {
    let mapped = claims::map(&provider.settings, &presented.claims);
    let new = identity(app, provider, presented, &mapped);
    match federated::connect(app.store(), &user.id, provider.id(), &new).await? {
        Connected::Yes => {}
        Connected::Taken => return Err(AccountError::Taken),
        Connected::Occupied => return Err(AccountError::Occupied),
    }
    crate::audit::record("identity.connected", &user.id, &user.id, format_args!("{} {}", provider.id(), presented.sub));
    if let Some(held) = federated::of_account(app.store(), &user.id).await?.remove(provider.id()) {
        // Whatever else changes the account at this moment: the next sign-in there brings it up to date.
        update(app, provider, user, held, &mapped).await?;
    }
    Ok(())
}

/// Takes an identity off an account, with the groups and roles that came from it, and ends what was begun with it but for `here`.
pub async fn disconnect(
    app: &App,
    user: &User,
    provider: &str,
    spare: Option<&(String, Held)>,
    here: Option<TokenId>,
) -> Result<Ended, AccountError> {
    let held = federated::of_account(app.store(), &user.id).await?.remove(provider).ok_or(AccountError::Gone)?;
    let spare = spare.map(|(other, held)| (other.as_str(), held));
    if !federated::disconnect(app.store(), &user.id, provider, &held, spare).await? {
        return Err(RecordError::Contention.into());
    }
    let identity = &held.identity;
    take_back(app, &user.id, identity).await?;
    let departure = Departure { issuer: &identity.issuer, sub: Some(&identity.sub), sid: None, at: app.now() };
    let mut last = Ended::default();
    for session in origin::depart(app.store(), &departure).await? {
        if Some(session) != here {
            let ended = revoke::session(app, session).await?;
            last = if ended.event > last.event { ended } else { last };
        }
    }
    Ok(last)
}

/// Moves the epoch, too: a sign-in by that identity that is under way comes to nothing.
async fn take_back(app: &App, user: &str, identity: &Identity) -> Result<(), AccountError> {
    for _ in 0..TRIES {
        let Some(user) = user::load(app.store(), user).await? else { return Ok(()) };
        let mut details = user.details.clone();
        details.profile.groups.retain(|group| !identity.groups.contains(group));
        details.profile.roles.retain(|role| !identity.roles.contains(role));
        let changed = details != user.details;
        match user::change(app.store(), &user, Change { details: Some(details.clone()), password: None }).await {
            Err(RecordError::Contention) => continue,
            other => other?,
        };
        if changed {
            revoke::refresh_profile(app, &User { details, ..user }).await?;
        }
        return Ok(());
    }
    Err(RecordError::Contention.into())
}

/// Ways to sign in that an account has beside one of them.
pub enum Ways {
    None,
    Some,
    /// Only this identity, which has to stay.
    Only((String, Held)),
}

/// What is left of the ways to sign in without that identity. Identities of providers that are no longer configured are none.
pub fn beside(app: &App, user: &User, factors: &Factors, identities: Identities, without: &str) -> Ways {
    if app.takes_password_of(user) || !factors.passkeys.is_empty() {
        return Ways::Some;
    }
    match identities.into_iter().find(|(id, held)| id != without && is_usable(app, id, held)) {
        Some(one) => Ways::Only(one),
        None => Ways::None,
    }
}

/// Whether an account can be entered by one of its identities.
pub fn any_usable(app: &App, identities: &Identities) -> bool {
    identities.iter().any(|(id, held)| is_usable(app, id, held))
}

fn is_usable(app: &App, id: &str, held: &Held) -> bool {
    app.providers.get(id).is_some_and(|provider| provider.issuer() == held.identity.issuer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_provider_takes_back_what_it_gave_and_nothing_else() {
        let (all, theirs) = replaced(&names(&["admin-set"]), &[], &names(&["b", "a", "admin-set"]));
        assert_eq!((all.clone(), theirs.clone()), (names(&["admin-set", "a", "b"]), names(&["a", "b"])));
        assert_eq!(replaced(&all, &theirs, &names(&["a", "b"])).0, all, "the same again changes nothing");
        assert_eq!(replaced(&all, &theirs, &[]), (names(&["admin-set"]), Vec::new()));
    }

    #[test]
    fn name_and_address_are_the_providers_word_only_for_its_own_accounts() {
        let profile = ProfileDetails {
            name: Some("Ann".into()),
            email: Some("ann@here".into()),
            email_verified: true,
            ..ProfileDetails::default()
        };
        let mapped = Mapped { name: Some("Root".into()), email: Some("root@there".into()), ..Mapped::default() };
        let identity = |made| Identity {
            issuer: String::new(),
            sub: String::new(),
            made,
            shown: String::new(),
            since: 0,
            used: 0,
            groups: Vec::new(),
            roles: Vec::new(),
        };
        assert_eq!(merged(&profile, &identity(false), &mapped).0, profile);
        let new = merged(&profile, &identity(true), &mapped).0;
        assert_eq!((new.email.as_deref(), new.email_verified), (Some("root@there"), false));
        assert_eq!(merged(&profile, &identity(true), &Mapped::default()).0, profile, "what is not said stays");
    }
}

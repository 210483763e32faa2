//! Clients that `OAuthClient` resources ask for, and which of them an administrator has revoked.

use cloakroom_protocol::credential::CredentialRef;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::store::{Key, Store, StoreError, Update};

/// The resource that says what the client is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfResource {
    pub resource: CredentialRef,
    /// Tells it from others that had its name before.
    pub uid: String,
}

/// Field `uid`: of the resource whose client was revoked.
fn revoked(client_id: &str) -> Key {
    Key::new("client-revoked", client_id)
}

/// Before the client is removed: its resource asks for it again within seconds.
pub async fn note_revoked(store: &dyn Store, client: &Client) -> Result<(), StoreError> {
    let Some(of) = &client.of else { return Ok(()) };
    let update = Update { set: vec![("uid".to_owned(), of.uid.clone())], ..Update::default() };
    store.upsert(&revoked(&client.client_id), update).await.map(drop)
}

pub async fn is_revoked(store: &dyn Store, client: &Client) -> Result<bool, StoreError> {
    let Some(of) = &client.of else { return Ok(false) };
    let noted = store.read(&revoked(&client.client_id), &["uid"]).await?;
    Ok(noted.into_iter().flatten().flatten().any(|uid| uid == of.uid))
}

pub async fn forget_revoked(store: &dyn Store, client_id: &str) -> Result<(), StoreError> {
    store.take(&revoked(client_id)).await.map(drop)
}

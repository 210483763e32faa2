//! After the encryption key was changed: what people's records hold under an older one is sealed anew, so that the older one can go.
//! Signing keys are seen to by their ring.

use crate::app::App;
use crate::keys::seal::SealError;
use crate::record::factors::{self, Factors, Totp};
use crate::record::user;
use crate::store::StoreError;

const PAGE: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Goes through all users once; returns how many seeds were sealed anew. Nothing to do where there is only one key.
pub async fn seeds(app: &App) -> Result<usize, ResealError> {
    let mut done = 0;
    if !app.ring.sealer().has_older_keys() {
        return Ok(done);
    }
    let mut offset = 0;
    loop {
        let (users, held) = user::list(app.store(), offset, PAGE).await?;
        for user in &users {
            let factors = factors::load(app.store(), &user.id).await?;
            done += usize::from(seed(app, &user.id, &factors).await?);
        }
        if held < PAGE {
            return Ok(done);
        }
        offset += PAGE;
    }
}

async fn seed(app: &App, sub: &str, factors: &Factors) -> Result<bool, ResealError> {
    let sealer = app.ring.sealer();
    let Some(totp) = factors.totp.as_ref().filter(|totp| totp.seed.key != sealer.current()) else { return Ok(false) };
    let purpose = factors::purpose(sub);
    let plain = sealer.open(&purpose, &totp.seed)?;
    let totp = Totp { seed: sealer.seal(&purpose, &plain, &app.random)?, created: totp.created };
    // Whoever changed it meanwhile used the current key.
    Ok(factors::reseal(app.store(), sub, factors, &totp).await?)
}

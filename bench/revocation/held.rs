//! From revoke to the end of what whole sidecars have open for the token.

use std::time::{Duration, Instant};

use anyhow::Result;
use cloakroom_tests::held::{Kind, WaitingApp};
use cloakroom_tests::service::{Deployment, Skew};

const SIDECARS: usize = 3;
/// Of each kind, through each sidecar.
const OF_EACH: usize = 10;

pub(crate) async fn measure(rounds: usize) -> Result<()> {
    let deployment = Deployment::new().await?;
    let replica = deployment.replica(Skew::default()).await?;
    replica.register_policy().await?;
    let app = WaitingApp::start().await?;
    let mut sidecars = Vec::new();
    for index in 0..SIDECARS {
        sidecars.push(deployment.protect(&format!("whole-{index}"), &[replica.address()], &app).await?);
    }
    let mut ends: Vec<(Kind, Vec<Duration>)> = Kind::ALL.map(|kind| (kind, Vec::new())).into();
    for _ in 0..rounds {
        let token = replica.api_key().await?;
        let mut held = Vec::new();
        for sidecar in &sidecars {
            for kind in Kind::ALL {
                for _ in 0..OF_EACH {
                    held.push(sidecar.hold(kind, &token).await?);
                }
            }
        }
        let started = Instant::now();
        replica.revoke(&token, Duration::from_secs(30)).await?;
        for one in held {
            let kind = one.kind;
            let took = one.ended().await?.saturating_duration_since(started);
            for (_, ends) in ends.iter_mut().filter(|(of, _)| *of == kind) {
                ends.push(took);
            }
        }
    }
    println!("{SIDECARS} whole sidecars with {OF_EACH} of each open; {rounds} revocations");
    for (kind, ends) in &mut ends {
        super::print_quantiles(&format!("revoke to the end of {:<13}", format!("{kind:?}")), ends);
    }
    Ok(())
}

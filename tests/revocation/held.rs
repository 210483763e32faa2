//! What is under way and what stays open when a session ends, through whole sidecars.

use std::time::{Duration, Instant};

use anyhow::Result;
use cloakroom_tests::held::{Held, Kind, Protected, WaitingApp};
use cloakroom_tests::service::{Deployment, Skew};

const SIDECARS: usize = 2;
const OF_EACH: usize = 3;
/// As docs/revocation.md says.
const STREAMS: Duration = Duration::from_millis(250);
const SPARED: Duration = Duration::from_secs(1);
const OTHERS: Duration = Duration::from_millis(1_500);
/// What a busy machine adds.
const BUSY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_token_has_open_ends_and_keeps_no_receipt_waiting() -> Result<()> {
    let deployment = Deployment::new().await?;
    let replica = deployment.replica(Skew::default()).await?;
    replica.register_policy().await?;
    let app = WaitingApp::start().await?;
    let (token, other) = (replica.api_key().await?, replica.api_key().await?);
    let (mut sidecars, mut held, mut spared) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..SIDECARS {
        sidecars.push(deployment.protect(&format!("pod-{index}"), &[replica.address()], &app).await?);
    }
    for sidecar in &sidecars {
        for kind in Kind::ALL {
            for _ in 0..OF_EACH {
                held.push(sidecar.hold(kind, &token).await?);
            }
            spared.push(sidecar.hold(kind, &other).await?);
        }
    }
    let started = Instant::now();
    let receipt = replica.revoke(&token, Duration::from_secs(20)).await?;
    assert!(started.elapsed() < BUSY, "{:?} for {receipt}", started.elapsed());
    assert_eq!(receipt["acknowledged"], SIDECARS, "{receipt}");
    for one in held {
        let kind = one.kind;
        let took = one.ended().await?.saturating_duration_since(started);
        let promised = if kind.streams() { Duration::ZERO..STREAMS + BUSY } else { SPARED..OTHERS + BUSY };
        assert!(promised.contains(&took), "{kind:?} {took:?} after the revocation");
    }
    assert!(spared.iter().all(Held::goes_on), "of somebody else");
    assert!(sidecars.iter().all(Protected::is_told));
    Ok(())
}

//! The guarantee, against faults: no revoked token is honoured for longer than the lease, whatever happens between a sidecar and the
//! auth service. Real replicas, a real sidecar's client, the real clock.

mod held;

use std::time::{Duration, Instant};

use anyhow::Result;
use cloakroom_auth_service::store::Entry;
use cloakroom_protocol::events::LEASE_SECONDS;
use cloakroom_protocol::token::OpaqueToken;
use cloakroom_tests::service::{Deployment, Gate, Replica, Sidecar, Skew, within};

/// The lease, and what a busy machine adds to it.
const BOUND: Duration = Duration::from_millis(LEASE_SECONDS * 1000 + 1500);
/// Somebody who is connected is told, and need not wait for any lease.
const AT_ONCE: Duration = Duration::from_secs(2);
const NOT_WAITED_FOR: Duration = Duration::ZERO;

struct Scene {
    deployment: Deployment,
    /// The sidecar reaches the first only through its gate, and the second not at all unless a test says so.
    near: Replica,
    far: Replica,
    gate: Gate,
    skew: Skew,
}

impl Scene {
    async fn new() -> Result<Self> {
        let deployment = Deployment::new().await?;
        let skew = Skew::default();
        let (near, far) = (deployment.replica(skew.clone()).await?, deployment.replica(Skew::default()).await?);
        near.register_policy().await?;
        let gate = Gate::to(near.address()).await?;
        Ok(Self { deployment, near, far, gate, skew })
    }

    /// A sidecar that holds a token.
    async fn holding(&self) -> Result<(Sidecar, OpaqueToken)> {
        let sidecar = self.deployment.sidecar("pod-1", &[self.gate.address])?;
        let token = self.key().await?;
        sidecar.holds(&token).await?;
        Ok((sidecar, token))
    }

    /// Once every replica knows the policy, which they tell each other by an event.
    async fn key(&self) -> Result<OpaqueToken> {
        self.near.api_key().await
    }
}

/// Until the token is refused without asking anybody.
async fn refused(sidecar: &Sidecar, token: &OpaqueToken, limit: Duration) -> Result<Duration> {
    within(limit, "a refusal", async || !sidecar.honours(token)).await
}

/// It must stay so.
async fn stays_refused(sidecar: &Sidecar, token: &OpaqueToken, length: Duration) {
    let until = Instant::now() + length;
    while Instant::now() < until {
        assert!(!sidecar.honours(token), "honoured once more");
        assert_ne!(sidecar.asks(token).await, Some(true), "honoured once more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connected_it_is_told_by_whatever_replica_revokes() -> Result<()> {
    let scene = Scene::new().await?;
    let (sidecar, token) = scene.holding().await?;
    let receipt = scene.far.revoke(&token, Duration::from_secs(10)).await?;
    assert!(!sidecar.honours(&token), "the receipt came after the refusal: {receipt}");
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(1), Some(1)), "{receipt}");
    stays_refused(&sidecar, &token, Duration::from_millis(200)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn narrowed_to_what_it_holds_it_is_told_of_that_and_keeps_no_receipt_waiting_otherwise() -> Result<()> {
    let scene = Scene::new().await?;
    let (sidecar, token) = scene.holding().await?;
    let client = &sidecar.client;
    within(Duration::from_secs(20), "a narrowed stream", async || client.status().narrowed).await?;
    let (later, other) = (scene.key().await?, scene.key().await?);
    sidecar.holds(&later).await?;
    let started = Instant::now();
    let receipt = scene.far.revoke(&other, Duration::from_secs(20)).await?;
    assert_eq!((receipt["connected"].as_u64(), receipt["acknowledged"].as_u64()), (Some(1), Some(1)), "{receipt}");
    assert!(started.elapsed() < Duration::from_secs(10));
    for held in [&token, &later] {
        scene.far.revoke(held, Duration::from_secs(10)).await?;
        assert!(!sidecar.honours(held));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_it_honours_nothing_beyond_the_lease() -> Result<()> {
    let scene = Scene::new().await?;
    let (sidecar, token) = scene.holding().await?;
    scene.gate.shut();
    scene.far.revoke(&token, NOT_WAITED_FOR).await?;
    refused(&sidecar, &token, BOUND).await?;
    assert_eq!(sidecar.asks(&token).await, None, "an outage is no verdict");
    scene.gate.open();
    within(Duration::from_secs(30), "an answer again", async || sidecar.asks(&token).await == Some(false)).await?;
    stays_refused(&sidecar, &token, Duration::from_millis(300)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_held_up_on_the_way_extend_no_lease() -> Result<()> {
    let scene = Scene::new().await?;
    let (sidecar, token) = scene.holding().await?;
    scene.gate.shut();
    scene.far.revoke(&token, NOT_WAITED_FOR).await?;
    let started = Instant::now();
    refused(&sidecar, &token, BOUND).await?;
    // A queue of old heartbeats comes through now, the revocation behind them.
    scene.gate.open();
    stays_refused(&sidecar, &token, Duration::from_secs(1)).await;
    assert!(started.elapsed() < BOUND + Duration::from_secs(20));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_its_replica_restarts_it_hears_from_another_what_it_missed() -> Result<()> {
    let scene = Scene::new().await?;
    let other_way = Gate::to(scene.far.address()).await?;
    let sidecar = scene.deployment.sidecar("pod-1", &[scene.gate.address, other_way.address])?;
    let token = scene.key().await?;
    sidecar.holds(&token).await?;
    let Scene { deployment, near, far, .. } = scene;
    near.running.stop().await;
    far.revoke(&token, NOT_WAITED_FOR).await?;
    refused(&sidecar, &token, BOUND).await?;
    within(Duration::from_secs(30), "an answer again", async || sidecar.asks(&token).await == Some(false)).await?;
    drop(deployment);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_log_was_trimmed_meanwhile_it_drops_all_it_holds() -> Result<()> {
    let scene = Scene::new().await?;
    let (sidecar, token) = scene.holding().await?;
    let kept = scene.key().await?;
    sidecar.holds(&kept).await?;
    scene.gate.shut();
    scene.far.revoke(&token, NOT_WAITED_FOR).await?;
    for _ in 0..100_001 {
        scene.deployment.store.publish(&Entry { name: "noise".to_owned(), data: "{}".to_owned() }).await?;
    }
    refused(&sidecar, &token, BOUND).await?;
    scene.gate.open();
    let client = &sidecar.client;
    within(Duration::from_secs(30), "a stream again", async || client.status().lease_live).await?;
    stays_refused(&sidecar, &token, Duration::from_millis(300)).await;
    sidecar.holds(&kept).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_wrong_or_jump_lengthen_nothing() -> Result<()> {
    for (before, after) in [(20_000, 20_000), (-20_000, 0), (0, -30_000), (0, 30_000)] {
        let scene = Scene::new().await?;
        scene.skew.set(before);
        let (sidecar, token) = scene.holding().await?;
        scene.skew.set(after);
        // Connected, it hears of it however wrong the clocks are.
        scene.far.revoke(&token, NOT_WAITED_FOR).await?;
        let took = refused(&sidecar, &token, BOUND).await?;
        assert!(took < AT_ONCE || after != before, "{took:?}");
        // Cut off, the lease ends by the sidecar's own clock.
        scene.skew.set(0);
        let (sidecar, token) = scene.holding().await?;
        scene.skew.set(after);
        scene.gate.shut();
        scene.far.revoke(&token, NOT_WAITED_FOR).await?;
        refused(&sidecar, &token, BOUND).await?;
    }
    Ok(())
}

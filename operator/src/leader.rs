//! One replica works, the others wait for its lease.

use std::sync::Arc;
use std::time::Duration;

use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;

use crate::context::Context;
use crate::controller;

/// Seconds that a lease lasts, and before its end that it is renewed. A leader that dies is replaced after the first.
const LEASE: u64 = 15;
const GRACE: u64 = 5;

/// Leads whenever it can, until `stop` says so; then lets go of the lease, so that another replica need not wait for its end.
pub async fn lead(context: Arc<Context>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let manager = LeaseManagerBuilder::new(context.client.clone(), context.args.lease.clone())
        .with_namespace(context.args.namespace.clone())
        .with_identity(context.args.pod_name.clone())
        .with_duration(LEASE)
        .with_grace(GRACE)
        .build()
        .await?;
    let (mut leading, task) = manager.watch().await;
    context.metrics.set_ready();
    while !*stop.borrow() {
        if *leading.borrow_and_update() {
            tracing::info!("leading");
            context.metrics.leading.set(1);
            controller::run(context.clone(), || ends(leading.clone(), stop.clone())).await;
            context.metrics.leading.set(0);
            tracing::info!("no longer leading");
            if !*stop.borrow() {
                // Whatever was under way when the lease was lost may still be: a new process knows nothing of it.
                anyhow::bail!("the lease was lost");
            }
            break;
        }
        tokio::select! {
            changed = leading.changed() => changed?,
            changed = stop.changed() => changed?,
        }
    }
    drop(leading);
    tokio::time::timeout(Duration::from_secs(3), task).await???;
    Ok(())
}

/// When leadership ends, or we do.
async fn ends(mut leading: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        // An error means that the sender is gone, which ends it just as well.
        _ = leading.wait_for(|leading| !leading) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

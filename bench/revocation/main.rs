//! From revoke to refusal, and what it costs to tell many sidecars.
//!
//! First part: one replica and its store in this process; 500 clients that read the real event stream as sidecars do, each over a
//! connection of its own, beside a few clients of real sidecars. All hold one token. It is revoked with a receipt, and the time is taken
//! until the last of them refuses it. Second part: whole sidecars, with streams, calls, long polls and uploads open through them, until the
//! last of those has ended. Third part: the event loop's own code with 50,000 sidecars that have declared what they hold, to
//! learn how many of them hear of a sign-out and what that costs; the rest of a replica's cost is calculated from the first part.
//!
//!     cargo run --release -p cloakroom-tests --bin revocation-bench [clients] [rounds]

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people, far from any limit"
)]

mod clients;
mod fan_out;
mod held;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cloakroom_tests::service::{Deployment, Skew};

const REAL: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let clients = arguments.next().transpose()?.unwrap_or(500);
    let rounds = arguments.next().transpose()?.unwrap_or(50);
    let runtime = tokio::runtime::Runtime::new()?;
    let told = runtime.block_on(latency(clients, rounds))?;
    runtime.block_on(held::measure(rounds))?;
    fan_out::simulate(told);
    Ok(())
}

/// CPU of this process for one sidecar that is told and answers, and for one that only gets its heartbeat for a second.
#[derive(Clone, Copy)]
pub(crate) struct Costs {
    told: Duration,
    idle: Duration,
}

async fn latency(count: usize, rounds: usize) -> Result<Costs> {
    let deployment = Deployment::new().await?;
    let replica = deployment.replica(Skew::default()).await?;
    replica.register_policy().await?;
    let mut clients = Vec::new();
    for index in 0..count {
        let workload = deployment.workload(&format!("simulated-{index}"))?;
        clients.push(clients::Client::connect(replica.address(), workload).await?);
    }
    let mut real = Vec::new();
    for index in 0..REAL {
        real.push(deployment.sidecar(&format!("real-{index}"), &[replica.address()])?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (idle_cpu, idle_since) = (cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = cpu()?.saturating_sub(idle_cpu).div_f64(idle_since.elapsed().as_secs_f64() * (count + REAL) as f64);

    let (mut last, mut receipts, mut spent) = (Vec::new(), Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        let token = replica.api_key().await?;
        for client in &clients {
            client.ask(&token).await?;
        }
        for sidecar in &real {
            sidecar.holds(&token).await?;
        }
        let before = cpu()?;
        let started = Instant::now();
        let refused = futures::future::join_all(clients.iter().map(|client| client.refuses(&token)));
        let real_refused = futures::future::join_all(real.iter().map(|sidecar| {
            cloakroom_tests::service::within(Duration::from_secs(30), "a refusal", async || !sidecar.honours(&token))
        }));
        let revoked = async {
            let receipt = replica.revoke(&token, Duration::from_secs(30)).await?;
            Ok::<_, anyhow::Error>((receipt, started.elapsed()))
        };
        let (refused, real_refused, revoked) = tokio::join!(refused, real_refused, revoked);
        let (receipt, took) = revoked?;
        spent += cpu()?.saturating_sub(before);
        let expected = (count + REAL) as u64;
        ensure!(receipt["acknowledged"] == expected, "not everybody: {receipt}");
        let ends = refused.into_iter().collect::<Result<Vec<_>>>()?;
        let ends = ends.into_iter().map(|at| at.saturating_duration_since(started));
        let real_ends = real_refused.into_iter().collect::<Result<Vec<_>>>()?;
        last.push(ends.chain(real_ends).max().context("no clients")?);
        receipts.push(took);
    }
    println!("{count} simulated and {REAL} real sidecars, all holding the token; {rounds} revocations");
    print_quantiles("revoke to the last one's refusal", &mut last);
    print_quantiles("revoke to the receipt           ", &mut receipts);
    let told = spent.div_f64((rounds * (count + REAL)) as f64);
    println!("CPU for each told sidecar, its own part included: {told:?}; idle, for each second: {idle:?}");
    Ok(Costs { told, idle })
}

fn print_quantiles(what: &str, durations: &mut [Duration]) {
    durations.sort_unstable();
    let at = |share: f64| durations[((durations.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", at(0.5), at(0.99), at(1.0));
}

/// Of this process so far, user and system.
fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may have blanks in it; in hundredths of a second (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').context("/proc/self/stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

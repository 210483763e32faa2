//! Many sidecars, many sign-outs: who hears of them, and what looking that up costs.

use std::time::{Duration, Instant};

use cloakroom_auth_service::events::Hub;
use cloakroom_auth_service::store::{Entry, EventId, StreamEntry};
use cloakroom_protocol::events::{Event, Revoked};
use cloakroom_protocol::interest::{Filter, Key};
use cloakroom_protocol::token::TokenId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::Costs;

const SIDECARS: usize = 50_000;
const SIGN_OUTS: f64 = 1000.0;
/// What one sidecar holds, and how many sidecars hold one session.
const HELD: usize = 200;
const HOLDERS: usize = 3;
const REPLICAS: usize = 4;
const TRIED: usize = 400;

pub(crate) fn simulate(Costs { told, idle }: Costs) {
    let mut rng = StdRng::seed_from_u64(1);
    let sessions: Vec<TokenId> = (0..SIDECARS * HELD / HOLDERS).map(|_| TokenId::generate(&mut rng)).collect();
    // One replica's share; all of them read the same events.
    let hub = Hub::new();
    let mine = SIDECARS / REPLICAS;
    let mut bytes = 0;
    let mut queues = Vec::new();
    for index in 0..mine {
        let name = format!("s{index}");
        hub.sidecars.connect(&name, None);
        queues.push(hub.streams.open(name.clone(), name.clone()));
        hub.sidecars.told(&name, []);
        // Session n is held by sidecars n, n + stride and so on, spread over all.
        let held = (0..HELD).map(|n| &sessions[(index * HELD + n) % sessions.len()]);
        let keys: Vec<Key> = held
            .flat_map(|id| Key::of_token(id, Some(id), &format!("user-{id}"), "shop/web").collect::<Vec<_>>())
            .collect();
        let filter = Filter::of(&keys);
        bytes += filter.size();
        if let Some(stream) = hub.streams.find(&name) {
            hub.streams.declare(&stream, 1, &filter);
        }
    }
    let (mut heard, started) = (0_usize, Instant::now());
    for at in 0..TRIED {
        let event = Event::Revoked(Revoked::Id { id: sessions[at * 7919 % sessions.len()] });
        let entry = Entry { name: event.name().to_owned(), data: event.data() };
        hub.pass(StreamEntry { id: EventId { millis: at as u64 + 1, sequence: 0 }, entry });
    }
    let look_up = started.elapsed().div_f64(TRIED as f64);
    for queue in &mut queues {
        while queue.try_recv().is_ok() {
            heard += 1;
        }
    }
    let (each, strangers) = (heard as f64 / TRIED as f64, share_told_in_vain(&mut rng));
    let events = each * REPLICAS as f64;
    println!("\n{SIDECARS} sidecars over {REPLICAS} replicas, {HELD} sessions in each, {SIGN_OUTS} sign-outs a second");
    println!(
        "a sign-out is heard of by {events:.1} sidecars instead of {SIDECARS}; told in vain: {strangers:.5} of all others"
    );
    println!("a replica looks {mine} sidecars through in {look_up:?} and keeps {} bytes for each", bytes / mine);
    let cores = |cost: Duration, often: f64| cost.as_secs_f64() * often;
    println!(
        "cores for each replica: look-up {:.2}, telling {:.2}, heartbeats {:.2}; unfiltered, telling alone {:.0}",
        cores(look_up, SIGN_OUTS),
        cores(told, SIGN_OUTS * each),
        cores(idle, mine as f64),
        cores(told, SIGN_OUTS * mine as f64)
    );
}

/// Of sidecars that do not hold a session, how many are told of its end.
fn share_told_in_vain(rng: &mut StdRng) -> f64 {
    let keys: Vec<Key> = (0..2 * HELD).map(|_| Key::record(&TokenId::generate(rng))).collect();
    let filter = Filter::of(&keys);
    let tried = 1_000_000;
    let vain = (0..tried).filter(|_| filter.may_contain(Key::record(&TokenId::generate(rng)))).count();
    vain as f64 / f64::from(tried)
}

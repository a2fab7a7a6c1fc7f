//! Eight workers, word that is shuffled, doubled and lost, receivers that fail at random, and a clock that runs on while
//! attempts are made: every event reaches every target, and nothing waits for ever.

use crate::world::{World, deadline};
use countersign_clock::sweep;
use countersign_domain::case::VerdictOutcome;
use countersign_domain::delivery::{ATTEMPTED, CLAIMED, Delivery};
use countersign_domain::{Tenant, Timestamp, Work};
use countersign_queue::Lane;
use countersign_store::Key;
use countersign_testing::receiver::{Receiver, Reply};
use fastrand::Rng;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;

const WORKERS: usize = 8;
const TENANTS: [&str; 3] = ["acme", "beta", "gamma"];
const CASES: u128 = 4;
/// Deliveries of one case: all of its five events to one endpoint, one of them to each of two others.
const OF_A_CASE: usize = 7;
const VARIABLES: [(&str, &str); 3] = [
    ("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s"),
    ("COUNTERSIGN_RETRY_DELAYS", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"),
    ("COUNTERSIGN_RETRY_JITTER", "0.1"),
];
/// After how long a claim is over.
const CLAIMED_FOR: Duration = Duration::from_secs(2);

/// The workers, each with a queue of its own, and the word that any of them may get.
struct Crowd {
    random: Rng,
    workers: Vec<World>,
    sent: Vec<(Lane, Work)>,
    running: JoinSet<Vec<usize>>,
}

impl Crowd {
    async fn new(seed: u64) -> Self {
        let first = World::with(&VARIABLES).await;
        let mut workers = Vec::new();
        for _ in 1..WORKERS {
            workers.push(first.beside(&VARIABLES).await);
        }
        workers.push(first);
        Self { random: Rng::with_seed(seed), workers, sent: Vec::new(), running: JoinSet::new() }
    }

    fn any(&mut self) -> usize {
        self.random.usize(..WORKERS)
    }

    /// Hands out what was sent: some of it is lost, some comes twice, all of it in any order and to anyone.
    fn hand_out(&mut self, lost: f64, doubled: f64) {
        for world in &mut self.workers {
            for lane in [Lane::Fast, Lane::Slow] {
                self.sent.extend(world.take(lane).into_iter().map(|work| (lane, work)));
            }
        }
        let mut word: Vec<(Lane, Work)> = Vec::new();
        for said in std::mem::take(&mut self.sent) {
            if self.random.f64() < lost {
                continue;
            }
            if self.random.f64() < doubled {
                word.push(said.clone());
            }
            word.push(said);
        }
        self.random.shuffle(&mut word);
        while !word.is_empty() {
            let part = word.split_off(word.len() - self.random.usize(1..=word.len().min(16)));
            for lane in [Lane::Fast, Lane::Slow] {
                let work: Vec<Work> = part.iter().filter(|said| said.0 == lane).map(|said| said.1.clone()).collect();
                let worker = self.any();
                let worker = self.workers[worker].worker.clone();
                self.running.spawn(async move { worker.handle(lane, &work).await });
            }
        }
    }

    /// Lets some time pass, and the clock look.
    async fn tick(&mut self, at_most: u64) {
        let time = Duration::from_millis(self.random.u64(0..=at_most));
        self.workers[0].clock.advance(time);
        let (one, other) = (self.any(), self.any());
        tokio::join!(
            sweep(&self.workers[one].app, Duration::ZERO, deadline()),
            sweep(&self.workers[other].app, Duration::ZERO, deadline())
        );
    }

    async fn rest(&mut self) {
        while let Some(handled) = self.running.join_next().await {
            assert_eq!(handled.unwrap(), [0; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_reaches_every_target_whatever_becomes_of_word_of_it() {
    let seeds = std::env::var("COUNTERSIGN_SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        run(seed).await;
    }
    println!("{seeds} seeds");
}

async fn run(seed: u64) {
    let mut crowd = Crowd::new(seed).await;
    let receiver = Receiver::start().await;
    let fails = Mutex::new(Rng::with_seed(seed));
    receiver.answer(move |_| Reply::status(if fails.lock().unwrap().f64() < 0.3 { 503 } else { 200 }));
    let tenants: Vec<Tenant> = TENANTS.iter().map(|tenant| tenant.parse().unwrap()).collect();
    for tenant in &tenants {
        for (number, events) in (1..).zip(["*", "case.created", "case.resolved"]) {
            let url = receiver.url(&format!("/{tenant}/{number}"));
            crowd.workers[0].subscribe_of(tenant, number, &url, &[events]).await;
        }
    }
    let mut cases: Vec<(&Tenant, u128, u8)> =
        tenants.iter().flat_map(|tenant| (0..CASES).map(move |number| (tenant, number, 0))).collect();
    // While the cases are decided on, all kinds of things happen.
    while !cases.is_empty() {
        let case = crowd.random.usize(..cases.len());
        let (tenant, number, step) = cases[case];
        let by = crowd.any();
        let door = &crowd.workers[by];
        let work = match step {
            0 => door.event_of(tenant, number).await,
            1 => door.verdict(tenant, number, VerdictOutcome::Escalated).await,
            _ => door.verdict(tenant, number, VerdictOutcome::TruePositive).await,
        };
        crowd.sent.extend(work.into_iter().map(|work| (Lane::Fast, work)));
        cases[case].2 += 1;
        if step == 2 {
            cases.swap_remove(case);
        }
        crowd.hand_out(0.2, 0.3);
        crowd.tick(1500).await;
    }
    // Then the clock alone sees to it that everything ends; word is lost less often than it is said.
    let mut rounds = 0;
    while !crowd.workers[0].due().await.is_empty() {
        crowd.hand_out(0.2, 0.3);
        crowd.rest().await;
        crowd.tick(20_000).await;
        rounds += 1;
        assert!(rounds < 500, "seed {seed}: something waits for ever: {:?}", crowd.workers[0].due().await);
    }
    crowd.hand_out(0.0, 1.0);
    crowd.rest().await;
    let mut requests: HashMap<(String, String), usize> = HashMap::new();
    for received in receiver.received() {
        *requests.entry((received.path.clone(), received.event_id())).or_default() += 1;
    }
    let world = &crowd.workers[0];
    for tenant in &tenants {
        let deliveries = world.deliveries_of(tenant).await;
        let different: HashSet<_> = deliveries.iter().map(|delivery| (delivery.event_id, &delivery.target)).collect();
        let expected = usize::try_from(CASES).unwrap() * OF_A_CASE;
        assert_eq!((deliveries.len(), different.len()), (expected, expected), "seed {seed}");
        for delivery in &deliveries {
            let path = delivery.url.as_ref().unwrap().replace(&receiver.url(""), "");
            let requests = requests.get(&(path, delivery.event_id.to_string())).copied().unwrap_or(0);
            check(world, tenant, delivery, requests, seed).await;
        }
    }
}

/// It has arrived, and no attempt was made twice unless its claim was over.
async fn check(world: &World, tenant: &Tenant, delivery: &Delivery, requests: usize, seed: u64) {
    assert_eq!(delivery.status(), "delivered", "seed {seed}: {delivery:?}");
    let entries = world.entries(&Key::<Delivery>::new(tenant, delivery.id.as_str())).await;
    let numbered = |name: &str, field: &str| {
        let named = entries.iter().filter(|entry| entry.name == name);
        named.map(|entry| (entry.data[field].as_u64().unwrap(), entry.at)).collect::<Vec<(u64, Timestamp)>>()
    };
    let (claims, results) = (numbered(CLAIMED, "attempt"), numbered(ATTEMPTED, "n"));
    for pair in claims.windows(2) {
        let [(before, claimed_at), (next, again_at)] = pair else { unreachable!("two at a time") };
        assert!(
            *next == before + 1 || (next == before && *again_at >= *claimed_at + CLAIMED_FOR),
            "seed {seed}: {entries:?}"
        );
    }
    for (number, _) in &results {
        let count = |of: &[(u64, Timestamp)]| of.iter().filter(|(other, _)| other == number).count();
        assert!(count(&results) <= count(&claims), "seed {seed}: {entries:?}");
    }
    assert!((1..=claims.len()).contains(&requests), "seed {seed}: {requests} requests, {entries:?}");
}

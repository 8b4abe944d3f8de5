//! The lease against a store with resourceVersions, among rivals and under faults.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{
    Claim, FencingToken, Identity, LeaseConfig, LeaseError, LeaseGuard, LeaseLost, LeaseRecord,
};

use crate::server::{Received, Reply, Server, ok, status};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
const MS: Duration = Duration::from_millis(1);

/// The one lease there is.
#[derive(Default)]
struct Store {
    lease: Option<Value>,
    version: u64,
    trouble: Option<Trouble>,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// 503 to everything.
    Down,
    /// No answer to anything.
    Silence,
    /// The next write is carried out, its answer is lost.
    LostAnswer,
}

impl Store {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }

    /// Somebody else's write.
    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut lease = self.lease.clone().unwrap();
        edit(&mut lease);
        self.store(lease);
    }

    fn record(&self) -> LeaseRecord {
        LeaseRecord::of(self.lease.as_ref().unwrap())
    }

    fn answer(&mut self, request: &Received) -> Reply {
        match self.trouble {
            Some(Trouble::Down) => return Reply::Answer(503, vec![], "down".to_owned()),
            Some(Trouble::Silence) => return Reply::Silence,
            _ => {}
        }
        let details = json!({ "name": "writer", "group": "coordination.k8s.io", "kind": "leases" });
        let stored = match (request.method.as_str(), &self.lease) {
            ("GET" | "PUT" | "PATCH" | "DELETE", None) => return status(404, "NotFound", &details),
            ("GET", Some(lease)) => return ok(lease),
            ("POST", None) => self.store(request.body.clone()),
            ("POST", Some(_)) => return status(409, "AlreadyExists", &details),
            ("PUT", Some(lease)) => {
                if request.body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    return status(409, "Conflict", &details);
                }
                self.store(request.body.clone())
            }
            ("PATCH", Some(lease)) => match patched(lease, &request.body) {
                Some(lease) => self.store(lease),
                None => return status(422, "Invalid", &details),
            },
            ("DELETE", Some(lease)) => {
                let meant = &request.body["preconditions"];
                let differs = |key: &str| !meant[key].is_null() && meant[key] != lease["metadata"][key];
                if differs("uid") || differs("resourceVersion") {
                    return status(409, "Conflict", &details);
                }
                self.lease = None;
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
            }
            (method, _) => panic!("{method}"),
        };
        if self.trouble == Some(Trouble::LostAnswer) {
            self.trouble = None;
            return Reply::Cut;
        }
        ok(&stored)
    }
}

/// A merge patch of annotations, or a JSON patch of members that exist; `None` where a test does not hold.
fn patched(lease: &Value, patch: &Value) -> Option<Value> {
    let mut lease = lease.clone();
    if let Some(annotations) = patch["metadata"]["annotations"].as_object() {
        for (name, value) in annotations {
            lease["metadata"]["annotations"][name] = value.clone();
        }
        return Some(lease);
    }
    for operation in patch.as_array().unwrap() {
        let place = lease.pointer_mut(operation["path"].as_str().unwrap())?;
        match operation["op"].as_str().unwrap() {
            "test" if *place != operation["value"] => return None,
            "test" => {}
            _ => *place = operation["value"].clone(),
        }
    }
    Some(lease)
}

struct World {
    server: Server,
    cluster: Cluster,
    store: Arc<Mutex<Store>>,
}

impl World {
    async fn new(lease: Option<Value>) -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        if let Some(lease) = lease {
            store.lock().unwrap().store(lease);
        }
        let shared = Arc::clone(&store);
        let server = Server::start(move |request| {
            assert!(request.path.starts_with(LEASES), "{}", request.path);
            shared.lock().unwrap().answer(request)
        })
        .await;
        let cluster = server.connect().await;
        Self { server, cluster, store }
    }

    async fn acquire(&self, config: LeaseConfig) -> Result<LeaseGuard, LeaseError> {
        LeaseGuard::acquire(&self.cluster, "ns", "writer", config, |_| {}).await
    }

    fn record(&self) -> LeaseRecord {
        self.store.lock().unwrap().record()
    }

    fn trouble(&self, trouble: Trouble) {
        self.store.lock().unwrap().trouble = Some(trouble);
    }
}

/// Two seconds of lease, renewed every 300 ms, given up 400 ms early: a busy machine must not lose it.
fn config() -> LeaseConfig {
    LeaseConfig {
        duration: 2000 * MS,
        renew: 300 * MS,
        margin: 400 * MS,
        wait: 6000 * MS,
        identity: Identity::of_this_process(),
        holder: None,
        after: None,
        claim: Claim::default(),
    }
}

fn held_by(holder: &str) -> Value {
    json!({
        "metadata": { "name": "writer", "namespace": "ns" },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 2, "leaseTransitions": 4,
            // Far in the future: another machine's clock says nothing.
            "renewTime": "2999-01-01T00:00:00.000000Z", "acquireTime": "2999-01-01T00:00:00.000000Z",
        },
    })
}

#[tokio::test]
async fn a_lease_is_created_renewed_and_released() {
    let world = World::new(None).await;
    let guard = world.acquire(config()).await.unwrap();
    let first = world.record();
    assert_eq!(first.holder.as_deref(), Some(guard.holder()));
    assert_eq!(first.transitions, 0);
    tokio::time::sleep(700 * MS).await;
    let later = world.record();
    assert_ne!(later.renew_time, first.renew_time);
    assert_eq!(later.acquire_time, first.acquire_time);

    // A write that goes by the fence makes no request of its own.
    let fence = guard.fence();
    let before = world.server.log().len();
    for _ in 0..1000 {
        fence.check().unwrap();
    }
    assert!(world.server.log().len() <= before + 1);

    guard.release().await.unwrap();
    assert_eq!(world.record().holder, None);
    assert_eq!(fence.check(), Err(LeaseLost::Released));
    let next = world.acquire(config()).await.unwrap();
    assert_eq!(world.record().transitions, 1);
    drop(next);
}

#[tokio::test]
async fn an_unchanged_lease_is_acquired_with_one_request() {
    let mut lease = held_by("");
    lease["metadata"]["uid"] = json!("u");
    let world = World::new(Some(lease)).await;
    let first = world.acquire(config()).await.unwrap();
    let token = first.fence().token().clone();
    assert_eq!(token, FencingToken { lease: "u".to_owned(), transitions: 5 });
    first.release().await.unwrap();

    let before = world.server.log().len();
    let after = |token: &FencingToken| LeaseConfig { after: Some(token.clone()), ..config() };
    let second = world.acquire(after(&token)).await.unwrap();
    assert_eq!(world.server.log().len(), before + 1);
    assert!(second.fence().token().follows(&token));
    let record = world.record();
    assert_eq!((record.holder.as_deref(), record.transitions), (Some(second.holder()), 6));
    second.check().unwrap();

    // Held, or another's since: the usual way.
    let rival = world.acquire(LeaseConfig { wait: Duration::ZERO, ..after(&token) }).await;
    assert!(matches!(rival, Err(LeaseError::Held { .. })));
    second.release().await.unwrap();
    let third = world.acquire(after(&token)).await.unwrap();
    assert!(!third.fence().token().follows(&token), "somebody held it in between");
    third.release().await.unwrap();
    // The answer is lost, not the lease.
    let token = FencingToken { transitions: 7, ..token };
    world.trouble(Trouble::LostAnswer);
    let fourth = world.acquire(after(&token)).await.unwrap();
    assert!(fourth.fence().token().follows(&token));
}

#[tokio::test]
async fn of_concurrent_candidates_one_acquires_the_lease() {
    let world = Arc::new(World::new(None).await);
    let rivals: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.acquire(LeaseConfig { wait: 300 * MS, ..config() }).await })
        })
        .collect();
    let mut winners = Vec::new();
    for rival in rivals {
        match rival.await.unwrap() {
            Ok(guard) => winners.push(guard),
            Err(LeaseError::Held { .. }) => {}
            Err(failed @ LeaseError::Request { .. }) => panic!("{failed:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(world.record().holder.as_deref(), Some(winners[0].holder()));
    winners[0].check().unwrap();
}

#[tokio::test]
async fn a_renewing_holder_is_recognized_at_once() {
    let world = World::new(None).await;
    let holder = world.acquire(config()).await.unwrap();
    let start = Instant::now();
    let mut waits = Vec::new();
    let waiting = |holder: &str| waits.push(holder.to_owned());
    let config = LeaseConfig { wait: 60_000 * MS, ..config() };
    let error = LeaseGuard::acquire(&world.cluster, "ns", "writer", config, waiting).await.err().unwrap();
    assert!(start.elapsed() < 1900 * MS, "{:?}", start.elapsed());
    match error {
        LeaseError::Held { holder: named, since, .. } => {
            assert_eq!(named, holder.holder());
            assert!(since.is_some());
        }
        failed @ LeaseError::Request { .. } => panic!("{failed:?}"),
    }
    assert!(!waits.is_empty());
    assert!(waits.iter().all(|named| named == holder.holder()));
    holder.check().unwrap();
}

#[tokio::test]
async fn expiry_is_measured_on_our_own_clock() {
    let world = World::new(Some(held_by("somebody"))).await;
    let start = Instant::now();
    let guard = world.acquire(config()).await.unwrap();
    assert!(start.elapsed() >= 2000 * MS && start.elapsed() < 4000 * MS, "{:?}", start.elapsed());
    assert_eq!(world.record().transitions, 5);
    guard.check().unwrap();
}

#[tokio::test]
async fn waiting_for_a_lease_times_out() {
    let world = World::new(Some(held_by("somebody"))).await;
    let start = Instant::now();
    let error = world.acquire(LeaseConfig { wait: 300 * MS, ..config() }).await.err().unwrap();
    assert!(start.elapsed() >= 300 * MS && start.elapsed() < 1900 * MS, "{:?}", start.elapsed());
    let text = "failed to take the lease ns/writer: held by somebody since 2999-01-01T00:00:00Z";
    assert_eq!(error.to_string(), text);
    assert_eq!(world.record().holder.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_lease_of_an_ended_local_process_is_taken_over_at_once() {
    let me = Identity::of_this_process();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start_ticks =
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let mut dead = me.clone();
    let process = dead.process.as_mut().unwrap();
    (process.pid, process.start_ticks) = (child.id(), start_ticks);

    let world = World::new(Some(held_by(&dead.to_string()))).await;
    let alive = world.acquire(LeaseConfig { wait: Duration::ZERO, ..config() }).await;
    assert!(matches!(alive, Err(LeaseError::Held { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    let guard = world.acquire(LeaseConfig { wait: Duration::ZERO, ..config() }).await.unwrap();
    assert_eq!(world.record().holder.as_deref(), Some(guard.holder()));
    assert_eq!(world.record().transitions, 5);
}

#[tokio::test]
async fn a_lease_taken_by_another_is_lost() {
    let world = World::new(None).await;
    let guard = world.acquire(config()).await.unwrap();
    world.store.lock().unwrap().edit(|lease| lease["spec"]["holderIdentity"] = json!("thief"));
    let lost = tokio::time::timeout(2000 * MS, guard.lost()).await.unwrap();
    assert_eq!(lost, LeaseLost::Taken { holder: "thief".to_owned() });
    assert_eq!(guard.check(), Err(lost));
    // What is another's is left alone.
    guard.release().await.unwrap();
    assert_eq!(world.record().holder.as_deref(), Some("thief"));
}

fn named(name: &str) -> LeaseConfig {
    let claim = Claim::default();
    assert!(claim.make(name));
    LeaseConfig { claim, holder: Some(name.to_owned()), ..config() }
}

#[tokio::test]
async fn a_yielded_lease_is_not_acquired_again() {
    let world = World::new(None).await;
    let (old, new) = (named("a/0"), named("a/1"));
    old.claim.announce(&world.cluster, "ns", "writer").await.unwrap();
    let guard = world.acquire(old.clone()).await.unwrap();
    new.claim.announce(&world.cluster, "ns", "writer").await.unwrap();
    let lost = tokio::time::timeout(2000 * MS, guard.lost()).await.unwrap();
    assert_eq!(lost, LeaseLost::Yielded { to: "a/1".to_owned() });
    // It is held until what is in flight has been answered.
    assert_eq!(world.record().holder.as_deref(), Some("a/0"));
    let token = guard.fence().token().clone();
    guard.release().await.unwrap();
    let newer = world.acquire(LeaseConfig { wait: Duration::ZERO, ..new.clone() }).await.unwrap();
    assert_eq!(world.record().holder.as_deref(), Some("a/1"));
    newer.release().await.unwrap();
    for after in [None, Some(token)] {
        let again = LeaseConfig { after, wait: Duration::ZERO, ..old.clone() };
        let refused = world.acquire(again).await;
        assert!(matches!(&refused, Err(LeaseError::Held { holder, .. }) if holder == "a/1"), "it is free");
    }
    // Who is named by nobody takes no part in it.
    world.acquire(config()).await.unwrap().release().await.unwrap();
    // Named again, it is the one.
    old.claim.announce(&world.cluster, "ns", "writer").await.unwrap();
    world.acquire(old).await.unwrap().check().unwrap();
}

#[tokio::test]
async fn a_claim_is_written_only_to_a_lease_that_exists_and_lacks_it() {
    let claim = named("a/0").claim;
    for (lease, writes) in [(None, 0), (Some(held_by("a/1")), 1)] {
        let world = World::new(lease).await;
        for _ in 0..2 {
            claim.announce(&world.cluster, "ns", "writer").await.unwrap();
        }
        let log = world.server.log();
        assert_eq!(log.iter().filter(|request| request.method != "GET").count(), writes);
    }
}

#[tokio::test]
async fn a_deleted_lease_is_lost() {
    for remove in [(|store: &mut Store| store.lease = None) as fn(&mut Store), |store| {
        store.edit(|lease| lease["spec"]["holderIdentity"] = json!(null));
    }] {
        let world = World::new(None).await;
        let guard = world.acquire(config()).await.unwrap();
        remove(&mut world.store.lock().unwrap());
        assert_eq!(tokio::time::timeout(2000 * MS, guard.lost()).await.unwrap(), LeaseLost::Removed);
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_released_before_it_expires() {
    for trouble in [Trouble::Down, Trouble::Silence] {
        let world = World::new(None).await;
        let before = Instant::now();
        let guard = world.acquire(config()).await.unwrap();
        world.trouble(trouble);
        let after = Instant::now();
        while guard.check().is_ok() {
            tokio::time::sleep(5 * MS).await;
        }
        // Two seconds less 400 ms, counted from before the last renewal was sent.
        assert!(before.elapsed() >= 1500 * MS, "{:?}", before.elapsed());
        assert!(after.elapsed() < 1900 * MS, "{:?}", after.elapsed());
        let lost = tokio::time::timeout(2000 * MS, guard.lost()).await.unwrap();
        assert!(matches!(lost, LeaseLost::Expired { last: Some(_) }), "{lost:?}");
        // Back again, it is still lost: nobody may write on a lease that was given up.
        world.store.lock().unwrap().trouble = None;
        tokio::time::sleep(500 * MS).await;
        assert_eq!(guard.check(), Err(lost));
    }
}

#[tokio::test]
async fn a_short_outage_is_survived() {
    let world = World::new(None).await;
    let guard = world.acquire(config()).await.unwrap();
    world.trouble(Trouble::Down);
    tokio::time::sleep(700 * MS).await;
    world.store.lock().unwrap().trouble = None;
    tokio::time::sleep(2000 * MS).await;
    guard.check().unwrap();
}

#[tokio::test]
async fn labels_of_others_on_the_lease_are_kept() {
    let world = World::new(None).await;
    let guard = world.acquire(config()).await.unwrap();
    for _ in 0..3 {
        world.store.lock().unwrap().edit(|lease| lease["metadata"]["labels"] = json!({ "a": "b" }));
        tokio::time::sleep(800 * MS).await;
    }
    guard.check().unwrap();
    assert_eq!(world.store.lock().unwrap().lease.as_ref().unwrap()["metadata"]["labels"]["a"], "b");
    world.store.lock().unwrap().edit(|lease| lease["metadata"]["labels"] = json!({ "a": "c" }));
    guard.release().await.unwrap();
    assert_eq!(world.record().holder, None);
}

#[tokio::test]
async fn a_lease_is_deleted_only_while_it_is_ours() {
    let world = World::new(None).await;
    let guard = world.acquire(config()).await.unwrap();
    let fence = guard.fence();
    // Labelled since it was read: the first try meets a conflict.
    world.store.lock().unwrap().edit(|lease| lease["metadata"]["labels"] = json!({ "a": "b" }));
    guard.delete().await.unwrap();
    assert!(world.store.lock().unwrap().lease.is_none());
    assert_eq!(fence.check(), Err(LeaseLost::Released));

    let guard = world.acquire(config()).await.unwrap();
    world.trouble(Trouble::LostAnswer);
    guard.delete().await.unwrap();
    assert!(world.store.lock().unwrap().lease.is_none());

    let guard = world.acquire(config()).await.unwrap();
    world.store.lock().unwrap().edit(|lease| lease["spec"]["holderIdentity"] = json!("rival"));
    guard.delete().await.unwrap();
    assert_eq!(world.record().holder.as_deref(), Some("rival"));
}

#[tokio::test]
async fn a_lost_response_is_recognized_as_our_own_write() {
    let world = World::new(Some(held_by(""))).await;
    world.trouble(Trouble::LostAnswer);
    let guard = world.acquire(config()).await.unwrap();
    assert_eq!(world.record().transitions, 5, "taken once, not twice");
    world.trouble(Trouble::LostAnswer);
    tokio::time::sleep(2400 * MS).await;
    guard.check().unwrap();
    world.trouble(Trouble::LostAnswer);
    // The answer to the release got lost, not the release.
    assert!(guard.release().await.is_err());
    assert_eq!(world.record().holder, None);
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for_until_the_timeout() {
    let world = World::new(None).await;
    world.trouble(Trouble::Down);
    let start = Instant::now();
    let error = world.acquire(LeaseConfig { wait: 500 * MS, ..config() }).await.err().unwrap();
    assert!(matches!(error, LeaseError::Request { .. }), "{error:?}");
    assert!(start.elapsed() < 1500 * MS);

    let store = Arc::clone(&world.store);
    tokio::spawn(async move {
        tokio::time::sleep(300 * MS).await;
        store.lock().unwrap().trouble = None;
    });
    world.acquire(config()).await.unwrap();
}

//! Nobody's create is refused while the pods behind the webhooks are replaced. Needs a node with the real controllers.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::admission_load::{Call, Tally};
use trainerd_integration::stack::{NAMESPACE, QUICK, deployment, node};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The longest that webhooks may delay a call: people wait for it.
const LONGEST: Duration = Duration::from_secs(2);
/// Refused calls that are shown, and slow ones.
const SHOWN: usize = 20;
/// What one of a hundred calls without webhooks takes on a machine that is too busy: a webhook is four hops more, and the
/// API server waits for it for no more than ten seconds.
const BUSY: Duration = Duration::from_millis(500);
/// From when on a call is slow.
const SLOW: Duration = Duration::from_secs(1);
/// How often the upgrade and the way back run; once without it.
const ROUNDS: &str = "TRAINERD_ADMISSION_ROUNDS";
/// Until the pods that were replaced last have ended: what happens to calls meanwhile counts, too.
const ENDING: Duration = Duration::from_secs(25);
/// Until controllers are back: a pod is started and ready.
const BACK: Duration = Duration::from_mins(1);

const TRAINER: &str = "kubeflow-trainer-controller-manager";
const JOBSET: &str = "jobset-controller-manager";
/// The image of another version of the controller stands for one that was patched.
const IMAGE: &str = "registry.k8s.io/jobset/jobset:v0.12.0";

/// What is done while calls continue, and when it began.
struct Scenario<'c> {
    cluster: &'c TestCluster,
    start: Instant,
    acts: Vec<(String, u128)>,
}

impl Scenario<'_> {
    fn act(&mut self, what: &str, act: impl FnOnce(&TestCluster) -> Result) -> Result {
        let began = Instant::now();
        self.acts.push((what.to_owned(), self.start.elapsed().as_millis()));
        act(self.cluster)?;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f32());
        Ok(())
    }

    /// What continued when a call was sent.
    fn during(&self, call: &Call) -> String {
        let millis = call.at.as_millis();
        let began = self.acts.iter().rev().find(|(_, began)| *began <= millis);
        began.map_or("before anything".to_owned(), |(what, began)| {
            format!("{} ms into {what:?}", millis - began)
        })
    }

    fn judge(&self, tally: &Tally) {
        println!("{tally}");
        // Those of one cause come by the dozen.
        for call in tally.refused().take(SHOWN) {
            let why = call.refused.as_deref().unwrap_or_default();
            println!("refused: {} after {:?}, {}: {why}", call.kind, call.took, self.during(call));
        }
        let mut slow: Vec<&Call> = tally.calls().filter(|call| call.took >= SLOW).collect();
        slow.sort_by_key(|call| std::cmp::Reverse(call.took));
        for call in slow.into_iter().take(SHOWN) {
            let delay = tally.delay(call);
            println!(
                "slow: {} took {:?}, {delay:?} of it for webhooks, {}",
                call.kind,
                call.took,
                self.during(call)
            );
        }
        assert_eq!(tally.answered().len(), 2, "both kinds are asked for");
        let baseline = tally.baseline();
        if baseline > BUSY {
            println!(
                "skipped: this machine is too busy to tell: without webhooks, too, calls took {baseline:?}"
            );
            return;
        }
        assert_eq!(tally.refused().count(), 0, "calls were refused");
        assert_eq!(tally.delayed(LONGEST).count(), 0, "webhooks delayed calls by {LONGEST:?} or more");
    }
}

fn run(cluster: &TestCluster, arguments: &[&str]) -> Result {
    cluster.run(&[arguments, &["--yes", "--timeout", "5m"]].concat())?.expect_code(0)?;
    Ok(())
}

/// Somebody changes a field of a Deployment, as `kubectl edit` or `kubectl scale` does.
fn edit(cluster: &TestCluster, name: &str, path: &str, value: &Value) -> Result {
    let edit = json!([{"op": "add", "path": path, "value": value}]);
    cluster.block_on(cluster.api().patch_json(&deployment(), Some(NAMESPACE), name, &edit))?;
    Ok(())
}

fn is_available(cluster: &TestCluster, name: &str) -> Result<bool, trainerd_integration::Error> {
    let found = cluster.get(&deployment(), NAMESPACE, name)?.unwrap_or_default();
    let status = &found["status"];
    Ok(status["observedGeneration"] == found["metadata"]["generation"]
        && ["updatedReplicas", "availableReplicas", "replicas"].iter().all(|count| status[count] == 1))
}

#[test]
fn no_create_is_refused_while_pods_behind_webhooks_are_replaced() -> Result {
    let cluster = TestCluster::take()?;
    if cluster.is_local() || cluster.list(&node(), None)?.is_empty() {
        println!("skipped: it needs a node that runs the real controllers");
        return Ok(());
    }
    cluster.install("2.2.1", &[])?;
    let calls = cluster.call_admission();
    let mut scenario = Scenario { cluster: &cluster, start: Instant::now(), acts: Vec::new() };
    let told = tell(&mut scenario);
    std::thread::sleep(ENDING);
    let tally = calls.end();
    told?;
    scenario.judge(&tally);
    Ok(())
}

fn tell(scenario: &mut Scenario<'_>) -> Result {
    let rounds = std::env::var(ROUNDS).ok().and_then(|text| text.parse().ok()).unwrap_or(1_u32);
    for _ in 0..rounds {
        scenario.act("upgrade to 2.3.0", |cluster| run(cluster, &["upgrade", "--to", "trainer=2.3.0"]))?;
        scenario.act("rollback to 2.2.1", |cluster| run(cluster, &["rollback", "--allow", "lossy"]))?;
    }
    let image = format!("jobset-image={IMAGE}");
    let bump = [&["up", "--set", "trainer-version=2.2.1", "--set", &image][..], &QUICK].concat();
    scenario.act("another image", |cluster| run(cluster, &bump))?;

    let options = scenario.cluster.folder().join("options.yaml");
    let text = format!("trainer-version: 2.2.1\nsmall-footprint: true\nsettle: 0\njobset-image: {IMAGE}\n");
    std::fs::write(&options, text)?;
    let mut daemon = scenario.cluster.daemon("daemon", &["--config", &options.to_string_lossy()])?;
    daemon.wait_until_settled(Duration::from_mins(1))?;
    for (what, path, value) in [
        ("somebody scales the controllers to 0, and it is repaired", "/spec/replicas", json!(0)),
        (
            "somebody changes their pods, and it is repaired",
            "/spec/template/spec/containers/0/args",
            json!(["--config=/controller_manager_config.yaml", "--zap-log-level=3"]),
        ),
    ] {
        scenario.act(what, |cluster| {
            for name in [TRAINER, JOBSET] {
                edit(cluster, name, path, &value)?;
            }
            for name in [TRAINER, JOBSET] {
                cluster.wait_until("the controllers to be back", BACK, || is_available(cluster, name))?;
            }
            Ok(())
        })?;
    }
    // Its options rule no more: whoever clears the cluster may.
    drop(daemon);
    scenario.cluster.run(&["pause"])?.expect_code(0)?;
    Ok(())
}

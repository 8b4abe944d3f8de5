//! Steps about units that have pods, and about TrainJobs that run.

use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::builtin::pod as pods;

use super::{Runner, StepResult, check};
use crate::charm::{Unit, pod};
use crate::{Error, stack};

/// Time limit for a TrainJob's pods to run or to be deleted.
const JOB_TIMEOUT: Duration = Duration::from_mins(2);

impl Runner<'_> {
    /// Steps about pods; `None` for other steps.
    pub(super) fn pod_step(&mut self, verb: &str, words: &[&str]) -> Result<Option<StepResult>, Error> {
        match (verb, words) {
            ("deploy", []) => pod::deploy(self.cluster, &self.unit.world.application)?,
            ("scale", [units]) => match units.parse() {
                Ok(units) => self.scale(units)?,
                Err(_) => return Ok(Some(Err("scale UNITS".to_owned()))),
            },
            ("unit", [number]) => return Ok(Some(self.select_unit(number))),
            // The StatefulSet replaces it.
            ("pod", ["goes"]) => {
                self.unit.pod()?.delete()?;
                self.unit.prepare_pod()?;
            }
            ("juju", ["status"]) => self.show(),
            ("job", [name, "sleeps", seconds]) => {
                let mut job = stack::a_train_job(name);
                job["spec"]["trainer"] = json!({"command": ["/sleep-train"], "args": [seconds]});
                self.cluster.create(&stack::train_job(), &job)?;
            }
            ("job-runs", [name]) => {
                let runs =
                    || Ok(self.find_job_pod(name)?.is_some_and(|pod| pod["status"]["phase"] == "Running"));
                self.cluster.wait_until("a TrainJob to run", JOB_TIMEOUT, runs)?;
                self.job_pod = self.pod_identity(name)?;
            }
            ("job-undisturbed", [name]) => {
                let now = self.pod_identity(name)?;
                let before = self.job_pod.clone();
                let holds = check(!now.is_null() && now == before, || format!("{before} became {now}"));
                return Ok(Some(holds));
            }
            ("job-goes", [name]) => {
                self.cluster.delete(&stack::train_job(), "default", name)?;
                let gone = || Ok(self.find_job_pod(name)?.is_none());
                self.cluster.wait_until("a TrainJob's pods to go", JOB_TIMEOUT, gone)?;
            }
            _ => return Ok(None),
        }
        Ok(Some(Ok(())))
    }

    /// Scales the application: the last units are removed first, and new ones start without state.
    fn scale(&mut self, units: usize) -> Result<(), Error> {
        let application = self.unit.world.application.clone();
        pod::scale(self.cluster, &application, units)?;
        self.select_unit("0").ok();
        let had = self.others.len() + usize::from(self.unit.pod()?.exists());
        for unit in self.others.iter_mut().filter(|unit| unit.world.number >= units) {
            unit.pod()?.wait_until_deleted()?;
        }
        self.others.retain(|unit| unit.world.number < units);
        if units == 0 {
            self.unit.pod()?.wait_until_deleted()?;
            // A later unit of that name starts without state.
            let mut fresh = Unit::in_pod(self.cluster, self.programs, &application, 0)?;
            fresh.world.copy_shared(&self.unit.world);
            self.unit = fresh;
        }
        let known: serde_json::Map<String, Value> =
            (0..units).map(|number| (format!("{application}/{number}"), "active".into())).collect();
        self.unit.world.content["units"] = known.into();
        for number in had..units {
            if number == 0 {
                self.unit.prepare_pod()?;
                continue;
            }
            let mut unit = Unit::in_pod(self.cluster, self.programs, &application, number)?;
            unit.world.copy_shared(&self.unit.world);
            unit.prepare_pod()?;
            self.others.push(unit);
        }
        Ok(())
    }

    /// Selects the unit that later steps are about.
    fn select_unit(&mut self, number: &str) -> StepResult {
        let is_it = |unit: &Unit<'_>| unit.world.number.to_string() == number;
        if is_it(&self.unit) {
            return Ok(());
        }
        let Some(other) = self.others.iter_mut().find(|unit| is_it(unit)) else {
            return Err(format!("there is no unit {number}"));
        };
        other.world.copy_shared(&self.unit.world);
        std::mem::swap(&mut self.unit, other);
        self.noticed.clear();
        Ok(())
    }

    /// What `juju status` shows.
    fn show(&mut self) {
        let application = &self.unit.world.application;
        let shown = |(word, message): (String, String)| format!("{word:<11}  {message}");
        let mut units: Vec<&Unit<'_>> = self.others.iter().chain([&self.unit]).collect();
        units.sort_by_key(|unit| unit.world.number);
        let leader = |unit: &Unit<'_>| if unit.world.content["leader"][0] == true { "*" } else { " " };
        let version = units.iter().find_map(|unit| unit.world.content["version"].as_str());
        let mut lines = vec![
            format!("    App                  Version  Status       Scale {}  Message", units.len()),
            format!(
                "    {application:<19}  {:<7}  {}",
                version.unwrap_or_default(),
                shown(self.unit.world.status("app-status"))
            ),
            "    Unit                          Workload     Message".to_owned(),
        ];
        lines.extend(units.iter().map(|unit| {
            let name = format!("{application}/{}{}", unit.world.number, leader(unit));
            format!("    {name:<28}  {}", shown(unit.world.status("unit-status")))
        }));
        self.transcript.extend(lines.iter().map(|line| line.trim_end().to_owned()));
    }

    /// The pod of a TrainJob.
    fn find_job_pod(&self, name: &str) -> Result<Option<Value>, Error> {
        let selector = format!("jobset.sigs.k8s.io/jobset-name={name}");
        Ok(self.cluster.list(&pods(), Some(&selector))?.into_iter().next())
    }

    /// UID, phase and restarts of a TrainJob's pod.
    fn pod_identity(&self, name: &str) -> Result<Value, Error> {
        let Some(pod) = self.find_job_pod(name)? else { return Ok(Value::Null) };
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        Ok(json!([pod["metadata"]["uid"], pod["status"]["phase"], restarts]))
    }
}

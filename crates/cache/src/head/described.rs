//! The plan as people and programs read it.

use serde_json::{Value, json};

use super::Planned;
use crate::plan::range::Range;
use crate::store::redacted_path;

/// Units of one answer: far below what a message may hold.
const UNITS: usize = 1000;

/// What the plan is of, and then its units in the order of the index.
pub(super) fn plan(planned: &Planned) -> Vec<Value> {
    let workers = planned.assignment.workers().iter().map(|worker| {
        let range = worker.rows.map(|rows| [rows.start, rows.end]);
        json!({"worker": worker.id, "rows": worker.rows.map_or(0, Range::len), "range": range})
    });
    let fields = planned.dataset.schema.fields().iter();
    let columns = fields.map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}));
    let about = json!({
        "planId": planned.dataset.plan.id().to_string(),
        "snapshot": planned.dataset.snapshot,
        "rows": planned.dataset.plan.rows(),
        "units": planned.units.len(),
        "columns": columns.collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
    });
    let units = planned.units.chunks(UNITS).map(|units| {
        let units = units.iter().map(|(number, placed)| {
            json!({
                "unit": number,
                "path": redacted_path(&placed.unit.path),
                "rowGroup": placed.unit.row_group,
                "rows": placed.unit.rows,
                "firstIndex": placed.first_index,
                "worker": placed.owner,
            })
        });
        units.collect()
    });
    std::iter::once(about).chain(units).collect()
}

//! What a client is told: which worker has which of its rows.

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket as FlightTicket};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::{Address, Planned};
use crate::access::Access;
use crate::config::{Compatibility, Config, Failover};
use crate::plan::options::{Options, Order};
use crate::plan::range::{self, Range, Split, partition};
use crate::plan::shuffle::{Shuffle, batches};
use crate::plan::ticket::{Extension, Ticket, pairs, range_bytes};
use crate::source;

/// A client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    partition: u64,
    partitions: u64,
    options: Options,
    /// Whether there was any option: a bare request is answered as upstream would.
    is_bare: bool,
}

impl Request {
    /// Reads a descriptor's path: partition, number of partitions, options. The checks come in upstream's order.
    pub(super) fn read(descriptor: &FlightDescriptor) -> Result<Self, Status> {
        let mut path = descriptor.path.iter();
        let partition = path.next().ok_or_else(|| Status::invalid_argument("Missing local_rank in path"))?;
        let partitions = path.next().ok_or_else(|| Status::invalid_argument("Missing total in path"))?;
        let partitions = partitions.parse().map_err(|_| Status::invalid_argument("Invalid total value"))?;
        let partition =
            partition.parse().map_err(|_| Status::invalid_argument("Invalid local_rank value"))?;
        let rest: Vec<&String> = path.collect();
        let options = Options::parse(&rest).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Self { partition, partitions, options, is_bare: rest.is_empty() })
    }
}

/// The FlightInfo for a request.
pub(super) fn answer(
    (config, access): (&Config, &Access),
    planned: &Planned,
    (workers, up): (&[Address], &[bool]),
    request: &Request,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let rows = planned.dataset.plan.rows();
    let options = &request.options;
    let columns = source::select(&planned.dataset.schema, &options.columns)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let schema = planned.dataset.schema.project(&columns);
    let schema = schema.map_err(|error| Status::internal(format!("failed to choose columns: {error}")))?;
    let (positions, stride) = positions(options, rows, request)?;
    let is_over = positions.is_empty() && (options.split == Split::Range || rows == 0);
    if is_over || request.partition >= request.partitions {
        return Err(Status::out_of_range("Invalid partition range"));
    }
    let first = positions.first().map_or(0, |range| range.start);
    let positions = range::skip(positions, options.skip);
    let served = served(config.failover, planned, up)?;
    let whole = Range {
        start: positions.first().map_or(0, |range| range.start),
        end: positions.last().map_or(0, |range| range.end),
    };
    let shuffle = shuffle(options);
    let protocol = if config.tls.is_some() { "grpc+tls" } else { "grpc" };
    let mut info = FlightInfo::new()
        .try_with_schema(&schema)
        .map_err(|error| Status::internal(format!("failed to encode the schema: {error}")))?
        .with_descriptor(descriptor);
    for (number, (address, served)) in workers.iter().zip(served).enumerate() {
        if !has_rows(planned, shuffle, &positions, stride > 0, &served) {
            continue;
        }
        // Workers of upstream know no plan; a bare request to a bare assignment gets a bare ticket.
        let is_bare = request.is_bare && config.compatibility == Compatibility::Upstream;
        let extension = (!is_bare).then(|| Extension {
            plan_id: planned.dataset.plan.id().as_bytes().to_vec(),
            served: pairs(&served),
            // Of a strided partition the rule, not its many batches.
            positions: if stride > 0 { vec![first, rows - 1] } else { pairs(&positions) },
            stride,
            skip: if stride > 0 { options.skip } else { 0 },
            columns: options.columns.clone(),
            batch_rows: options.batch.unwrap_or_default(),
            shuffle: match options.order {
                Order::Canonical => 0,
                Order::Blocks => 1,
                Order::BlocksAndRows => 2,
            },
            block_rows: options.block,
            seed: options.seed,
            epoch: options.epoch,
            ..Extension::default()
        });
        let mut ticket = Ticket { range: whole, extension };
        access.sign(&mut ticket);
        let mut endpoint = FlightEndpoint::new()
            .with_ticket(FlightTicket::new(ticket.encode()))
            .with_location(format!("{protocol}://{address}"))
            .with_app_metadata(range_bytes(whole));
        // Every worker has the plan, and can serve any of its rows. Clients of upstream would read each location.
        let others = workers.iter().zip(up).enumerate();
        for (_, (other, _)) in
            others.filter(|(other, (_, is_up))| options.alternatives && **is_up && *other != number)
        {
            endpoint = endpoint.with_location(format!("{protocol}://{other}"));
        }
        info = info.with_endpoint(endpoint);
    }
    if config.compatibility == Compatibility::Upstream {
        return Ok(info.with_total_records(-1).with_total_bytes(-1));
    }
    let total: u64 = positions.iter().map(|range| range.len()).sum();
    let metadata =
        serde_json::json!({"planId": planned.dataset.plan.id().to_string(), "rows": rows, "version": 1});
    Ok(info
        .with_total_records(i64::try_from(total).unwrap_or(i64::MAX))
        .with_total_bytes(-1)
        .with_app_metadata(metadata.to_string()))
}

fn shuffle(options: &Options) -> Option<Shuffle> {
    let inside = match options.order {
        Order::Canonical => return None,
        Order::Blocks => false,
        Order::BlocksAndRows => true,
    };
    Some(Shuffle { block_rows: options.block, inside, seed: options.seed, epoch: options.epoch })
}

/// The positions of a partition, and their stride where they are batches.
fn positions(options: &Options, rows: u64, request: &Request) -> Result<(Vec<Range>, u64), Status> {
    let (number, partitions) = (request.partition, request.partitions);
    let Some(batch) = options.batch.filter(|_| options.split == Split::Strided && number < partitions) else {
        return Ok((partition(options.split, rows, number, partitions), 0));
    };
    let stride = batch.saturating_mul(partitions);
    let first = batch.saturating_mul(number).saturating_add(options.start);
    let ranges = range::strided(rows, first, stride, batch).ok_or_else(|| {
        let most = range::MOST_BATCHES;
        Status::invalid_argument(format!(
            "option batch is too small: there would be more than {most} batches"
        ))
    })?;
    Ok((ranges, stride))
}

/// For each worker the rows that it serves now: its own, and its share of those whose owners are down.
fn served(failover: Failover, planned: &Planned, up: &[bool]) -> Result<Vec<Vec<Range>>, Status> {
    let is_up =
        |owner: u32| usize::try_from(owner).ok().and_then(|owner| up.get(owner)).copied().unwrap_or(false);
    let down = planned.units.iter().find(|(_, placed)| placed.unit.rows > 0 && !is_up(placed.owner));
    if let Some((_, placed)) = down
        && (failover == Failover::None || !up.contains(&true))
    {
        return Err(Status::unavailable(format!("worker {} is down", placed.owner)));
    }
    let mut served: Vec<Vec<Range>> = vec![Vec::new(); up.len()];
    for (number, placed) in &planned.units {
        if placed.unit.rows == 0 {
            continue;
        }
        let worker = if is_up(placed.owner) { Some(placed.owner) } else { stand_in(*number, up) };
        let Some(ranges) = worker.and_then(|worker| served.get_mut(usize::try_from(worker).ok()?)) else {
            continue;
        };
        let end = placed.first_index + placed.unit.rows - 1;
        match ranges.last_mut() {
            Some(last) if last.end + 1 == placed.first_index => last.end = end,
            _ => ranges.push(Range { start: placed.first_index, end }),
        }
    }
    Ok(served)
}

/// Who serves a unit whose owner is down, by rendezvous hashing: each live worker draws a number for the unit, and the
/// highest wins. So another worker that goes or comes moves only its own units.
fn stand_in(unit: u32, up: &[bool]) -> Option<u32> {
    let draw = |worker: u32| -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(unit.to_le_bytes());
        digest.update(worker.to_le_bytes());
        digest.finalize().into()
    };
    let live = (0..).zip(up).filter(|(_, is_up)| **is_up).map(|(worker, _)| worker);
    live.max_by_key(|worker| draw(*worker))
}

/// Whether any of the positions is served.
fn has_rows(
    planned: &Planned,
    shuffle: Option<Shuffle>,
    positions: &[Range],
    strided: bool,
    served: &[Range],
) -> bool {
    let meets = |rows: Range| served.iter().any(|own| own.intersection(rows).is_some());
    let (id, rows) = (planned.dataset.plan.id(), planned.dataset.plan.rows());
    if strided {
        let anchors = batches(shuffle, id, rows, positions).into_iter().map(|(anchor, _)| anchor);
        return anchors.into_iter().any(|anchor| meets(Range { start: anchor, end: anchor }));
    }
    match shuffle {
        None => positions.iter().any(|range| meets(*range)),
        Some(shuffle) => {
            positions.iter().any(|range| shuffle.runs(id, rows, *range).iter().any(|run| meets(run.rows)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &[&str]) -> Result<Request, (tonic::Code, String)> {
        let path = path.iter().map(|element| (*element).to_owned()).collect();
        Request::read(&FlightDescriptor::new_path(path))
            .map_err(|status| (status.code(), status.message().to_owned()))
    }

    #[test]
    fn paths_are_refused_with_upstreams_words() {
        let refused = |text: &str| Err((tonic::Code::InvalidArgument, text.to_owned()));
        assert_eq!(request(&[]), refused("Missing local_rank in path"));
        assert_eq!(request(&["x"]), refused("Missing total in path"));
        assert_eq!(request(&["x", "y"]), refused("Invalid total value"));
        for bad in ["x", "-1", " 1", "1.0"] {
            assert_eq!(request(&[bad, "2"]), refused("Invalid local_rank value"));
        }
        assert_eq!(request(&["+1", "2"]).unwrap().partition, 1);
        assert!(request(&["0", "2"]).unwrap().is_bare);
        assert_eq!(request(&["0", "2", "batch=x"]).unwrap_err().0, tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_worker_that_goes_moves_only_its_own_units() {
        let all = [true, true, true, false];
        let fewer = [true, false, true, false];
        for unit in 0..200 {
            let before = stand_in(unit, &all);
            let after = stand_in(unit, &fewer);
            assert!(before == after || before == Some(1));
            assert_ne!(after, Some(3));
        }
        assert_eq!(stand_in(0, &[false, false]), None);
    }
}

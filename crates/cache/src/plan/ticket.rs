//! What a client carries from the head to a worker.
//!
//! A ticket begins with two unsigned integers, the first and the last row of the range that was asked for, in the
//! variable-length form that upstream's clients and workers read. What is appended behind them is ours; upstream's
//! reader ignores it, and a ticket without it stays valid.

use prost::Message as _;

use super::identity::PlanId;
use super::range::{self, Range};

/// Marks what is ours behind the two integers.
const MARK: &[u8] = b"TDC1";

/// A ticket that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid ticket format")]
pub struct Invalid;

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The whole range that was asked for, not only the part on this worker.
    pub range: Range,
    /// What our head adds.
    pub extension: Option<Extension>,
}

/// What our head appends: which plan, and how it is to be served.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    /// The plan's identity, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub plan_id: Vec<u8>,
    /// Which rows this worker serves: pairs of first and last index.
    #[prost(uint64, repeated, tag = "2")]
    pub served: Vec<u64>,
    /// Columns, in source order; all where empty.
    #[prost(string, repeated, tag = "3")]
    pub columns: Vec<String>,
    /// Exact rows of a batch; 0 where the worker chooses.
    #[prost(uint64, tag = "4")]
    pub batch_rows: u64,
    /// How rows are shuffled: 0 not at all, 1 by block, 2 by block and inside blocks.
    #[prost(uint32, tag = "5")]
    pub shuffle: u32,
    /// Rows of a block.
    #[prost(uint64, tag = "6")]
    pub block_rows: u64,
    /// Seed of the shuffle.
    #[prost(uint64, tag = "7")]
    pub seed: u64,
    /// Epoch of the shuffle.
    #[prost(uint64, tag = "8")]
    pub epoch: u64,
    /// Seconds since 1970 after which the ticket is refused; 0 for never.
    #[prost(uint64, tag = "9")]
    pub expires: u64,
    /// Which positions the partition reads, in this order: pairs of first and last.
    #[prost(uint64, repeated, tag = "11")]
    pub positions: Vec<u64>,
    /// Where it is not 0, only batches of `batch_rows` at each so many positions are read.
    #[prost(uint64, tag = "12")]
    pub stride: u64,
    /// Rows that are left out at the beginning of strided ones.
    #[prost(uint64, tag = "13")]
    pub skip: u64,
    /// HMAC-SHA256 over everything before it, where the cluster has a token.
    #[prost(bytes = "vec", tag = "10")]
    pub signature: Vec<u8>,
}

impl Extension {
    /// Which plan the ticket is for.
    pub fn plan(&self) -> Result<PlanId, Invalid> {
        PlanId::from_bytes(&self.plan_id).map_err(|_| Invalid)
    }

    /// Which rows this worker serves, by index.
    pub fn served(&self) -> Result<Vec<Range>, Invalid> {
        ranges(&self.served)
    }

    /// Which positions are read, in this order.
    pub fn positions(&self) -> Result<Vec<Range>, Invalid> {
        let positions = ranges(&self.positions)?;
        if self.stride == 0 {
            return Ok(positions);
        }
        let [all] = positions.as_slice() else { return Err(Invalid) };
        let rows = all.end.checked_add(1).ok_or(Invalid)?;
        let batches = range::strided(rows, all.start, self.stride, self.batch_rows).ok_or(Invalid)?;
        Ok(range::skip(batches, self.skip))
    }
}

/// Pairs of first and last.
fn ranges(numbers: &[u64]) -> Result<Vec<Range>, Invalid> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    let ranges: Vec<Range> = pairs.iter().map(|[start, end]| Range { start: *start, end: *end }).collect();
    if rest.is_empty() && !ranges.iter().any(|range| range.is_empty()) { Ok(ranges) } else { Err(Invalid) }
}

/// Ranges as a ticket has them.
pub fn pairs(ranges: &[Range]) -> Vec<u64> {
    ranges.iter().flat_map(|range| [range.start, range.end]).collect()
}

impl Ticket {
    /// The bytes that a client carries.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = range_bytes(self.range);
        if let Some(extension) = &self.extension {
            bytes.extend_from_slice(MARK);
            bytes.extend(extension.encode_to_vec());
        }
        bytes
    }

    /// From the bytes that a client brought.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut rest = bytes;
        let start = decode_integer(&mut rest)?;
        let end = decode_integer(&mut rest)?;
        let extension = match rest.strip_prefix(MARK) {
            Some(ours) => Some(Extension::decode(ours).map_err(|_| Invalid)?),
            // Upstream's reader ignores what follows; so do we, where it is not ours.
            None => None,
        };
        Ok(Self { range: Range { start, end }, extension })
    }
}

/// The two integers alone: an endpoint's metadata carries them, too.
pub fn range_bytes(range: Range) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    encode_integer(&mut bytes, range.start);
    encode_integer(&mut bytes, range.end);
    bytes
}

/// One byte below 251; else a mark and two, four or eight bytes, the lowest first.
fn encode_integer(bytes: &mut Vec<u8>, number: u64) {
    if let Ok(short @ ..251) = u8::try_from(number) {
        bytes.push(short);
    } else if let Ok(number) = u16::try_from(number) {
        bytes.push(0xFB);
        bytes.extend(number.to_le_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        bytes.push(0xFC);
        bytes.extend(number.to_le_bytes());
    } else {
        bytes.push(0xFD);
        bytes.extend(number.to_le_bytes());
    }
}

/// Forms that are longer than they need to be are read, too.
fn decode_integer(bytes: &mut &[u8]) -> Result<u64, Invalid> {
    let (mark, rest) = bytes.split_first().ok_or(Invalid)?;
    let width = match mark {
        ..251 => 0,
        0xFB => 2,
        0xFC => 4,
        0xFD => 8,
        _ => return Err(Invalid),
    };
    let (digits, rest) = rest.split_at_checked(width).ok_or(Invalid)?;
    *bytes = rest;
    if width == 0 {
        return Ok(u64::from(*mark));
    }
    let mut number = [0; 8];
    number[..width].copy_from_slice(digits);
    Ok(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_the_bytes_of_the_contract() {
        let cases: [(u64, u64, &[u8]); 5] = [
            (0, 24, &[0x00, 0x18]),
            (250, 251, &[0xFA, 0xFB, 0xFB, 0x00]),
            (0, 65535, &[0x00, 0xFB, 0xFF, 0xFF]),
            (65535, 65536, &[0xFB, 0xFF, 0xFF, 0xFC, 0x00, 0x00, 0x01, 0x00]),
            (
                4_294_967_295,
                4_294_967_296,
                &[0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFD, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00],
            ),
        ];
        for (start, end, bytes) in cases {
            let ticket = Ticket { range: Range { start, end }, extension: None };
            assert_eq!(ticket.encode(), bytes);
            assert_eq!(Ticket::decode(bytes), Ok(ticket));
        }
    }

    #[test]
    fn longer_forms_and_what_follows_are_read_and_what_is_cut_is_refused() {
        let five = Ticket { range: Range { start: 5, end: 5 }, extension: None };
        assert_eq!(Ticket::decode(&[0xFB, 5, 0, 5]), Ok(five.clone()));
        assert_eq!(Ticket::decode(&[5, 5, 1, 2, 3]), Ok(five));
        for bad in [&[][..], &[5], &[0xFE, 5], &[5, 0xFF], &[0xFB, 5], &[5, 0xFD, 0, 0]] {
            assert_eq!(Ticket::decode(bad), Err(Invalid), "{bad:?}");
        }
    }

    #[test]
    fn what_is_appended_is_read_back_and_upstreams_reader_sees_two_integers() {
        let extension = Extension {
            plan_id: vec![7; 16],
            served: vec![0, 9, 40, 49],
            columns: vec!["a".into()],
            batch_rows: 128,
            ..Extension::default()
        };
        let ticket = Ticket { range: Range { start: 0, end: 300 }, extension: Some(extension.clone()) };
        let bytes = ticket.encode();
        assert_eq!(Ticket::decode(&bytes), Ok(ticket));
        assert!(bytes.starts_with(&range_bytes(Range { start: 0, end: 300 })));
        assert_eq!(extension.plan().unwrap().as_bytes(), &[7; 16]);
        assert_eq!(extension.served().unwrap(), [Range { start: 0, end: 9 }, Range { start: 40, end: 49 }]);
        assert_eq!(Extension { served: vec![3, 2], ..extension.clone() }.served(), Err(Invalid));
        assert_eq!(Extension { positions: vec![3], ..extension.clone() }.positions(), Err(Invalid));
        assert_eq!(Extension { plan_id: vec![1], ..extension }.plan(), Err(Invalid));
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(Ticket::decode(cut), Err(Invalid));
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise() {
        let mut random = 1_u64;
        for _ in 0..100_000 {
            let mut bytes = Vec::new();
            loop {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let byte = random.to_be_bytes()[0];
                bytes.push(byte);
                if byte < 16 {
                    break;
                }
            }
            if let Ok(ticket) = Ticket::decode(&bytes) {
                assert_eq!(Ticket::decode(&ticket.encode()), Ok(ticket));
            }
            let marked = [&[1, 2][..], MARK, &bytes].concat();
            if let Ok(Ticket { extension: Some(extension), .. }) = Ticket::decode(&marked) {
                let _ = (extension.plan(), extension.served(), extension.positions());
            }
        }
    }
}

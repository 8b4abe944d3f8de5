//! Which random runs are wanted.

use crate::Error;

/// The seeds that `TRAINERD_TORTURE_SEEDS=FIRST..END` names, of which `TRAINERD_TORTURE_PART=2/3` leaves the second of
/// three parts; `None` where nobody names any.
///
/// # Errors
/// A text of another form.
pub fn part_of_seeds() -> Result<Option<Vec<u64>>, Error> {
    let Ok(range) = std::env::var("TRAINERD_TORTURE_SEEDS") else { return Ok(None) };
    let part = std::env::var("TRAINERD_TORTURE_PART").unwrap_or_else(|_| "1/1".to_owned());
    let seeds = read(&range, &part);
    seeds.map(Some).ok_or_else(|| Error::Missing(format!("FIRST..END and PART/PARTS in {range:?}, {part:?}")))
}

fn read(range: &str, part: &str) -> Option<Vec<u64>> {
    let (first, end) = range.split_once("..")?;
    let (first, end): (u64, u64) = (first.parse().ok()?, end.parse().ok()?);
    let (part, parts) = part.split_once('/')?;
    let (part, parts): (usize, usize) = (part.parse().ok()?, parts.parse().ok()?);
    Some((first..end).skip(part.max(1) - 1).step_by(parts.max(1)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_every_nth_seed() {
        assert_eq!(read("3..9", "2/3"), Some(vec![4, 7]));
        assert_eq!(read("3..5", "1/1"), Some(vec![3, 4]));
        assert_eq!(read("3", "1/1"), None);
    }
}

//! Whether an example's logs say what they must.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Expect;

/// A line of logfmt with a rank, or one of torchtune's, whose only rank says its step instead.
#[derive(Debug)]
struct Line<'a> {
    rank: usize,
    ranks: usize,
    values: BTreeMap<&'a str, &'a str>,
}

/// What was seen, in one line.
///
/// # Errors
/// What was not seen, in one line.
pub(super) fn check(expect: &Expect, logs: &[String]) -> Result<String, String> {
    let lines: Vec<Line<'_>> = logs.iter().flat_map(|log| log.lines()).filter_map(read).collect();
    let mut seen = vec![ranks(expect, &lines)?];
    if let Some(part) = expect.loss_falls_to {
        seen.push(loss_falls(part, &lines)?);
    }
    if let Some(key) = expect.agree {
        let values: BTreeSet<&str> = of_every_rank(expect, key, &lines)?.into_values().collect();
        if values.len() != 1 {
            return Err(format!("ranks do not agree: {key} is {values:?}"));
        }
        seen.push(format!("ranks agree on {key}"));
    }
    if let Some((key, bound)) = expect.at_least {
        let mut least = f64::INFINITY;
        for value in of_every_rank(expect, key, &lines)?.into_values() {
            least = least.min(number(key, value)?);
        }
        if least < bound {
            return Err(format!("{key} {least} is less than {bound}"));
        }
        seen.push(format!("{key} {least}"));
    }
    if let Some((key, count)) = expect.distinct {
        let values: BTreeSet<&str> = lines.iter().filter_map(|line| line.values.get(key)).copied().collect();
        if values.len() != count {
            return Err(format!("{key} is told as {values:?}, not with {count} values"));
        }
        seen.push(format!("{count} of {key}"));
    }
    if let Some((key, near, distance)) = expect.sum_near {
        let mut sum = 0.0;
        for value in lines.iter().filter_map(|line| line.values.get(key)) {
            sum += number(key, value)?;
        }
        if (sum - near).abs() > distance {
            return Err(format!("{key} {sum} is not within {distance} of {near}"));
        }
        seen.push(format!("{key} {sum:.5}"));
    }
    if let Some((key, wanted, count)) = expect.each {
        let told: Vec<&str> = lines.iter().filter_map(|line| line.values.get(key)).copied().collect();
        if let Some(other) = told.iter().find(|value| **value != wanted) {
            return Err(format!("{key} is {other}, not {wanted}"));
        }
        if told.len() != count {
            return Err(format!("{key} is told {} times, not {count}", told.len()));
        }
        seen.push(format!("{count} times {key} {wanted}"));
    }
    if let Some(text) = expect.says
        && !logs.iter().any(|log| log.contains(text))
    {
        return Err(format!("no log says {text:?}"));
    }
    Ok(seen.join(", "))
}

fn read(line: &str) -> Option<Line<'_>> {
    read_logfmt(line).or_else(|| read_torchtune(line))
}

fn read_logfmt(line: &str) -> Option<Line<'_>> {
    let values: BTreeMap<&str, &str> =
        line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let (rank, ranks) = values.get("rank")?.split_once('/')?;
    Some(Line { rank: rank.parse().ok()?, ranks: ranks.parse().ok()?, values })
}

/// `Step 3 | loss:1.5 lr:0.001`, as its logger writes to standard output.
fn read_torchtune(line: &str) -> Option<Line<'_>> {
    let (step, values) = line.strip_prefix("Step ")?.split_once(" | ")?;
    step.parse::<usize>().ok()?;
    let values = values.split_whitespace().filter_map(|word| word.split_once(':')).collect();
    Some(Line { rank: 0, ranks: 1, values })
}

fn ranks(expect: &Expect, lines: &[Line<'_>]) -> Result<String, String> {
    let heard: BTreeSet<usize> = lines.iter().map(|line| line.rank).collect();
    let told: BTreeSet<usize> = lines.iter().map(|line| line.ranks).collect();
    let wanted: BTreeSet<usize> = (0..expect.ranks).collect();
    if heard != wanted || told != BTreeSet::from([expect.ranks]) {
        return Err(format!("heard of ranks {heard:?} of {told:?}, not of each of {}", expect.ranks));
    }
    Ok(if expect.ranks == 1 { "1 rank".to_owned() } else { format!("{} ranks", expect.ranks) })
}

fn loss_falls(part: f64, lines: &[Line<'_>]) -> Result<String, String> {
    let of_first = lines.iter().filter(|line| line.rank == 0);
    let losses: Vec<f64> = of_first
        .filter_map(|line| line.values.get("loss"))
        .map(|value| number("loss", value))
        .collect::<Result<_, _>>()?;
    let [first, .., last] = losses.as_slice() else {
        return Err(format!("{} losses told, not several", losses.len()));
    };
    // What is no number has not fallen.
    if last.is_nan() || *last > first * part {
        return Err(format!("loss went from {first} to {last}, not below {part} of it"));
    }
    Ok(format!("loss {first} → {last}"))
}

/// The last value that each rank tells of a key.
fn of_every_rank<'a>(
    expect: &Expect,
    key: &str,
    lines: &[Line<'a>],
) -> Result<BTreeMap<usize, &'a str>, String> {
    let told = lines.iter().filter_map(|line| Some((line.rank, *line.values.get(key)?)));
    let values: BTreeMap<usize, &str> = told.collect();
    if values.len() == expect.ranks {
        return Ok(values);
    }
    Err(format!("{key} is told by {} of {} ranks", values.len(), expect.ranks))
}

fn number(key: &str, value: &str) -> Result<f64, String> {
    value.parse().map_err(|_| format!("{key} is no number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAINED: Expect = Expect {
        ranks: 2,
        loss_falls_to: Some(0.5),
        agree: Some("weights"),
        at_least: Some(("accuracy", 0.9)),
        distinct: None,
        sum_near: None,
        each: None,
        says: None,
        command: &[],
    };

    fn logs(second: &str) -> Vec<String> {
        let first = "warning: rank and file\nrank=0/2 epoch=0 loss=0.7\nrank=0/2 epoch=1 loss=0.1\n\
                     rank=0/2 accuracy=0.95 weights=ab\n";
        vec![first.to_owned(), second.to_owned()]
    }

    #[test]
    fn a_successful_training_is_one_line() {
        let told = check(&TRAINED, &logs("rank=1/2 accuracy=0.93 weights=ab\n")).unwrap();
        assert_eq!(told, "2 ranks, loss 0.7 → 0.1, ranks agree on weights, accuracy 0.93");
    }

    #[test]
    fn each_missing_output_fails() {
        for (second, why) in [
            ("", "heard of ranks {0} of {2}, not of each of 2"),
            ("rank=1/3 accuracy=0.93 weights=ab", "heard of ranks {0, 1} of {2, 3}, not of each of 2"),
            ("rank=1/2 accuracy=0.93", "weights is told by 1 of 2 ranks"),
            ("rank=1/2 accuracy=0.93 weights=cd", "ranks do not agree: weights is {\"ab\", \"cd\"}"),
            ("rank=1/2 accuracy=0.5 weights=ab", "accuracy 0.5 is less than 0.9"),
            ("rank=1/2 accuracy=high weights=ab", "accuracy is no number: high"),
        ] {
            assert_eq!(check(&TRAINED, &logs(second)).unwrap_err(), why);
        }
    }

    #[test]
    fn a_loss_that_does_not_fall_or_is_no_number_fails() {
        for (last, fell) in [("0.3", true), ("0.6", false), ("nan", false)] {
            let log = format!("rank=0/1 loss=0.7\nrank=0/1 loss={last}\n");
            let expect = Expect { ranks: 1, agree: None, at_least: None, ..TRAINED };
            assert_eq!(check(&expect, &[log]).is_ok(), fell, "{last}");
        }
    }

    #[test]
    fn torchtunes_own_log_is_read() {
        let log =
            "1|2|Loss: 0.5: 50%\nStep 1 | loss:6.03 lr:0.002\nStep 2 | loss:0.5 lr:0.0 \nStep x | loss:9\n";
        let expect = Expect { ranks: 1, agree: None, at_least: None, ..TRAINED };
        assert_eq!(check(&expect, &[log.to_owned()]).unwrap(), "1 rank, loss 6.03 → 0.5");
    }

    #[test]
    fn fixed_outputs_are_compared() {
        let expect = Expect {
            loss_falls_to: None,
            agree: None,
            at_least: None,
            each: Some(("once", "64", 2)),
            says: Some("asking again"),
            ..TRAINED
        };
        let logs =
            |first: &str, second: &str| vec![format!("rank=0/2 once={first}"), format!("rank=1/2 {second}")];
        assert_eq!(check(&expect, &logs("64", "once=64\nasking again")).unwrap(), "2 ranks, 2 times once 64");
        for (first, second, why) in [
            ("63", "once=64\nasking again", "once is 63, not 64"),
            ("64", "asking again", "once is told 1 times, not 2"),
            ("64", "once=64", "no log says \"asking again\""),
        ] {
            assert_eq!(check(&expect, &logs(first, second)).unwrap_err(), why);
        }
    }

    #[test]
    fn parts_are_summed() {
        let expect = Expect {
            loss_falls_to: None,
            agree: None,
            at_least: None,
            sum_near: Some(("part", 3.0, 0.01)),
            ..TRAINED
        };
        let logs = |second: &str| vec!["rank=0/2 part=1".to_owned(), format!("rank=1/2 part={second}")];
        assert_eq!(check(&expect, &logs("2.001")).unwrap(), "2 ranks, part 3.00100");
        assert!(check(&expect, &logs("2.1")).is_err());
    }
}

//! The walls inside the program: the faces (command line, daemon, charm) do not know each other, and no rooms lean on
//! each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Which files may know a face from outside: the verbs that start it.
const DOORS: [(&str, &str); 2] = [("daemon", "cli/verbs/daemon.rs"), ("charm", "cli/verbs/charm.rs")];
const FACES: [&str; 3] = ["cli", "daemon", "charm"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What each file of `src` names of other rooms, tests aside: pairs of a file's path and a room.
fn uses() -> io::Result<Vec<(String, String)>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&source, &mut paths)?;
    let mut uses = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&source).unwrap_or(&path).display().to_string();
        // They belong to no room, or to all: where the program begins, and what only tests know.
        if name == "main.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for named in text.split("crate::").skip(1) {
            let room = named.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next();
            let room = room.unwrap_or_default();
            if room != room_of(&name) && !room.is_empty() {
                uses.push((name.clone(), room.to_owned()));
            }
        }
    }
    Ok(uses)
}

fn room_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

#[test]
fn the_faces_do_not_know_each_other() {
    let uses = uses().unwrap();
    assert!(uses.len() > 100, "{}", uses.len());
    let through_a_wall: Vec<_> = uses
        .iter()
        .filter(|(file, room)| {
            FACES.contains(&room.as_str()) && !DOORS.contains(&(room.as_str(), file.as_str()))
        })
        .collect();
    assert!(through_a_wall.is_empty(), "what two of them need belongs below them: {through_a_wall:?}");
}

#[test]
fn no_circle_crosses_a_room() {
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, room) in uses().unwrap() {
        below.entry(room_of(&file).to_owned()).or_default().insert(room);
    }
    // Take away rooms that lean on none that is left, until nothing is left, or only circles.
    while let Some(room) =
        below.iter().find(|(_, on)| on.iter().all(|on| !below.contains_key(on))).map(|(room, _)| room.clone())
    {
        below.remove(&room);
    }
    assert!(below.is_empty(), "these lean on each other: {below:?}");
}

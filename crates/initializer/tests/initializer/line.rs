//! A line with faults, and processes that are killed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::loopback::{command, kill, run, said, wrong};

/// A line to a server: it is slow, and connections break after some bytes.
pub(crate) struct Line {
    address: SocketAddr,
    pub(crate) brought: Arc<AtomicU64>,
}

/// What is wrong with a line.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) latency: Duration,
    pub(crate) pause: Duration,
    /// Bytes after which a connection breaks; half of them for every second one.
    pub(crate) cut: Option<usize>,
}

impl Line {
    pub(crate) fn start(server: SocketAddr, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let brought: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&brought);
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || connection(&client, server, faults, number, &counted));
            }
        });
        Self { address, brought }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn connection(client: &TcpStream, server: SocketAddr, faults: Faults, number: usize, brought: &AtomicU64) {
    let Ok(upstream) = TcpStream::connect(server) else { return };
    std::thread::sleep(faults.latency);
    let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
    });
    let cut = faults.cut.map(|cut| if number.is_multiple_of(2) { cut } else { cut / 2 });
    let mut passed = 0;
    let mut block = [0; 16 << 10];
    let (mut upstream, mut client) = (upstream, client);
    while let Ok(read) = upstream.read(&mut block) {
        if read == 0 || cut.is_some_and(|cut| passed > cut) || client.write_all(&block[..read]).is_err() {
            break;
        }
        passed += read;
        brought.fetch_add(read as u64, Ordering::Relaxed);
        std::thread::sleep(faults.pause);
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = upstream.shutdown(std::net::Shutdown::Both);
}

/// Kills the initializer at random instants, so often, and lets the last run end: no file is ever there that is not whole.
pub(crate) fn kill_often(variables: &[(&str, &str)], content: &BTreeMap<String, Bytes>, kills: u32) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut target = tempfile::tempdir().unwrap();
    let (mut killed, mut ended_by_itself) = (0, 0);
    while killed < kills {
        let mut child = command("dataset", target.path(), variables).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(0..500)));
        let ended = child.try_wait().unwrap();
        match ended {
            None => {
                kill(child);
                killed += 1;
            }
            Some(status) => assert!(status.success(), "seed {seed}: {status}"),
        }
        let found = wrong(target.path(), content, ended.is_some());
        assert!(found.is_empty(), "seed {seed}, kill {killed}: {found:?}");
        if ended.is_some() {
            ended_by_itself += 1;
            target = tempfile::tempdir().unwrap();
        }
    }
    let output = run("dataset", target.path(), variables);
    assert!(output.status.success(), "seed {seed}: {}", said(&output));
    assert_eq!(wrong(target.path(), content, true), Vec::<String>::new(), "seed {seed}");
    eprintln!("killed {killed} times; ended by itself {ended_by_itself} times in between");
}

//! A daemon of the product: a process that continues, with a socket, probes and a log.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Error;
use crate::cluster::TestCluster;

/// How long an answer may take: a status waits for what it is asked about.
const ANSWER: Duration = Duration::from_secs(90);

/// A daemon that runs; dropped, it is killed.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    health: SocketAddr,
    log: PathBuf,
}

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Body.
    pub body: String,
}

impl TestCluster {
    /// Starts a daemon, known by that name among the test's files, with these arguments.
    pub fn daemon(&self, name: &str, arguments: &[&str]) -> Result<Daemon, Error> {
        self.daemon_as(self.kubeconfig(), name, arguments)
    }

    /// Starts a daemon with a kubeconfig.
    pub fn daemon_as(&self, kubeconfig: &Path, name: &str, arguments: &[&str]) -> Result<Daemon, Error> {
        let socket = self.folder().join(format!("{name}.sock"));
        let log = self.folder().join(format!("{name}.log"));
        let health = free_address()?;
        let address = health.to_string();
        let mut all = vec!["daemon", "--health", &address, "--socket"];
        let path = socket.to_string_lossy().into_owned();
        all.push(&path);
        all.extend(arguments);
        let file = File::options().create(true).append(true).open(&log).map_err(Error::io("open", &log))?;
        let mut command = self.trainerd().command(kubeconfig, &all);
        let program = PathBuf::from(command.get_program());
        let child = command.stdout(Stdio::null()).stderr(file).spawn().map_err(Error::io("run", program))?;
        Ok(Daemon { child, socket, health, log })
    }
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("bind", "a port"))?;
    listener.local_addr().map_err(Error::io("bind", "a port"))
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of its socket.
    pub fn socket(&self) -> String {
        self.socket.to_string_lossy().into_owned()
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks the API.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let stream = UnixStream::connect(&self.socket).map_err(Error::io("reach", &self.socket))?;
        stream.set_read_timeout(Some(ANSWER)).map_err(Error::io("reach", &self.socket))?;
        exchange(stream, method, path, body, None)
    }

    /// Reads a document of the API.
    pub fn read(&self, path: &str) -> Result<Value, Error> {
        let answer = self.api("GET", path, None)?;
        serde_json::from_str(&answer.body).map_err(Error::json("an answer of the daemon"))
    }

    /// Asks the probes and metrics.
    pub fn probe(&self, path: &str) -> Result<Answer, Error> {
        let stream = TcpStream::connect(self.health).map_err(Error::io("reach", "the probes"))?;
        exchange(stream, "GET", path, None, None)
    }

    /// The value of a series of its metrics, as `/metrics` spells it; `None` where there is none.
    pub fn metric(&self, series: &str) -> Result<Option<f64>, Error> {
        let body = self.probe("/metrics")?.body;
        let value = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.parse().ok()))
    }

    /// Waits until the view of the installation is as wanted, and returns it; an error tells the last one and the
    /// log.
    pub fn wait_for(
        &mut self,
        what: &str,
        bound: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Result<Value, Error> {
        let end = Instant::now() + bound;
        loop {
            let view = self.read("/v1/installation");
            if let Ok(view) = &view
                && holds(view)
            {
                return Ok(view.clone());
            }
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() > end {
                let seen = view.map_or_else(|error| error.to_string(), |view| format!("{view:#}"));
                let output =
                    format!("not {what} within {bound:?} (ended: {ended:?})\n{seen}\n{}", self.log());
                return Err(Error::Command { command: "trainerd daemon".to_owned(), output });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it says that everything is as its options want.
    pub fn wait_until_settled(&mut self, bound: Duration) -> Result<Value, Error> {
        self.wait_for("settled", bound, |view| view["settled"] == true)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Missing("a process id".to_owned()))?;
        kill_process(pid, signal).map_err(|error| Error::io("signal", "the daemon")(error.into()))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("wait for", "the daemon"))
    }

    /// Waits for its end; the exit code, if it was no signal that ended it.
    pub fn end(&mut self) -> Result<Option<i32>, Error> {
        Ok(self.child.wait().map_err(Error::io("wait for", "the daemon"))?.code())
    }

    /// Kilobytes of memory that it has in use, and the processor time that it took.
    pub fn usage(&self) -> Result<(u64, Duration), Error> {
        usage(self.child.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kilobytes of memory that a process has in use, and the processor time that it took.
pub(crate) fn usage(process: u32) -> Result<(u64, Duration), Error> {
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        std::fs::read_to_string(&path).map_err(Error::io("read", path))
    };
    let status = read("status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default();
    // Fields 14 and 15, counted after the name in parentheses, in hundredths of a second.
    let stat = read("stat")?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok((kilobytes, Duration::from_millis(ticks * 10)))
}

/// One request and its answer over a connection.
pub fn exchange(
    mut stream: impl Read + std::io::Write,
    method: &str,
    path: &str,
    body: Option<&Value>,
    token: Option<&str>,
) -> Result<Answer, Error> {
    let text = body.map(Value::to_string).unwrap_or_default();
    let length = text.len();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: trainerd\r\nConnection: close\r\n\
         {authorization}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
    );
    let failed = Error::io("ask", "the daemon");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(Error::io("ask", "the daemon"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok(Answer { code, body: body.to_owned() })
}

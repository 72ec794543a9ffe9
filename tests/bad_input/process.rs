//! The binary as a user runs it: commands that end, and clusters that stay up until they are told to stop.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; a hang fails the test.
const PATIENCE: Duration = Duration::from_secs(120);
/// Smallest size of an OSD's file, with room for data.
pub const SIZE: &str = "80M";

/// What a command that ended said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// It failed with this status, and its last words hold all of `words`.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// Runs a command to its end.
pub fn spirula(arguments: &[&str]) -> Said {
    let mut running = Running::start(arguments);
    let status = running.ended();
    Said { code: status.code(), out: running.out(), err: running.err() }
}

/// A folder that goes with the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::with_prefix("spirula-test-").expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
}

/// What was written so far.
#[derive(Default)]
struct Written {
    text: Mutex<String>,
    more: Condvar,
}

impl Written {
    fn add(&self, more: &str) {
        self.text.lock().expect("not poisoned").push_str(more);
        self.more.notify_all();
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    out: Arc<Mutex<String>>,
    err: Arc<Written>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spirula"))
            .args(arguments)
            .env_remove("SPIRULA_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (out, err) = (Arc::<Mutex<String>>::default(), Arc::<Written>::default());
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let (all, errors) = (out.clone(), err.clone());
        let read_out = thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                all.lock().expect("not poisoned").push_str(&format!("{line}\n"));
                // Nobody listens once the cluster is ready.
                let _ = send.send(line);
            }
        });
        let read_err = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                errors.add(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, lines, out, err, readers: vec![read_out, read_err] }
    }

    /// Waits for the line that begins with `word`.
    #[track_caller]
    pub fn line(&self, word: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(word) => return line,
                Ok(_) => {}
                Err(error) => panic!("no {word:?}: {error}\n{}{}", self.out(), self.err()),
            }
        }
    }

    /// Waits until it wrote `words` to standard error.
    #[track_caller]
    pub fn error(&self, words: &str) {
        let text = self.err.text.lock().expect("not poisoned");
        let missing = |text: &mut String| !text.contains(words);
        let (text, waited) = self.err.more.wait_timeout_while(text, PATIENCE, missing).expect("not poisoned");
        assert!(!waited.timed_out(), "no {words:?}\n{text}");
    }

    /// Whether it has its own idea of SIGTERM by now; None if it is gone.
    pub fn handles_signals(&mut self) -> Option<bool> {
        if !self.is_running() {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        Some(caught & (1 << (15 - 1)) != 0)
    }

    pub fn out(&self) -> String {
        self.out.lock().expect("not poisoned").clone()
    }

    pub fn err(&self) -> String {
        self.err.text.lock().expect("not poisoned").clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end; what it wrote is complete then.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        // The readers end when the process has closed its ends.
        let (send, done) = channel();
        let readers = std::mem::take(&mut self.readers);
        thread::spawn(move || {
            readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
            send.send(()).expect("the test waits");
        });
        if done.recv_timeout(PATIENCE).is_err() {
            panic!("it does not end\n{}{}", self.out(), self.err());
        }
        self.child.wait().expect("a child")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("what it wrote:\n{}{}", self.out(), self.err());
        }
    }
}

/// A cluster that is up.
pub struct Cluster {
    pub running: Running,
    pub monitor: SocketAddr,
}

impl Cluster {
    /// Makes or starts a cluster on a port that is free.
    #[track_caller]
    pub fn up(dir: &Path, more: &[&str]) -> Self {
        let dir = dir.to_str().expect("UTF-8");
        let mut arguments = vec!["up", "--dir", dir];
        if !Path::new(dir).join("cluster.json").exists() {
            arguments.extend(["--mon-port", "0"]);
            if !more.contains(&"--device") {
                arguments.extend(["--size", SIZE]);
            }
        }
        arguments.extend(more);
        let running = Running::start(&arguments);
        let ready = running.line("ready");
        let (_, rest) = ready.split_once("monitor at ").expect("it names the monitor");
        let monitor = rest.split(';').next().and_then(|text| text.parse().ok()).expect("an address");
        Self { running, monitor }
    }

    /// Stops it cleanly; what it wrote to standard error.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.running.signal("TERM");
        let status = self.running.ended();
        assert_eq!(status.code(), Some(0), "{}", self.running.err());
        self.running.err()
    }

    /// kill -9; what it wrote to standard error.
    pub fn kill(mut self) -> String {
        self.running.signal("KILL");
        self.running.ended();
        self.running.err()
    }
}

/// Every file below a folder with its length, so that a test can see that nothing was made.
pub fn listing(folder: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let metadata = entry.metadata().expect("metadata");
        all.push((entry.path().display().to_string(), metadata.len()));
        if metadata.is_dir() {
            all.extend(listing(&entry.path()));
        }
    }
    all.sort();
    all
}

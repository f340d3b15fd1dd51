use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use meltemi::checkout;
use meltemi_tests::DEADLINE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An agent logs each time that it is asked in vain.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much of a program's log is shown when it fails.
const TAIL: u64 = 8 << 10;

/// A program of the mesh, with its log in `target/mesh`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`. What it prints goes to the log `name`, which belongs to `user` so that the program can open it
    /// again as `/dev/stdout`.
    pub fn start(name: &str, user: Option<u32>, command: &mut Command) -> Self {
        let log = checkout::target().join("mesh").join(format!("{name}.log"));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        // Whichever way it is open, what is written is at its end.
        let file = File::create(&log).and_then(|_| File::options().append(true).open(&log)).unwrap();
        std::os::unix::fs::fchown(&file, user, user).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Asks `condition` again and again until it gives something.
    ///
    /// # Panics
    ///
    /// When the program ends meanwhile, or it takes too long; with the end of its log.
    pub fn wait_until<T>(&mut self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended ({status}) before: {what}\n{}", self.name, self.log_tail());
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{} not within {DEADLINE:?}: {what}\n{}",
                self.name,
                self.log_tail()
            );
            thread::park_timeout(INTERVAL);
        }
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends it `signal`, and waits until it ends.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    /// Everything that it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    fn log_tail(&self) -> String {
        let mut file = File::open(&self.log).unwrap();
        let length = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).unwrap();
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).unwrap();
        format!("{}:\n{}", self.log.display(), String::from_utf8_lossy(&tail))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

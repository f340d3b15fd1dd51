use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Admin, Error};

/// How long Envoy may take to become ready: compiling the module takes some seconds on a slow machine.
const READY: Duration = Duration::from_secs(180);

/// How often a starting Envoy is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The Envoy binary.
    pub binary: PathBuf,
    /// The bootstrap configuration.
    pub config: PathBuf,
    /// A folder for Envoy's log (`envoy.log`) and the address of its admin interface (`admin.txt`).
    pub folder: PathBuf,
    /// Further arguments, such as `--concurrency 1`.
    pub args: Vec<OsString>,
}

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    killer: Killer,
    admin: Admin,
    log: PathBuf,
    pid: u32,
}

/// Kills an Envoy from elsewhere, such as a signal's handler.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Mutex<Child>>);

impl Envoy {
    /// Starts Envoy and waits until it is ready.
    ///
    /// # Errors
    ///
    /// The binary does not run, Envoy refuses the configuration, or it is not ready within three minutes. It does not run on
    /// then.
    pub fn start(launch: &Launch) -> Result<Self, Error> {
        Self::start_killable(launch, |_| ())
    }

    /// As [`start`](Self::start), and hands out the [`Killer`] as soon as the process runs, before it is ready.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_killable(launch: &Launch, started: impl FnOnce(Killer)) -> Result<Self, Error> {
        let log = launch.folder.join("envoy.log");
        let address = launch.folder.join("admin.txt");
        if address.exists() {
            fs::remove_file(&address).map_err(Error::io("remove", &address))?;
        }
        // It may open its output again, as /dev/stdout: what is written either way is at the end of the file.
        let output = File::create(&log).and_then(|_| File::options().append(true).open(&log));
        let output = output.map_err(Error::io("write", &log))?;
        let errors = output.try_clone().map_err(Error::io("write", &log))?;
        let child = Command::new(&launch.binary)
            .arg("--config-path")
            .arg(&launch.config)
            .arg("--admin-address-path")
            .arg(&address)
            // Two Envoys of one machine would otherwise meet in shared memory.
            .arg("--disable-hot-restart")
            .args(&launch.args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("run", &launch.binary))?;
        let pid = child.id();
        let killer = Killer(Arc::new(Mutex::new(child)));
        started(killer.clone());
        let admin = killer.wait_ready(&address, &log).inspect_err(|_| killer.kill())?;
        Ok(Self { killer, admin, log, pid })
    }

    /// Its admin interface.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Where its listener `name` accepts connections.
    ///
    /// # Errors
    ///
    /// The admin interface does not answer, or there is no such listener.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, Error> {
        self.admin.listeners()?.remove(name).ok_or_else(|| Error::Admin {
            path: "/listeners".to_owned(),
            why: format!("there is no listener {name}"),
        })
    }

    /// The file that it writes its log to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The first error in its log.
    pub fn complaint(&self) -> Option<String> {
        complaint(&self.log)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it did.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.killer.child().try_wait().ok().flatten()
    }

    /// What kills it from elsewhere.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.killer.kill();
    }
}

impl Killer {
    /// Kills the process and waits until it is gone. Does nothing if it is gone already.
    pub fn kill(&self) {
        let mut child = self.child();
        // Both fail only for a process that has been waited for, which is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_ready(&self, address: &Path, log: &Path) -> Result<Admin, Error> {
        let start = Instant::now();
        let mut admin: Option<Admin> = None;
        loop {
            let ended = self.child().try_wait().map_err(Error::io("wait for", Path::new("envoy")))?;
            if let Some(status) = ended {
                return Err(Error::Exited { status, why: reason(log), log: log.to_owned() });
            }
            let known = fs::read_to_string(address).ok().and_then(|text| text.trim().parse().ok());
            admin = admin.or_else(|| known.map(Admin::new));
            if let Some(admin) = admin.take_if(|admin| admin.ready()) {
                return Ok(admin);
            }
            if start.elapsed() > READY {
                let what = "become ready".to_owned();
                return Err(Error::Late { what, seconds: READY.as_secs(), why: reason(log) });
            }
            thread::sleep(POLL);
        }
    }
}

/// The first line of the log that reports an error, which is the cause of the others, without its time stamp and
/// source.
fn complaint(log: &Path) -> Option<String> {
    let bytes = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let grave = |line: &&str| line.contains("][critical]") || line.contains("][error]");
    let line = text.lines().find(grave)?;
    // [2026-08-01 12:00:00.000][123][critical][main] [source/server/server.cc:1] what happened
    Some(line.splitn(3, "] ").last().unwrap_or(line).to_owned())
}

/// The complaint, or else the last line, of a log that should say why Envoy failed.
fn reason(log: &Path) -> String {
    let last = || {
        let bytes = fs::read(log).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.lines().rfind(|line| !line.trim().is_empty())?.to_owned())
    };
    complaint(log).or_else(last).unwrap_or_else(|| "it said nothing".to_owned())
}

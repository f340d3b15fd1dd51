use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{panic, thread};

use meltemi_tests::files;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, with a few folders of its own in the places where its programs look for them.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
    binds: Vec<(PathBuf, PathBuf)>,
}

impl Namespace {
    /// Makes the namespace `name`. Its own address is to be `address`; `binds` are pairs of what is to be seen, and in
    /// whose place.
    pub(crate) fn create(name: &str, address: Ipv4Addr, binds: Vec<(PathBuf, PathBuf)>) -> Self {
        files::run(Command::new("ip").args(["netns", "add", name]));
        Self { name: name.to_owned(), address, binds }
    }

    /// Its name, by which `ip netns exec` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs `work` in the namespace, in a thread of its own: sockets that it opens, and threads and processes that it
    /// starts, belong to the namespace for as long as they live.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.join().unwrap_or_else(|error| panic!("cannot enter {} (as root?): {error}", self.name));
                work()
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for good.
    fn join(&self) -> nix::Result<()> {
        let none = None::<&Path>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Nothing that is mounted here is seen outside.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
        for (from, to) in &self.binds {
            mount(Some(from), to, none, MsFlags::MS_BIND, none)?;
        }
        let path = Path::new("/run/netns").join(&self.name);
        let namespace = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        setns(namespace, CloneFlags::CLONE_NEWNET)
    }

    /// Kills every process in it, and removes it.
    pub(crate) fn delete(&self) {
        let pids = Command::new("ip").args(["netns", "pids", &self.name]).output().unwrap().stdout;
        let pids = String::from_utf8(pids).unwrap();
        if !pids.trim().is_empty() {
            // A process may have ended by itself meanwhile.
            let _ = Command::new("kill").arg("-KILL").args(pids.split_whitespace()).output();
        }
        files::run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

//! What `/proc` says of a process and of the machine.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// Length of a tick in `/proc/<pid>/stat`. Linux fixes it at 100 ticks a second towards programs.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of a process, user and system, over all of its threads.
#[derive(Debug, Clone)]
pub struct CpuClock {
    folder: PathBuf,
    threads: &'static str,
}

impl CpuClock {
    /// The clock of the process `pid`.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self::of_threads(pid, "")
    }

    /// The clock of its threads whose names begin so.
    #[must_use]
    pub fn of_threads(pid: u32, threads: &'static str) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{pid}")), threads }
    }

    /// The CPU time used so far: to the nanosecond from `schedstat` of each thread, or in ticks of 10 ms from `stat` where
    /// the kernel keeps no such statistics.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn now(&self) -> io::Result<Duration> {
        match self.by_thread() {
            Ok(time) if !time.is_zero() || !self.threads.is_empty() => Ok(time),
            _ => {
                let stat = fs::read_to_string(self.folder.join("stat"))?;
                parse_stat(&stat).ok_or_else(|| io::Error::other("/proc/<pid>/stat is not as expected"))
            }
        }
    }

    fn by_thread(&self) -> io::Result<Duration> {
        let mut sum = Duration::ZERO;
        for thread in fs::read_dir(self.folder.join("task"))? {
            let thread = thread?.path();
            let named = || fs::read_to_string(thread.join("comm")).unwrap_or_default();
            if !self.threads.is_empty() && !named().starts_with(self.threads) {
                continue;
            }
            let text = match fs::read_to_string(thread.join("schedstat")) {
                // The thread ended since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            sum += parse_schedstat(&text)
                .ok_or_else(|| io::Error::other("/proc/<pid>/task/<tid>/schedstat is not as expected"))?;
        }
        Ok(sum)
    }
}

/// Reads the time on a CPU from `/proc/<pid>/task/<tid>/schedstat`: the first of three numbers, in nanoseconds.
#[must_use]
pub fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Reads user and system time from `/proc/<pid>/stat`: fields 14 and 15 as proc(5) counts them. The second field is the
/// program's name in parentheses, and may itself hold spaces and parentheses.
#[must_use]
pub fn parse_stat(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

/// The memory of an Envoy, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What is resident of all of it.
    pub resident: u64,
    /// What is resident of the memories of its Wasm VMs.
    pub vm: u64,
}

impl Memory {
    /// That of the process `pid`.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(parse_smaps(&fs::read_to_string(format!("/proc/{pid}/smaps"))?))
    }
}

/// V8 reserves at least so much behind a memory, so that no access needs a check.
const GUARD: u64 = 1 << 30;

/// Sums up `/proc/<pid>/smaps`. The memory of a VM is what can be written right before a guard.
#[must_use]
pub fn parse_smaps(text: &str) -> Memory {
    let mut memory = Memory { resident: 0, vm: 0 };
    // Where a mapping that can be written ends, and what is resident of it.
    let mut current: Option<(u64, u64)> = None;
    for line in text.lines() {
        if let Some((start, end, rights)) = parse_mapping(line) {
            let before = current.filter(|&(until, _)| until == start);
            if rights.starts_with("---") && end.saturating_sub(start) >= GUARD {
                memory.vm += before.map_or(0, |(_, resident)| resident);
            }
            current = rights.starts_with("rw").then_some((end, 0));
        } else if let Some(size) = line.strip_prefix("Rss:") {
            let size = size.trim().trim_end_matches(" kB").parse().unwrap_or(0u64) << 10;
            memory.resident += size;
            current = current.map(|(end, _)| (end, size));
        }
    }
    memory
}

/// Start, end and rights of a mapping: `7f0000-7f1000 rw-p 00000000 00:00 0`.
fn parse_mapping(line: &str) -> Option<(u64, u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?, rest))
}

/// The machine that a report was made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Model of the CPU.
    pub cpu: String,
    /// Number of CPUs.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Processes running or waiting for a CPU, averaged over the last minute.
    pub load: String,
}

impl Machine {
    /// This machine. What cannot be read is `unknown`.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(Path::new("/proc").join(path)).unwrap_or_default();
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        Self {
            cpu: or_unknown(parse_cpu_model(&read("cpuinfo")).unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: or_unknown(read("sys/kernel/osrelease").trim()),
            load: or_unknown(read("loadavg").split(' ').next().unwrap_or_default()),
        }
    }
}

/// Finds the model of the first CPU in `/proc/cpuinfo`.
#[must_use]
pub fn parse_cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_read_in_nanoseconds() {
        assert_eq!(parse_schedstat("430415920 73225 4\n"), Some(Duration::from_nanos(430_415_920)));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(parse_schedstat("x 1 2"), None);
    }

    #[test]
    fn stat_is_read_behind_the_name() {
        let stat =
            "75 (a ) (b 9) S 7563 7563 5620 0 -1 4194304 88 0 0 0 43 7 0 0 20 0 1 0 99630 2654208 367 1844";
        assert_eq!(parse_stat(stat), Some(Duration::from_millis(500)));
        assert_eq!(parse_stat("75 (short) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_clock_of_this_process_runs() {
        let clock = CpuClock::new(std::process::id());
        let before = clock.now().unwrap();
        let mut sum = 0u64;
        while clock.now().unwrap() == before {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(clock.now().unwrap() > before, "{sum}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(CpuClock::new(u32::MAX).now().is_err());
    }

    #[test]
    fn the_memory_of_a_vm_lies_before_a_guard() {
        let smaps = "\
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Rss:                 100 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Rss:                  64 kB
7f0000300000-7f0240000000 ---p 00000000 00:00 0
Rss:                   0 kB
7f0240000000-7f0240001000 r--p 00000000 00:00 0 [vvar]
Rss:                   4 kB
";
        assert_eq!(parse_smaps(smaps), Memory { resident: 168 << 10, vm: 64 << 10 });
    }

    #[test]
    fn the_model_of_the_cpu_is_found() {
        let cpuinfo =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9R14\nmodel name\t: other\n";
        assert_eq!(parse_cpu_model(cpuinfo), Some("AMD EPYC 9R14"));
        assert_eq!(parse_cpu_model("processor : 0"), None);
    }
}

//! The machine as far as the report names it: processors, memory, kernel, the disk's fdatasync; and what a process
//! used of it.
//!
//! Everything is read from /proc, so the benchmark runs on Linux only. What cannot be read is printed as `?`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::trouble::{Outcome, Trouble};

/// Clock ticks a second in /proc: fixed at 100 by the kernel's interface, whatever its own clock is.
const TICKS: f64 = 100.0;

/// Lines about the machine, for the head of the report.
pub fn facts(date: Option<&str>, data: &Path) -> Outcome<Vec<String>> {
    let date = date.map_or_else(|| answer_of("date", &["-u", "+%Y-%m-%d"]), str::to_owned);
    let top = env!("CARGO_MANIFEST_DIR");
    let commit = answer_of("git", &["-C", top, "rev-parse", "--short", "HEAD"]);
    let changed = !answer_of("git", &["-C", top, "status", "--porcelain"]).trim_matches('?').is_empty();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field_of("/proc/meminfo", "MemTotal").map_or(0.0, |kib| kib / 1_048_576.0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "?".into());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_else(|_| "?".into());
    let load = load.split(' ').next().unwrap_or("?");
    let small = fdatasync(data, 4 << 10)?;
    let large = fdatasync(data, 700 << 10)?;
    Ok(vec![
        format!("- date {date}, commit {commit}{}", if changed { " with changes" } else { "" }),
        format!("- {cores} cores ({}), {memory:.1} GiB, Linux {}", processor(), kernel.trim()),
        format!("- load before the run {load}; fdatasync of 4 KiB {small:.2} ms, of 700 KiB {large:.2} ms (medians)"),
    ])
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    name.map_or_else(|| "?".to_owned(), |name| name.trim().to_owned())
}

/// What a command prints, trimmed; `?` when it cannot be had.
fn answer_of(command: &str, arguments: &[&str]) -> String {
    match Command::new(command).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "?".to_owned(),
    }
}

/// The number after `name:` in a page of /proc.
fn field_of(page: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(page).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Median milliseconds of appending `bytes` to a file and waiting for the disk.
fn fdatasync(folder: &Path, bytes: usize) -> Outcome<f64> {
    const TIMES: usize = 41;
    let path = folder.join("fdatasync-probe");
    let doing = || Trouble::at("probing the disk at", &path);
    let mut file = std::fs::File::create(&path).map_err(doing())?;
    let block = vec![0x5a_u8; bytes];
    let mut taken = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begin = Instant::now();
        file.write_all(&block).map_err(doing())?;
        file.sync_data().map_err(doing())?;
        taken.push(begin.elapsed());
    }
    std::fs::remove_file(&path).map_err(doing())?;
    taken.sort_unstable();
    Ok(taken[TIMES / 2].as_secs_f64() * 1e3)
}

/// The largest resident size a running process has had, in MiB; `None` once it is gone.
pub fn peak_mib(process: u32) -> Option<f64> {
    field_of(&format!("/proc/{process}/status"), "VmHWM").map(|kib| kib / 1_024.0)
}

/// The resident size of a running process, in MiB; `None` once it is gone.
pub fn resident_mib(process: u32) -> Option<f64> {
    field_of(&format!("/proc/{process}/status"), "VmRSS").map(|kib| kib / 1_024.0)
}

/// Processor time of the calling thread, to the nanosecond: what else the machine does is not in it.
pub fn this_thread() -> Outcome<Duration> {
    let page = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(page).map_err(Trouble::at("reading", Path::new(page)))?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| Trouble::lacking(page))
}

/// Processor time of the threads that a process has, by their names without numbers.
pub fn threads(process: u32) -> Outcome<BTreeMap<String, Duration>> {
    let folder = PathBuf::from(format!("/proc/{process}/task"));
    let mut spent = BTreeMap::new();
    for thread in std::fs::read_dir(&folder).map_err(Trouble::at("listing", &folder))? {
        let thread = thread.map_err(Trouble::at("listing", &folder))?.file_name();
        let thread = format!("{process}/task/{}", thread.to_string_lossy());
        // A thread may end between the list and the look; what it spent is lost to the table then.
        let (Ok(time), Ok(name)) = (Processor::of(&thread), std::fs::read_to_string(format!("/proc/{thread}/comm")))
        else {
            continue;
        };
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *spent.entry(name.to_owned()).or_insert(Duration::ZERO) += time.own;
    }
    Ok(spent)
}

/// Bytes that the disk of this folder has left, as `df` says.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let said = answer_of("df", &["--output=avail", "-B1", &folder.display().to_string()]);
    said.lines().last()?.trim().parse().ok()
}

/// Processor time, user and system, of a process, and of the children that it has waited for.
#[derive(Debug, Clone, Copy)]
pub struct Processor {
    pub own: Duration,
    pub children: Duration,
}

impl Processor {
    /// Of this process, as of now.
    pub fn now() -> Outcome<Self> {
        Self::of("self")
    }

    /// Of another process, as of now, by its id.
    pub fn of(process: impl std::fmt::Display) -> Outcome<Self> {
        let page = format!("/proc/{process}/stat");
        let text = std::fs::read_to_string(&page).map_err(Trouble::at("reading", Path::new(&page)))?;
        // The second field is a name in parentheses and may hold blanks; times are fields 14 to 17.
        let after = text.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks: Vec<f64> = after.split_whitespace().skip(11).take(4).filter_map(|f| f.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else {
            return Err(Trouble::lacking(page));
        };
        let seconds = |ticks: f64| Duration::from_secs_f64(ticks.max(0.0) / TICKS);
        Ok(Self { own: seconds(user + system), children: seconds(children_user + children_system) })
    }
}

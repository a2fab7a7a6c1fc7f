//! What a process has used, where the system says so under `/proc`, and what a directory holds.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The length of a tick in `/proc/<id>/stat`: Linux shows 100 a second, whatever it counts in itself.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process so far, its own and the system's for it.
pub(crate) fn cpu(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the name, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// A field of `/proc/<id>/status` that is in KiB.
pub(crate) fn memory(process: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// From one reading to the next.
pub(crate) fn between(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    after?.checked_sub(before?)
}

/// How many bytes the files of a directory have.
///
/// # Errors
/// It cannot be read.
pub(crate) fn on_disk(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

//! Bounds of the store, each with its arithmetic. Settings may change those in [`Limits`].

use std::time::Duration;

/// Bounds that settings may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Unsealed bytes of one stream that make it worth a segment: about 35,000 events.
    pub seal_bytes: usize,
    /// Unsealed bytes of all streams before the largest and oldest are sealed.
    pub unsealed_bytes: usize,
    /// Unsealed bytes of all streams beyond which nothing is accepted: twice the bound above.
    pub unsealed_bytes_hard: usize,
    /// How long an entry may stay unsealed: a tenant with a few events a day makes a segment a day.
    pub seal_age: Duration,
    /// How long an event id is remembered.
    pub duplicate_window: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// A log file is cut at this size.
    pub log_file_bytes: u64,
    /// Log files beyond this number make their oldest streams be sealed or copied forward.
    pub log_files: usize,
    /// Bytes that the log keeps in reserve on its disk for access and control streams: some thousand entries.
    pub log_reserve_bytes: u64,
    /// Requests waiting for the writer; each is bounded by the front door.
    pub queue: usize,
    /// Bytes of a segment that merging makes at most, and holds in memory while it does: some 400,000 events.
    /// At 0 nothing is merged.
    pub merge_bytes: u64,
    /// Adjacent small segments that are worth a merge, once an hour; while events come in it takes four times as
    /// many, so that merging is left to quieter times.
    pub merge_inputs: usize,
    /// How long a segment's file stays after a commit removed it, for readers of the Delta view that this
    /// process knows nothing of.
    pub removed_grace: Duration,
    /// How long the file of a segment stays after a purge took it out of the chain: until then what went can be brought
    /// back by hand, and is not gone from the disk.
    pub purged_grace: Duration,
    /// Commits that are packed into one object: about 1 MiB.
    pub pack_commits: u64,
    /// Commits after which the chain's snapshot is written anew: what opening reads besides it.
    pub snapshot_commits: u64,
    /// Commits after which the Delta view gets a checkpoint.
    pub view_commits: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seal_bytes: 24 << 20,
            unsealed_bytes: 128 << 20,
            unsealed_bytes_hard: 256 << 20,
            seal_age: Duration::from_secs(24 * 3_600),
            duplicate_window: Duration::from_secs(7 * 86_400),
            idempotency_window: Duration::from_secs(86_400),
            log_file_bytes: 64 << 20,
            log_files: 6,
            log_reserve_bytes: 4 << 20,
            queue: 256,
            merge_bytes: 32 << 20,
            merge_inputs: 8,
            removed_grace: Duration::from_secs(3_600),
            purged_grace: Duration::from_secs(24 * 3_600),
            pack_commits: 1_000,
            snapshot_commits: 32,
            view_commits: 50,
        }
    }
}

/// Bytes of requests that one group takes at most: one write and one fsync stay below some ten milliseconds.
pub(crate) const GROUP_BYTES: usize = 8 << 20;
/// Bytes of one request at most, whatever the front door allows: its frame of the log must stay far below the
/// longest that is read back.
pub(crate) const REQUEST_BYTES: usize = 64 << 20;
/// Bytes of remembered idempotency answers, all keys together; beyond it a new key is refused.
pub(crate) const IDEMPOTENCY_BYTES: usize = 32 << 20;
/// Rows of a merged segment at most, whatever their bytes.
pub(crate) const MERGE_ROWS: u64 = 1_000_000;
/// How many times as many small segments a stream that gets commits may have between rounds.
pub(crate) const PATIENCE: usize = 4;
/// Sealed bytes that are worth writing once more to make them a tenth smaller: some 1,200 events.
pub(crate) const WORTH_REWRITING: u64 = 128 << 10;
/// Streams whose age alone makes them be sealed at one tick of five seconds: a million a day, and never so many
/// that busy streams wait long behind them.
pub(crate) const OLD_SEALS: usize = 64;
/// Threads that take content away: half of a large machine's cores would still leave requests the rest.
pub(crate) const ERASE_THREADS: usize = 4;
/// Streams that are purged or redacted at the same time, so that one is worked on while others wait for the disk.
pub(crate) const PURGES_AT_ONCE: usize = 16;
/// Bytes of segments that are in memory for it together, in MiB: of each stream its largest, and a row group of another.
pub(crate) const PURGES_ROOM_MIB: u32 = 512;
/// Streams that are opened at the same time.
pub(crate) const OPENINGS: usize = 32;
/// Objects of one stream that are read or deleted at the same time.
pub(crate) const CONCURRENT_OBJECTS: usize = 16;
/// How often all streams are looked at, whether they got commits or not: after this time as soon as nothing comes
/// in, after twice as long in any case.
pub(crate) const ROUND_MICROS: i64 = 3_600_000_000;
/// How long nothing may have come in for a store to count as quiet: a little less than from tick to tick.
pub(crate) const QUIET_MICROS: i64 = 4_000_000;
/// How long after a month's end its segments are taken to be all there: two days, twice the age of a seal.
pub(crate) const MONTH_CLOSES_MICROS: i64 = 2 * 86_400_000_000;
/// Rows of an unsealed stream that are turned into columns together.
pub(crate) const COLUMN_ROWS: usize = 4_096;
/// Rows of a data page: what a proof must decode to recompute one block of 256 leaves.
pub(crate) const PAGE_ROWS: usize = 4_096;
/// Rows of a row group.
pub(crate) const ROW_GROUP_ROWS: usize = 131_072;
/// A stream with fewer unsealed bytes than this is copied forward in the log rather than sealed.
pub(crate) const WORTH_A_SEGMENT: usize = 256 << 10;
/// Objects of the log that are trimmed together, as one file of a disk log is: at six such runs a start reads at
/// most some 1,500 small objects, a few seconds.
pub(crate) const LOG_RUN_OBJECTS: u64 = 256;

//! Which call fails, when and how: the script that the fault-injecting store and the simulated disk play.
//!
//! A call is known by what it does, on what, and the how-manieth of these it is. So a script strikes the same
//! call in every run, whichever thread comes first. What is drawn by chance is drawn from the seed and the
//! call's name, never from an order. Not here: the store ([`super::faulty`]) and the disk.
//!
//! Invariant: with no fault set, nothing fails.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use tokio::sync::watch;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    /// An object is written.
    Put,
    /// An object, or a range of it, is read.
    Get,
    /// A folder is listed with all below it.
    List,
    /// A folder's folders are listed.
    Folders,
    /// An object is deleted.
    Delete,
    /// A part of a large object is written.
    Part,
    /// A large object is put together.
    Complete,
    /// The log's folder is listed.
    Names,
    /// A file of the log is read.
    Read,
    /// A file of the log is created.
    Create,
    /// A file of the log is appended to.
    Append,
    /// A file of the log is synced.
    Sync,
    /// A file of the log is cut.
    Cut,
    /// A file of the log gets another name.
    Rename,
    /// A file of the log is deleted.
    Remove,
    /// The log's folder is synced.
    SyncNames,
}

impl Call {
    /// Whether it is about the log's disk, and not the object store.
    pub(crate) fn is_of_the_disk(self) -> bool {
        self >= Self::Names
    }

    /// Whether it changes nothing.
    pub(crate) fn only_reads(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Folders | Self::Names | Self::Read)
    }
}

/// One call of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Operation {
    /// What it does.
    pub call: Call,
    /// On what.
    pub path: String,
    /// The how-manieth of these, from 0.
    pub nth: u32,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} #{}", self.call, self.path, self.nth)
    }
}

/// Whether a call has its effect before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    /// It has none.
    Before,
    /// It has all of it, and the caller is not told.
    After,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// With an error that says nothing.
    Error,
    /// For want of permission.
    Denied,
    /// With a 503 that asks for patience.
    Throttled,
    /// It answers with fewer bytes, or less of a listing, and then an error.
    Broken,
    /// It answers with fewer bytes than it should, and no error.
    Short,
    /// It answers after everything else that can run has run.
    Slow,
    /// It does not answer until [`Script::heal`].
    Stuck,
    /// For want of room, half way if it writes.
    Full,
    /// Because the file system was made read-only.
    ReadOnly,
    /// The process that called dies: this call and all later ones of its life come to nothing.
    Death,
    /// The same, and the machine with it: its disk forgets what was not synced.
    PowerCut,
}

/// What of a run a fault strikes.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// This one call.
    Once(Operation),
    /// This call and every later one of the disk's, or of the object store's, until healed.
    From(Operation),
}

/// One fault.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// What it strikes.
    pub at: Where,
    /// When.
    pub moment: Moment,
    /// How.
    pub mode: Mode,
}

/// What a call must do instead of what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Whether it has its effect first.
    pub moment: Moment,
    /// How it fails.
    pub mode: Mode,
}

/// Faults by chance.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    /// What is drawn follows from this.
    pub seed: u64,
    /// One in how many calls fails.
    pub one_in: u64,
    /// The ways to fail.
    pub modes: Vec<Mode>,
    /// The same call fails at most so many times in a row.
    pub in_a_row: u32,
}

#[derive(Debug, Default)]
struct State {
    seen: HashMap<(Call, String), u32>,
    recorded: Vec<Operation>,
    faults: Vec<Fault>,
    chance: Option<Chance>,
    row: HashMap<(Call, String), u32>,
    struck: Vec<(Operation, Strike)>,
    power_was_cut: bool,
    /// Set once no fault is to come any more: what is asked then is no longer part of the run.
    is_over: bool,
    after: usize,
    life: u64,
    /// How many times in a row the store did not start.
    failed_starts: u64,
}

/// The script of one run, which may have several lives.
#[derive(Debug)]
pub(crate) struct Script {
    state: Mutex<State>,
    /// How many calls hang.
    stuck: watch::Sender<usize>,
    /// Counts the times that all was healed.
    healed: watch::Sender<u64>,
}

impl Script {
    /// A script with these faults.
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        let state = Mutex::new(State { faults, ..State::default() });
        Self { state, stuck: watch::Sender::new(0), healed: watch::Sender::new(0) }
    }

    /// A script whose faults are drawn.
    pub(crate) fn drawn(chance: Chance) -> Self {
        let script = Self::new(vec![]);
        script.state.lock().unwrap().chance = Some(chance);
        script
    }

    /// Lets a fault come from now on: what upkeep asked for before, early or late, it does not meet.
    pub(crate) fn arm(&self, fault: Fault) {
        self.state.lock().unwrap().faults.push(fault);
    }

    /// The life that runs now.
    pub(crate) fn life(&self) -> u64 {
        self.state.lock().unwrap().life
    }

    /// Ends the life that runs now; whatever it still asks for comes to nothing.
    pub(crate) fn die(&self) {
        self.state.lock().unwrap().life += 1;
        // Who hangs in a dead process hangs no more.
        self.healed.send_modify(|times| *times += 1);
    }

    /// The same, and the power is cut.
    pub(crate) fn cut_power(&self) {
        self.state.lock().unwrap().power_was_cut = true;
        self.die();
    }

    /// Whether the power was cut since this was last asked.
    pub(crate) fn power_was_cut(&self) -> bool {
        std::mem::take(&mut self.state.lock().unwrap().power_was_cut)
    }

    /// The faults go: what hangs is answered, what failed works.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        let reached = |at: &Operation, seen: &HashMap<_, u32>| {
            seen.get(&(at.call, at.path.clone())).is_some_and(|seen| *seen > at.nth)
        };
        let State { faults, seen, .. } = &mut *state;
        faults.retain(|fault| match &fault.at {
            Where::Once(at) | Where::From(at) => !reached(at, seen),
        });
        drop(state);
        self.healed.send_modify(|times| *times += 1);
    }

    /// The faults go, and none comes again.
    pub(crate) fn heal_for_good(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.chance = None;
        state.is_over = true;
        drop(state);
        self.healed.send_modify(|times| *times += 1);
    }

    /// Whether no fault comes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().unwrap().is_over
    }

    /// Every call so far.
    pub(crate) fn recorded(&self) -> Vec<Operation> {
        self.state.lock().unwrap().recorded.clone()
    }

    /// How many calls there were so far.
    pub(crate) fn count(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.recorded.len() + state.after
    }

    /// So many times in a row the store did not start: drawn faults become rarer by as much, until one does.
    pub(crate) fn failed_starts(&self, times: u64) {
        self.state.lock().unwrap().failed_starts = times;
    }

    /// Which calls were struck, and how.
    pub(crate) fn struck(&self) -> Vec<(Operation, Strike)> {
        self.state.lock().unwrap().struck.clone()
    }

    /// Returns when some call hangs.
    pub(crate) async fn someone_hangs(&self) {
        let _ = self.stuck.subscribe().wait_for(|hanging| *hanging > 0).await;
    }

    /// Hangs until all is healed.
    pub(crate) async fn hang(&self) {
        let mut healed = self.healed.subscribe();
        self.stuck.send_modify(|hanging| *hanging += 1);
        let _ = healed.changed().await;
        self.stuck.send_modify(|hanging| *hanging -= 1);
    }

    /// Notes a call of a life, and answers how it fails, if it does.
    pub(crate) fn meet(&self, life: u64, call: Call, path: &str) -> Option<Strike> {
        let mut state = self.state.lock().unwrap();
        if life != state.life {
            return Some(Strike { moment: Moment::Before, mode: Mode::Death });
        }
        let nth = state.seen.entry((call, path.into())).or_default();
        let operation = Operation { call, path: path.into(), nth: *nth };
        *nth += 1;
        if state.is_over {
            state.after += 1;
            return None;
        }
        state.recorded.push(operation.clone());
        let strike = state.strike_by_fault(&operation).or_else(|| state.strike_by_chance(&operation));
        if let Some(strike) = strike {
            state.struck.push((operation, strike));
            if matches!(strike.mode, Mode::Death | Mode::PowerCut) {
                state.life += 1;
                state.power_was_cut |= strike.mode == Mode::PowerCut;
            }
        }
        strike
    }
}

impl State {
    fn strike_by_fault(&self, operation: &Operation) -> Option<Strike> {
        let strikes = |fault: &&Fault| match &fault.at {
            Where::Once(at) => at == operation,
            Where::From(at) if at.call.is_of_the_disk() != operation.call.is_of_the_disk() => false,
            Where::From(at) => self.seen.get(&(at.call, at.path.clone())).is_some_and(|seen| *seen > at.nth),
        };
        self.faults.iter().find(strikes).map(|fault| Strike { moment: fault.moment, mode: fault.mode })
    }

    fn strike_by_chance(&mut self, operation: &Operation) -> Option<Strike> {
        let chance = self.chance.as_ref()?;
        let mut hasher = DefaultHasher::new();
        (chance.seed, operation).hash(&mut hasher);
        let drawn = hasher.finish();
        let row = self.row.entry((operation.call, operation.path.clone())).or_default();
        let one_in = chance.one_in * (1 + self.failed_starts);
        if !drawn.is_multiple_of(one_in) || *row >= chance.in_a_row {
            *row = 0;
            return None;
        }
        *row += 1;
        let rest = drawn / one_in;
        let mode = chance.modes[(rest / 2) as usize % chance.modes.len()];
        let moment = if rest.is_multiple_of(2) { Moment::Before } else { Moment::After };
        Some(Strike { moment, mode })
    }
}

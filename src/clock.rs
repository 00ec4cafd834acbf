//! The real clock and the real randomness, read here and handed down.
//!
//! Not here: the watch for a clock that leaps (`ledger-store`). Invariant: no other file reads the wall clock.

use ledger_store::Ambient;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clock and the operating system's randomness.
#[derive(Debug)]
pub struct SystemAmbient {
    start: Instant,
}

impl SystemAmbient {
    /// Starts the monotonic clock.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Ambient for SystemAmbient {
    fn now_micros(&self) -> i64 {
        // A clock before 1970 reads as 1970; the watch for leaps stops admission when it is set right.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn monotonic_micros(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness once it has booted");
    }
}

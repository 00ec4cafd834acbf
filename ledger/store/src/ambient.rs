//! What the store needs of the world and is handed in: clock and randomness. Plus the watch for a clock
//! that leaps.
//!
//! Not here: the real ones (`src/`). Invariant: nothing in this crate reads a clock or draws randomness
//! but through [`Ambient`].

use crate::error::StoreError;
use futures::future::BoxFuture;
use std::time::Duration;

/// Clock and randomness.
pub trait Ambient: Send + Sync {
    /// The wall clock, in microseconds since 1970-01-01 UTC.
    fn now_micros(&self) -> i64;
    /// A clock that only goes forward, in microseconds since some moment.
    fn monotonic_micros(&self) -> i64;
    /// Fills `bytes` from a source that cannot be guessed.
    fn fill_random(&self, bytes: &mut [u8]);
    /// Waits for this long.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// How far the wall clock may leap against the monotonic one.
const LEAP_MICROS: i64 = 60_000_000;

/// Compares the wall clock with the monotonic one from group to group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeapWatch {
    offset: i64,
    leapt: bool,
}

impl LeapWatch {
    /// Starts watching: the clock of now is taken as right.
    pub(crate) fn start(ambient: &dyn Ambient) -> Self {
        Self { offset: ambient.now_micros() - ambient.monotonic_micros(), leapt: false }
    }

    /// An error once the clock has leapt; a slow drift is followed.
    pub(crate) fn check(&mut self, ambient: &dyn Ambient) -> Option<StoreError> {
        let offset = ambient.now_micros() - ambient.monotonic_micros();
        let leap = offset - self.offset;
        if leap.abs() > LEAP_MICROS && !self.leapt {
            tracing::error!(seconds = leap / 1_000_000, "the wall clock leapt; admission stops until restart");
            self.leapt = true;
        }
        self.offset = if self.leapt { self.offset } else { offset };
        self.leapt.then_some(StoreError::ClockLeapt)
    }
}

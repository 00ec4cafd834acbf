//! A clock that stands still until all that could happen has happened, and then leaps to whoever waits least.
//!
//! So waits of minutes take no time and are exact. Not here: what waits. Invariant: who waits goes on when the clock
//! has reached their end, in the order of the ends.

use super::*;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

/// How often the one who waits least is asked before it is believed that nothing else will happen.
const ASKED: u32 = 50;

#[derive(Default)]
struct Time {
    now: Duration,
    given: u64,
    /// Ends of those who wait, and their numbers.
    waiting: BTreeSet<(Duration, u64)>,
    random: u64,
}

/// The clock.
#[derive(Default)]
pub(super) struct Still(Arc<Mutex<Time>>);

impl Still {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How much time has passed.
    pub(super) fn passed(&self) -> Duration {
        self.0.lock().unwrap().now
    }
}

/// Somebody who waits; whoever goes away waits no more.
struct Waiter {
    time: Arc<Mutex<Time>>,
    end: (Duration, u64),
    asked: u32,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.time.lock().unwrap().waiting.remove(&self.end);
    }
}

impl Ambient for Still {
    fn now_micros(&self) -> i64 {
        crate::store::tests::START + self.monotonic_micros()
    }

    fn monotonic_micros(&self) -> i64 {
        self.passed().as_micros() as i64
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut time = self.0.lock().unwrap();
        for byte in bytes {
            time.random = time.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (time.random >> 33) as u8;
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.0.lock().unwrap();
        time.given += 1;
        let end = (time.now + duration, time.given);
        time.waiting.insert(end);
        let mut waiter = Waiter { time: Arc::clone(&self.0), end, asked: 0 };
        Box::pin(std::future::poll_fn(move |context| {
            let mut time = waiter.time.lock().unwrap();
            if time.now < waiter.end.0 {
                if time.waiting.first() != Some(&waiter.end) || waiter.asked < ASKED {
                    waiter.asked += 1;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                time.now = waiter.end.0;
            }
            Poll::Ready(())
        }))
    }
}

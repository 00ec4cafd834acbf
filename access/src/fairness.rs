//! So that one tenant's load never hurts another: bounds of each tenant's events, bytes and questions.
//!
//! A bucket for each tenant and bound, which fills at the quota's rate and holds two seconds of it: what is bursty and
//! within its means on the whole is let through. Quotas are the registry's and hold from the next request on. Not here:
//! bounds of the service as a whole (`ledger-store`, `query`).
//!
//! Invariants: a tenant without a quota costs one look; a refusal says which bound, and when to come again; what is
//! refused takes nothing from the bucket.

use crate::problem::{Problem, ProblemKind};
use crate::registry::change::Quota;
use ledger::name::TenantId;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many seconds of its rate a bucket holds.
const BURST_SECONDS: f64 = 2.0;
/// How many seconds of its rate a tenant may owe for what was looked at.
const MOST_OWED_SECONDS: f64 = 60.0;
/// The bound of what questions look at.
const SCANNED: &str = "scanned_bytes_per_second";
/// How many tenants' buckets are kept; full ones are forgotten beyond it.
const MOST_BUCKETS: usize = 100_000;

/// A bound was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Which, as the quota names it.
    pub limit: &'static str,
    /// How much it is.
    pub value: u64,
    /// After how many seconds to come again.
    pub retry_after: u32,
}

impl Over {
    /// In words for whoever sent it.
    pub fn detail(&self, tenant: &TenantId) -> String {
        let Self { limit, value, retry_after } = self;
        format!("tenant {tenant} is over its quota: {limit} is {value}; send again in {retry_after} s")
    }

    /// As an answer to a whole request.
    pub fn problem(&self, tenant: &TenantId) -> Problem {
        Problem::new(ProblemKind::TooManyRequests, self.detail(tenant))
            .with("limit", json!(self.limit))
            .with("value", json!(self.value))
            .after(self.retry_after)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What is left; below nothing after one request that was larger than the bucket.
    left: f64,
    rate: u32,
    at: i64,
}

impl Bucket {
    fn filled(self, rate: u32, now: i64) -> Self {
        let full = f64::from(rate) * BURST_SECONDS;
        // A quota that changed keeps the share that was left.
        let left = if self.rate == rate { self.left } else { self.left.min(full) };
        let passed = (now - self.at).max(0) as f64 / 1e6;
        Self { left: (left + passed * f64::from(rate)).min(full), rate, at: now }
    }

    /// Seconds until it holds something again.
    fn wait(self) -> u32 {
        ((1.0 - self.left) / f64::from(self.rate.max(1))).ceil().clamp(1.0, 3_600.0) as u32
    }
}

/// The buckets of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    buckets: Mutex<HashMap<(TenantId, &'static str), Bucket>>,
    questions: Mutex<HashMap<TenantId, u32>>,
}

/// A question that is being answered; ends when it is dropped.
#[derive(Debug)]
pub struct Asking {
    of: Arc<Fairness>,
    tenant: TenantId,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut questions = held(&self.of.questions);
        if let Some(count) = questions.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                questions.remove(&self.tenant);
            }
        }
    }
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fairness {
    /// Takes events and bytes of a tenant out of its buckets: all of it, or nothing. Who brings more at once than a
    /// bucket holds is let through when it is full, and waits the longer afterwards.
    pub(crate) fn take(&self, quota: &Quota, tenant: &TenantId, events: u64, bytes: u64, now: i64) -> Result<(), Over> {
        let bounds = [
            ("events_per_second", quota.events_per_second, events),
            ("bytes_per_second", quota.bytes_per_second, bytes),
        ];
        let mut taken: [Option<(&'static str, Bucket)>; 2] = [None, None];
        let mut buckets = held(&self.buckets);
        for (at, (limit, rate, amount)) in bounds.into_iter().enumerate() {
            let Some(rate) = rate else { continue };
            let full = f64::from(rate) * BURST_SECONDS;
            let new = Bucket { left: full, rate, at: now };
            let bucket = buckets.get(&(tenant.clone(), limit)).copied().unwrap_or(new).filled(rate, now);
            let needed = (amount as f64).min(full.max(1.0));
            if bucket.left < needed || rate == 0 {
                return Err(Over { limit, value: rate.into(), retry_after: bucket.wait() });
            }
            taken[at] = Some((limit, Bucket { left: bucket.left - amount as f64, ..bucket }));
        }
        if buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, bucket| bucket.filled(bucket.rate, now).left < f64::from(bucket.rate) * BURST_SECONDS);
        }
        for (limit, bucket) in taken.into_iter().flatten() {
            buckets.insert((tenant.clone(), limit), bucket);
        }
        Ok(())
    }

    /// Whether a question may look at a tenant's segments: what earlier ones took is paid for.
    pub(crate) fn may_scan(&self, quota: &Quota, tenant: &TenantId, now: i64) -> Result<(), Over> {
        let Some(rate) = quota.scanned_bytes_per_second else { return Ok(()) };
        let found = held(&self.buckets).get(&(tenant.clone(), SCANNED)).copied();
        let bucket = found.map(|bucket| bucket.filled(rate, now));
        match bucket.filter(|bucket| bucket.left < 1.0) {
            Some(bucket) => Err(Over { limit: SCANNED, value: rate.into(), retry_after: bucket.wait() }),
            None if rate == 0 => Err(Over { limit: SCANNED, value: 0, retry_after: 3_600 }),
            None => Ok(()),
        }
    }

    /// Takes what a question looked at out of the tenant's bucket, which may owe for it.
    pub(crate) fn scanned(&self, quota: &Quota, tenant: &TenantId, bytes: u64, now: i64) {
        let Some(rate) = quota.scanned_bytes_per_second else { return };
        let mut buckets = held(&self.buckets);
        let new = Bucket { left: f64::from(rate) * BURST_SECONDS, rate, at: now };
        let bucket = buckets.entry((tenant.clone(), SCANNED)).or_insert(new);
        *bucket = bucket.filled(rate, now);
        // What one question owes is forgiven after a minute: who asks later is not shut out for hours.
        bucket.left = (bucket.left - bytes as f64).max(-MOST_OWED_SECONDS * f64::from(rate));
    }

    /// Begins a question about a tenant.
    pub(crate) fn ask(self: &Arc<Self>, quota: &Quota, tenant: &TenantId) -> Result<Asking, Over> {
        let mut questions = held(&self.questions);
        let count = questions.get(tenant).copied().unwrap_or_default();
        if let Some(most) = quota.concurrent_queries.filter(|most| count >= *most) {
            return Err(Over { limit: "concurrent_queries", value: most.into(), retry_after: 1 });
        }
        questions.insert(tenant.clone(), count + 1);
        Ok(Asking { of: Arc::clone(self), tenant: tenant.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant() -> TenantId {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_refusal_names_the_bound_and_when_to_come_again() {
        let fairness = Fairness::default();
        let quota = Quota { events_per_second: Some(100), bytes_per_second: Some(1_000), ..Quota::default() };
        fairness.take(&quota, &tenant(), 150, 10, 0).unwrap();
        let over = fairness.take(&quota, &tenant(), 100, 10, 0).unwrap_err();
        assert_eq!(over, Over { limit: "events_per_second", value: 100, retry_after: 1 });
        // Another tenant is not asked to wait, and half a second later there is room again.
        fairness.take(&quota, &"globex".parse().unwrap(), 100, 10, 0).unwrap();
        fairness.take(&quota, &tenant(), 100, 10, 500_000).unwrap();
        let over = fairness.take(&quota, &tenant(), 0, 1_995, 500_000).unwrap_err();
        assert_eq!(over.limit, "bytes_per_second");
        // More at once than a bucket holds goes through when it is full, and is paid for by waiting.
        fairness.take(&quota, &tenant(), 1_000, 10, 10_000_000).unwrap();
        let over = fairness.take(&quota, &tenant(), 1, 10, 10_000_000).unwrap_err();
        assert_eq!(over.retry_after, 9);
        // Raised, it holds at once; none means none.
        let more = Quota { events_per_second: Some(1_000), ..quota };
        assert!(fairness.take(&more, &tenant(), 1, 10, 11_000_000).is_ok());
        assert!(fairness.take(&Quota::default(), &tenant(), u64::MAX, u64::MAX, 11_000_000).is_ok());
        let none = Quota { events_per_second: Some(0), ..Quota::default() };
        assert!(fairness.take(&none, &tenant(), 1, 1, 99_000_000).is_err());
    }

    #[test]
    fn questions_at_the_same_time_are_counted_until_they_end() {
        let fairness = Arc::new(Fairness::default());
        let quota = Quota { concurrent_queries: Some(2), ..Quota::default() };
        let first = fairness.ask(&quota, &tenant()).unwrap();
        let _second = fairness.ask(&quota, &tenant()).unwrap();
        assert_eq!(fairness.ask(&quota, &tenant()).unwrap_err().limit, "concurrent_queries");
        drop(first);
        assert!(fairness.ask(&quota, &tenant()).is_ok());
    }

    #[test]
    fn what_a_question_looked_at_is_paid_for_by_the_next() {
        let fairness = Fairness::default();
        let quota = Quota { scanned_bytes_per_second: Some(1_000), ..Quota::default() };
        fairness.may_scan(&quota, &tenant(), 0).unwrap();
        fairness.scanned(&quota, &tenant(), 7_000, 0);
        let over = fairness.may_scan(&quota, &tenant(), 0).unwrap_err();
        assert_eq!((over.limit, over.value, over.retry_after), (SCANNED, 1_000, 6));
        assert!(fairness.may_scan(&quota, &"globex".parse().unwrap(), 0).is_ok());
        assert!(fairness.may_scan(&quota, &tenant(), 4_900_000).is_err());
        assert!(fairness.may_scan(&quota, &tenant(), 5_100_000).is_ok());
        assert!(fairness.may_scan(&Quota::default(), &tenant(), 0).is_ok());
    }

    proptest! {
        #[test]
        fn over_any_while_no_more_passes_than_rate_and_burst(
            rate in 1u32..1_000, asked in proptest::collection::vec((0u64..400, 0i64..2_000_000), 1..80)
        ) {
            let fairness = Fairness::default();
            let quota = Quota { events_per_second: Some(rate), ..Quota::default() };
            let (mut now, mut passed, mut largest) = (0i64, 0u64, 0u64);
            for (events, pause) in asked {
                now += pause;
                if fairness.take(&quota, &tenant(), events, 0, now).is_ok() {
                    passed += events;
                    largest = largest.max(events);
                }
            }
            let most = f64::from(rate) * (now as f64 / 1e6 + BURST_SECONDS) + largest as f64 + 1.0;
            prop_assert!(passed as f64 <= most, "{} of at most {}", passed, most);
        }
    }
}

//! Whether failures are more frequent than elsewhere: Fisher's exact test, one-sided.
//!
//! It holds for small numbers, where a ratio of rates says anything. Source: R. A. Fisher, *The Design of Experiments*
//! (1935), §5. Not here: what is compared with what ([`super::verdict`]).
//!
//! Invariant: the same counts give the same number, and it lies between 0 and 1.

/// The chance that, of `failures + other_failures` failures that fall anywhere among all events, at least `failures` fall
/// among these `events`: small when they are more frequent here than among the `other_events`.
pub(crate) fn chance(failures: u64, events: u64, other_failures: u64, other_events: u64) -> f64 {
    let all = events + other_events;
    let failing = failures + other_failures;
    // No more frequent than elsewhere: nothing to explain.
    if events == 0
        || other_events == 0
        || u128::from(failures) * u128::from(all) <= u128::from(failing) * u128::from(events)
    {
        return 1.0;
    }
    let most = failing.min(events);
    // The first term exactly, each further one from the one before. They fall, since this begins beyond the mean.
    let mut term =
        (ln_choose(events, failures) + ln_choose(other_events, other_failures) - ln_choose(all, failing)).exp();
    let mut sum = 0.0;
    let mut here = failures;
    loop {
        sum += term;
        if here == most || term <= sum * f64::EPSILON {
            return sum.clamp(0.0, 1.0);
        }
        let elsewhere = failing - here;
        let up = (events - here) as f64 * elsewhere as f64;
        let down = (here + 1) as f64 * (other_events - elsewhere + 1) as f64;
        term *= up / down;
        here += 1;
    }
}

/// The logarithm of a binomial coefficient.
fn ln_choose(of: u64, some: u64) -> f64 {
    ln_factorial(of) - ln_factorial(some) - ln_factorial(of - some)
}

/// The logarithm of a factorial: by multiplying for small numbers, else Stirling's series, whose error there is below
/// 10⁻¹³ (Abramowitz and Stegun, 6.1.40).
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|factor| factor as f64).product::<f64>().ln();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1_260.0 * x.powi(5));
    x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_tables_give_known_chances() {
        // The lady tasting tea; and a table worked out by hand: (C(8,3)·1000 + C(8,4)) / C(1008,4).
        for (table, expected) in [
            ((3, 4, 1, 4), 0.242_857_142_857),
            ((4, 4, 0, 4), 0.014_285_714_286),
            ((3, 8, 1, 1_000), 1.311_26e-6),
            ((0, 10, 0, 10), 1.0),
            ((5, 10, 50, 100), 1.0),
            ((1, 1, 0, 0), 1.0),
        ] {
            let (a, n, b, m) = table;
            let found = chance(a, n, b, m);
            assert!((found - expected).abs() <= expected * 1e-3, "{table:?}: {found} and not {expected}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_sum_over_all_tables(events in 1u64..25, other_events in 1u64..25, a in 0u64..25, b in 0u64..25) {
            let (a, b) = (a.min(events), b.min(other_events));
            let choose = |n: u64, k: u64| (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64);
            let (failing, all) = (a + b, events + other_events);
            let total = choose(all, failing);
            let exact: f64 = (a..=failing.min(events))
                .filter(|here| failing - here <= other_events)
                .map(|here| choose(events, here) * choose(other_events, failing - here) / total)
                .sum();
            let found = chance(a, events, b, other_events);
            let is_higher = a * all > failing * events;
            prop_assert!(if is_higher { (found - exact).abs() < 1e-9 } else { found == 1.0 }, "{found} and {exact}");
        }

        #[test]
        fn large_counts_stay_within_bounds(a in 0u64..100_000, n in 1u64..10_000_000, b in 0u64..100_000, m in 1u64..10_000_000) {
            let found = chance(a.min(n), n, b.min(m), m);
            prop_assert!((0.0..=1.0).contains(&found));
        }
    }
}

//! The fictitious platform: tenants, regions, people, and which release ran where and when.
//!
//! A white-label ERP for distribution and professional services. Every name is invented; addresses are from ranges
//! reserved for documentation, private or carrier use. No events are made here. Neighbours: `traffic` and the plants
//! ask it for facts.
//!
//! Invariants:
//! 1. Tenants, their regions and weights never depend on the seed, so that a reader learns them once.
//! 2. `release_at` is a function of region and time; every event, late ones too, carries the release that ran when it
//!    happened.

use super::Plan;
use super::random::mix;
use super::time::{DAY, HOUR, MINUTE, SECOND, uneven};
use std::cmp::Ordering;

/// Europe, where half of the tenants live.
pub const EU: &str = "eu-central-1";
/// North America, where the other half live and where a release goes first.
pub const US: &str = "us-east-1";

/// What a tenant does for a living.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trade {
    /// Buys, stores and ships goods.
    Distribution,
    /// Sells people's time.
    Services,
    /// Runs the platform for others under its own brand.
    Partner,
    /// The platform's own tenant.
    Operator,
}

/// A tenant of the platform.
#[derive(Debug)]
pub struct Tenant {
    /// The tenant id.
    pub id: &'static str,
    /// Home region.
    pub region: &'static str,
    /// Line of business.
    pub trade: Trade,
    /// Share of the everyday traffic; 0 for those whose every event is planted.
    pub weight: u64,
    /// The white-label operator that serves it, or empty.
    pub partner: &'static str,
}

/// An ordinary customer; `rank` gives its weight, Zipf-like (10,000 / rank).
const fn customer(id: &'static str, region: &'static str, trade: Trade, rank: u64) -> Tenant {
    Tenant { id, region, trade, weight: 10_000 / rank, partner: "" }
}

/// A customer of the partner.
const fn client(id: &'static str, rank: u64) -> Tenant {
    Tenant { id, region: EU, trade: Trade::Distribution, weight: 10_000 / rank, partner: PARTNER }
}

/// The white-label operator.
pub const PARTNER: &str = "hollowmere";
/// The tenant that hardly does anything.
pub const QUIET: &str = "murkfold";
/// The platform's own tenant.
pub const OPERATOR: &str = "platform";

use Trade::{Distribution, Services};

/// Every tenant, the platform's own last.
pub static TENANTS: [Tenant; 25] = [
    customer("marrowick", US, Distribution, 1),
    customer("quillfen", EU, Distribution, 2),
    customer("pellgrove", US, Services, 3),
    customer("tarnholt", EU, Services, 4),
    customer("sorrelby", US, Distribution, 5),
    customer("ossingby", EU, Distribution, 6),
    client("fennimoor", 7),
    customer("yarncastle", US, Distribution, 8),
    customer("brindlow", EU, Services, 9),
    customer("dapplewick", US, Services, 10),
    Tenant { id: PARTNER, region: EU, trade: Trade::Partner, weight: 900, partner: "" },
    customer("velmarsh", EU, Distribution, 12),
    customer("kestrow", US, Distribution, 13),
    client("dunlarch", 14),
    customer("umberfall", US, Services, 15),
    customer("thrupley", EU, Services, 16),
    customer("lanternby", US, Distribution, 17),
    customer("gannock", EU, Distribution, 18),
    customer("rookmarsh", US, Services, 19),
    client("wexholm", 20),
    customer("ivoryfen", US, Distribution, 22),
    customer("noxley", US, Services, 24),
    customer("candlemoor", US, Distribution, 26),
    Tenant { id: QUIET, region: EU, trade: Distribution, weight: 0, partner: "" },
    Tenant { id: OPERATOR, region: EU, trade: Trade::Operator, weight: 0, partner: "" },
];

/// The index of a tenant that the list above names.
pub fn tenant(id: &str) -> usize {
    TENANTS
        .iter()
        .position(|tenant| tenant.id == id)
        .expect("callers pass ids written in TENANTS; a test generates every plant")
}

/// A release going live in a region.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The release.
    pub release: String,
    /// Where.
    pub region: &'static str,
    /// From when on, in microseconds.
    pub from: i64,
    /// What ran there before.
    pub previous: String,
    /// True when it is the return to the previous release after the bad one.
    pub rollback: bool,
}

/// The platform over the days of a plan.
#[derive(Debug)]
pub struct Platform {
    /// The plan it follows.
    pub plan: Plan,
    /// The release that had to be rolled back.
    pub bad_release: String,
    /// When it was deployed, and when rolled back, in microseconds.
    pub bad_window: (i64, i64),
    /// Every rollout, by time.
    pub rollouts: Vec<Rollout>,
}

/// Releases are numbered on from here; this one ran before the plan begins.
const FIRST_RELEASE: u64 = 18;

impl Platform {
    /// Lays the releases over the plan's days: one every three days (at least 4, at most 120 in all), first in the
    /// US, hours later in Europe; the middle one is bad, is rolled back before it reaches Europe, and is mended by
    /// the next.
    pub fn new(plan: &Plan) -> Self {
        let span = plan.span();
        let count = i64::from(plan.days / 3).clamp(4, 120);
        let interval = span / count;
        let offset = (interval / 2).min(34 * HOUR);
        let lag = (interval / 4).min(6 * HOUR);
        let bad = count / 2;
        let mut platform = Self {
            plan: *plan,
            bad_release: String::new(),
            bad_window: (0, 0),
            rollouts: Vec::with_capacity(2 * count as usize + 1),
        };
        let name = |number: i64, patch: u64| format!("7.{}.{patch}", FIRST_RELEASE + number.unsigned_abs());
        let mut running = name(0, 0);
        for number in 0..count {
            let from = plan.start_us + number * interval + offset;
            if number == bad {
                let release = name(number + 1, 0);
                let until = from + (5 * HOUR + 20 * MINUTE).min(interval / 3);
                platform.roll(&release, US, from, &running, false);
                platform.roll(&running, US, until, &release, true);
                let bad = &platform.rollouts[platform.rollouts.len() - 2..];
                platform.bad_window = (bad[0].from, bad[1].from);
                platform.bad_release = release;
            } else {
                let release = match number.cmp(&(bad + 1)) {
                    Ordering::Less => name(number + 1, 0),
                    Ordering::Equal => name(number, 1),
                    Ordering::Greater => name(number, 0),
                };
                platform.roll(&release, US, from, &running, false);
                platform.roll(&release, EU, from + lag, &running, false);
                running = release;
            }
        }
        platform
    }

    fn roll(&mut self, release: &str, region: &'static str, from: i64, previous: &str, rollback: bool) {
        // Nothing goes live on the stroke of a second.
        let fraction = mix(self.plan.seed ^ mix(self.rollouts.len() as u64)) % SECOND.unsigned_abs();
        let from = uneven(from + fraction as i64);
        self.rollouts.push(Rollout {
            release: release.to_owned(),
            region,
            from,
            previous: previous.to_owned(),
            rollback,
        });
    }

    /// The release that ran in `region` at `time`.
    pub fn release_at(&self, region: &str, time: i64) -> String {
        // In order of time: Europe's lag is a quarter of the interval at most, the bad window a third.
        let upto = self.rollouts.partition_point(|rollout| rollout.from <= time);
        let ran = self.rollouts[..upto].iter().rev().find(|rollout| rollout.region == region);
        ran.map_or_else(|| format!("7.{FIRST_RELEASE}.0"), |rollout| rollout.release.clone())
    }

    /// A time `permille` thousandths into the plan, and at the given hour and minute of that day if the plan is long
    /// enough for days to matter. Keep `permille` between 150 and 850: then the result lies inside the plan.
    pub fn moment(&self, permille: i64, hour: i64, minute: i64) -> i64 {
        let time = self.plan.start_us + self.plan.span() / 1_000 * permille;
        if self.plan.days < 7 { time } else { time - time.rem_euclid(DAY) + hour * HOUR + minute * MINUTE }
    }

    /// How many people a tenant has: from 4 in the smallest to about 110 in the largest.
    pub fn people(tenant: usize) -> u64 {
        4 + TENANTS[tenant].weight / 95
    }

    /// The id of a person of a tenant.
    pub fn person(tenant: usize, number: u64) -> String {
        format!("u-{}-{number:03}", TENANTS[tenant].id)
    }

    /// The address a person works from: in the carrier range 100.64.0.0/10, the same one all day.
    pub fn address(&self, tenant: usize, number: u64, time: i64) -> String {
        // One day in eight is worked from somewhere else.
        let elsewhere = mix(number ^ time.div_euclid(DAY).unsigned_abs()).is_multiple_of(8);
        let bits = mix(self.plan.seed ^ ((tenant as u64) << 32) ^ (number << 1) ^ u64::from(elsewhere));
        format!("100.{}.{}.{}", 64 + bits % 64, (bits >> 8) % 256, 1 + (bits >> 16) % 254)
    }

    /// The session a person is in: a new one every half day.
    pub fn session(&self, tenant: usize, number: u64, time: i64) -> String {
        let half_day = time.div_euclid(DAY / 2).unsigned_abs();
        format!("s-{:016x}", mix(self.plan.seed ^ mix(((tenant as u64) << 40) ^ (number << 24) ^ half_day)))
    }
}

/// Running sums of the tenants' weights, for `Random::weighted`.
pub fn cumulative_weights() -> Vec<u64> {
    let sums = TENANTS.iter().scan(0, |sum, tenant| {
        *sum += tenant.weight;
        Some(*sum)
    });
    sums.collect()
}

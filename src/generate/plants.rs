//! The plants: the few events that mean something, made before the everyday traffic and merged into it by arrival.
//!
//! This file holds what all plants share; the stories are in `incident` (the bad release), `intrusion` (the guessed
//! password), `oversight` (support and grants) and `borders` (exports, a roaming credential, the quiet tenant).
//! Nothing is written here.
//!
//! Invariants:
//! 1. How many plants there are is bounded by constants, whatever the plan's size, so memory is.
//! 2. Every plant is in the record, and what the record says of a plant is taken from the event itself.

use super::planted::EventRef;
use super::platform::{Platform, TENANTS};
use super::random::Random;
use super::time::{SECOND, uneven};
use super::wire::{Event, event_id};
use ledger::time::format_micros as rfc3339;

/// An event with the time at which it reaches the service.
#[derive(Clone, Debug)]
pub struct Plant {
    /// When its line comes, in microseconds.
    pub arrival: i64,
    /// The event.
    pub event: Event,
    /// True when its line comes twice.
    pub again: bool,
}

/// Collects plants.
#[derive(Debug)]
pub struct Story<'a> {
    /// The platform they happen on.
    pub platform: &'a Platform,
    /// The plants' own sequence.
    pub random: Random,
    /// What was planted so far, in no order.
    pub plants: Vec<Plant>,
}

impl<'a> Story<'a> {
    /// An empty story.
    pub fn new(platform: &'a Platform) -> Self {
        Self { platform, random: Random::new(platform.plan.seed, 2), plants: Vec::new() }
    }

    /// A number of plants for every `per` events of the plan, within bounds.
    pub fn scaled(&self, per: usize, low: usize, high: usize) -> usize {
        (self.platform.plan.events / per).clamp(low, high)
    }

    /// Plants an event that arrives within seconds.
    pub fn add(&mut self, event: Event) -> EventRef {
        let delay = self.random.between(0, 4 * SECOND);
        self.add_delayed(event, delay, false)
    }

    /// Plants an event whose line comes twice.
    pub fn add_twice(&mut self, event: Event) -> EventRef {
        self.add_delayed(event, SECOND, true)
    }

    /// Plants an event that arrives `delay` microseconds after it happened. What the story left open is filled in:
    /// the id, the tenant's region and partner, and the release that ran in that region.
    pub fn add_delayed(&mut self, mut event: Event, delay: i64, again: bool) -> EventRef {
        let home = &TENANTS[event.tenant];
        // Stories tell in minutes; nothing happens on the stroke of a second.
        if event.time % SECOND == 0 {
            event.time += self.random.between(0, SECOND);
        }
        event.time = uneven(event.time);
        event.id = event_id(event.time, &mut self.random);
        if event.region.is_empty() {
            event.region = home.region;
        }
        if event.release.is_empty() {
            event.release = self.platform.release_at(event.region, event.time);
        }
        if event.partner.is_empty() {
            event.partner = home.partner;
        }
        let found = EventRef {
            id: event.id.clone(),
            tenant: home.id.to_owned(),
            time: rfc3339(event.time),
            action: event.action.to_owned(),
        };
        self.plants.push(Plant { arrival: event.time + delay, event, again });
        found
    }
}

//! Support's visits and the granting of roles: what an access review looks at.
//!
//! Most of it is in order: asked for, approved by somebody else, ended. Some is not: a visit without elevation, an
//! elevation that the asker approved, grants without approval, grants never used, grants of people who left.
//! Neighbours: `plants`; `intrusion` adds one more grant.
//!
//! Invariants:
//! 1. Support reads data in planted events only; every such event has an elevation except those recorded as having
//!    none.
//! 2. Persons numbered 900 and up exist in this file and `intrusion` only; everyday traffic never is theirs.

use super::planted::{Elevation, EventRef, Grant, Support, Unelevated, UnelevatedRead};
use super::plants::Story;
use super::platform::{OPERATOR, Platform, TENANTS, cumulative_weights, tenant};
use super::time::{DAY, HOUR, MINUTE};
use super::wire::{Attributes, Event};

/// The tenant that support reads without an elevation.
const SPIED_ON: &str = "ossingby";
/// Who does it.
const SPY: &str = "sup-07";
/// How many people support has.
const SUPPORTERS: u64 = 9;

/// What support reads: service, action, resource type, class.
const READS: [[&str; 4]; 4] = [
    ["billing", "invoice.read", "invoice", "financial"],
    ["customers", "customer.read", "customer", "personal"],
    ["orders", "order.read", "order", "commercial"],
    ["documents", "document.read", "document", "confidential"],
];

/// Plants support's visits.
pub fn support(story: &mut Story) -> Support {
    let count = story.scaled(2_500, 6, 120);
    let weights = cumulative_weights();
    let mut elevations = Vec::with_capacity(count);
    let mut approved_by_asker = Vec::new();
    for number in 0..count {
        // The first visit is to the tenant that is also visited without elevation, so that a checker must tell the
        // two apart.
        let index = if number == 0 { tenant(SPIED_ON) } else { story.random.weighted(&weights) };
        let own_approval = number == count / 2;
        let elevation = elevation(story, number, index, own_approval);
        if own_approval {
            approved_by_asker.push(elevation.elevation_id.clone());
        }
        elevations.push(elevation);
    }
    elevations.sort_by(|one, other| one.from.cmp(&other.from));
    Support { elevations, approved_by_asker, without_elevation: unelevated(story) }
}

/// An act of support at a tenant.
fn act(index: usize, time: i64, actor: &str, does: [&'static str; 2]) -> Event {
    let [service, action] = does;
    Event {
        tenant: index,
        time,
        action,
        outcome: "success",
        actor_type: "support",
        actor: actor.to_owned(),
        actor_name: format!("support agent {}", &actor[4..]),
        source_ip: format!("192.0.2.{}", &actor[5..]),
        session: format!("s-{actor}-{}", time.div_euclid(DAY)),
        user_agent: "support-console/4.1",
        service,
        ..Event::default()
    }
}

/// One visit: request, approval, reads, end.
fn elevation(story: &mut Story, number: usize, index: usize, own_approval: bool) -> Elevation {
    let span = story.platform.plan.span();
    // A visit takes under three hours; the plan's last eighth has none.
    let begin = story.platform.plan.start_us + story.random.between(span / 50, span / 8 * 7);
    let actor_number = 1 + story.random.below(SUPPORTERS);
    let actor = format!("sup-{actor_number:02}");
    let approver = if own_approval { actor.clone() } else { format!("sup-{:02}", 1 + actor_number % SUPPORTERS) };
    let elevation_id = format!("elv-{number:04}-{}", story.random.hex(6));
    let approval_id = format!("apr-e{number:04}");
    let ticket = format!("TCK-{}", 20_000 + story.random.below(9_000));
    let details = |extra: &str| Attributes::new().text("ticket", &ticket).text("note", extra).finish();
    let with = |event: Event, note: &str| Event {
        resource_type: "elevation",
        resource: elevation_id.clone(),
        elevation_id: elevation_id.clone(),
        attributes: details(note),
        ..event
    };
    story.add(with(act(index, begin, &actor, ["identity", "elevation.request"]), "customer asks why a total differs"));
    let approved =
        with(act(index, begin + 9 * MINUTE, &approver, ["identity", "elevation.approve"]), "two hours, read only");
    let from = story.add(Event { approval_id: approval_id.clone(), on_behalf_of: actor.clone(), ..approved }).time;
    let mut reads = Vec::new();
    for visit in 0..2 + story.random.below(5) as i64 {
        let [service, action, resource_type, class] = story.random.choose(&READS);
        let time = begin + 12 * MINUTE + visit * 14 * MINUTE + story.random.between(0, 9 * MINUTE);
        let resource = format!("{resource_type}-{:05}", story.random.below(900));
        reads.push(story.add(Event {
            resource_type,
            resource,
            class,
            elevation_id: elevation_id.clone(),
            approval_id: approval_id.clone(),
            attributes: Attributes::new().text("ticket", &ticket).finish(),
            ..act(index, time, &actor, [service, action])
        }));
    }
    let ended = with(act(index, begin + 2 * HOUR, &actor, ["identity", "elevation.end"]), "solved");
    let until = story.add(Event { approval_id: approval_id.clone(), ..ended }).time;
    Elevation {
        elevation_id,
        approval_id,
        tenant: TENANTS[index].id.to_owned(),
        actor,
        approver,
        ticket,
        from,
        until,
        reads,
    }
}

/// Three reads without elevation; one line of them comes twice. And two comments on tickets, which need none.
fn unelevated(story: &mut Story) -> Unelevated {
    let index = tenant(SPIED_ON);
    let begin = story.platform.moment(430, 19, 22);
    let mut reads = Vec::new();
    for (number, [service, action, resource_type, class]) in [READS[1], READS[1], READS[0]].into_iter().enumerate() {
        let time = begin + number as i64 * 3 * MINUTE + story.random.between(0, 2 * MINUTE);
        let resource = format!("{resource_type}-{:05}", story.random.below(900));
        let event =
            Event { resource_type, resource: resource.clone(), class, ..act(index, time, SPY, [service, action]) };
        let event = if number == 1 { story.add_twice(event) } else { story.add(event) };
        reads.push(UnelevatedRead { event, resource_type: resource_type.to_owned(), resource });
    }
    let harmless = (0..2).map(|number| {
        let actor = ["sup-02", SPY][number];
        let event = act(index, begin - HOUR + number as i64 * 20 * MINUTE, actor, ["helpdesk", "ticket.comment"]);
        let resource = format!("TCK-{}", 19_000 + number);
        story.add(Event {
            resource_type: "ticket",
            resource,
            attributes: Attributes::new().integer("length", 212).finish(),
            ..event
        })
    });
    let harmless = harmless.collect();
    Unelevated { tenant: SPIED_ON.to_owned(), actor: SPY.to_owned(), reads, harmless }
}

/// What is wrong, if anything, with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    NoApproval,
    NeverUsed,
    Orphaned,
}

const ROLES: [&str; 5] = ["billing-clerk", "order-desk", "warehouse-lead", "report-reader", "tenant-admin"];

/// Plants grants and revocations of roles. The first seven have a flaw; of the others every second is revoked in
/// time.
pub fn grants(story: &mut Story) -> Vec<Grant> {
    let count = story.scaled(1_500, 16, 150);
    let weights = cumulative_weights();
    let flaws = [
        Flaw::NoApproval,
        Flaw::NeverUsed,
        Flaw::NeverUsed,
        Flaw::NeverUsed,
        Flaw::Orphaned,
        Flaw::Orphaned,
        Flaw::Orphaned,
    ];
    let mut grants = Vec::with_capacity(count);
    for number in 0..count {
        let flaw = flaws.get(number).copied().unwrap_or(Flaw::None);
        let index = story.random.weighted(&weights);
        grants.push(grant(story, number, index, flaw));
    }
    grants
}

fn grant(story: &mut Story, number: usize, index: usize, flaw: Flaw) -> Grant {
    let platform: &Platform = story.platform;
    let span = platform.plan.span();
    let time = platform.plan.start_us + story.random.between(span / 100, span / 2);
    // Flawed grants go to people that everyday traffic does not know; ordinary ones to anybody but the
    // administrator, who is number 0.
    let person =
        if flaw == Flaw::None { 1 + story.random.below(Platform::people(index) - 1) } else { 900 + number as u64 };
    let subject = Platform::person(index, person);
    let role = story.random.choose(&ROLES);
    let approval_id = (flaw != Flaw::NoApproval).then(|| format!("apr-g{number:04}"));
    let approver = Platform::person(index, 1 + story.random.below(Platform::people(index) - 1));
    let details = Attributes::new().text("role", role);
    let details = if approval_id.is_some() { details.text("approver", &approver) } else { details };
    let granted = administer(platform, index, time, "role.grant", &subject);
    let approved = approval_id.clone().unwrap_or_default();
    let event = story.add(Event { approval_id: approved, attributes: details.finish(), ..granted });
    if matches!(flaw, Flaw::NoApproval | Flaw::Orphaned) {
        used_once(story, index, time + span / 40, person);
    }
    let left = (flaw == Flaw::Orphaned).then(|| {
        let gone = administer(platform, index, time + span / 10, "user.deactivate", &subject);
        story.add(Event { attributes: Attributes::new().text("cause", "left the company").finish(), ..gone })
    });
    let revoked = (flaw == Flaw::None && number.is_multiple_of(2)).then(|| {
        let taken = administer(platform, index, time + span / 8 + HOUR, "role.revoke", &subject);
        story.add(Event {
            attributes: Attributes::new().text("role", role).text("cause", "moved to another desk").finish(),
            ..taken
        })
    });
    Grant {
        event,
        subject,
        role: role.to_owned(),
        approval_id,
        revoked,
        left,
        never_used: flaw == Flaw::NeverUsed,
        orphaned: flaw == Flaw::Orphaned,
    }
}

/// An act of the tenant's administrator on somebody's account.
fn administer(platform: &Platform, index: usize, time: i64, action: &'static str, subject: &str) -> Event {
    Event {
        tenant: index,
        time,
        action,
        outcome: "success",
        actor_type: "user",
        actor: Platform::person(index, 0),
        resource_type: "user",
        resource: subject.to_owned(),
        class: "personal",
        source_ip: platform.address(index, 0, time),
        session: platform.session(index, 0, time),
        service: "identity",
        ..Event::default()
    }
}

/// A sign of life of a person that everyday traffic does not know.
fn used_once(story: &mut Story, index: usize, time: i64, person: u64) -> EventRef {
    let platform: &Platform = story.platform;
    story.add(Event {
        tenant: index,
        time,
        action: "report.run",
        outcome: "success",
        actor_type: "user",
        actor: Platform::person(index, person),
        resource_type: "report",
        resource: String::from("report-00012"),
        class: "financial",
        source_ip: platform.address(index, person, time),
        session: platform.session(index, person, time),
        service: "exports",
        workflow: "month-end",
        ..Event::default()
    })
}

/// A little life in the platform's own tenant: support's desk, so that it is not silent between releases.
pub fn desk(story: &mut Story) {
    let span = story.platform.plan.span();
    for number in 0..story.scaled(2_000, 5, 60) {
        let time = story.platform.plan.start_us + story.random.between(0, span - HOUR);
        let actor = format!("sup-{:02}", 1 + story.random.below(SUPPORTERS));
        let event = act(tenant(OPERATOR), time, &actor, ["helpdesk", "ticket.update"]);
        let resource = format!("TCK-{}", 20_000 + number);
        story.add(Event {
            resource_type: "ticket",
            resource,
            attributes: Attributes::new().text("state", "waiting").finish(),
            ..event
        });
    }
}

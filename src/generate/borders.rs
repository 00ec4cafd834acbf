//! Borders of regions: exports that leave theirs, a credential used from two, and the tenant where nothing should
//! happen.
//!
//! Neighbours: `plants`; `intrusion` adds one more export that left.
//!
//! Invariants:
//! 1. An `export.complete` with outcome `success` whose `boundary` is another region than the event's is planted and
//!    recorded.
//! 2. The roaming credential's foreign calls are the only events outside their tenant's region, the platform's own
//!    releases aside.
//! 3. The quiet tenant has planted events only.

use super::planted::{Crossing, EventRef, Exports, Quiet, RoamingCredential};
use super::plants::Story;
use super::platform::{EU, Platform, QUIET, TENANTS, US, tenant};
use super::time::{MINUTE, SECOND};
use super::wire::{Attributes, Event, Severity, Stream};

/// Two to the 53rd and one: the first integer that a double cannot hold.
const FIRST_UNSAFE: u64 = 9_007_199_254_740_993;

/// Plants the exports. Gives also the events with integers that a double cannot hold.
pub fn exports(story: &mut Story) -> (Exports, Vec<(EventRef, String)>) {
    let platform: &Platform = story.platform;
    let large = platform.moment(520, 23, 41);
    let approved = platform.moment(330, 10, 5);
    let refused = platform.moment(600, 15, 32);
    let rows = Attributes::new()
        .integer("rows", 4_812_377)
        .integer("bytes", 6_917_529_027)
        .integer("log_position", u64::MAX - 58);
    let first = crossing(story, "velmarsh", large, US, ["success", ""], "", rows.text("format", "parquet").finish());
    let rows = Attributes::new()
        .integer("rows", 18_020)
        .integer("log_position", FIRST_UNSAFE)
        .text("purpose", "group consolidation");
    let second = crossing(story, "pellgrove", approved, EU, ["success", ""], "apr-x0001", rows.finish());
    let rows = Attributes::new().integer("rows", 0).text("policy", "residency-eu");
    let third = crossing(story, "tarnholt", refused, US, ["denied", "residency"], "", rows.finish());
    let large_integers =
        vec![(first.event.clone(), (u64::MAX - 58).to_string()), (second.event.clone(), FIRST_UNSAFE.to_string())];
    let largest = first.event.clone();
    (Exports { left_region: vec![first, second], refused: vec![third], largest }, large_integers)
}

/// One export towards another region.
fn crossing(
    story: &mut Story,
    place: &str,
    time: i64,
    boundary: &'static str,
    [outcome, reason]: [&'static str; 2],
    approval: &str,
    attributes: String,
) -> Crossing {
    let platform: &Platform = story.platform;
    let index = tenant(place);
    let person = 2;
    let export = format!("exp-{}", story.random.hex(10));
    let event = story.add(Event {
        tenant: index,
        time,
        action: "export.complete",
        outcome,
        reason,
        actor_type: "user",
        actor: Platform::person(index, person),
        resource_type: "export",
        resource: export.clone(),
        class: "financial",
        boundary,
        source_ip: platform.address(index, person, time),
        session: platform.session(index, person, time),
        service: "exports",
        workflow: "data-export",
        approval_id: approval.to_owned(),
        attributes,
        ..Event::default()
    });
    let approval_id = (!approval.is_empty()).then(|| approval.to_owned());
    Crossing {
        event,
        region: TENANTS[index].region.to_owned(),
        boundary: boundary.to_owned(),
        actor: Platform::person(index, person),
        export,
        approval_id,
    }
}

/// Plants the credential's calls: regular ones at home, and a handful from the other region between two of them.
pub fn roaming_credential(story: &mut Story) -> RoamingCredential {
    const HOME_CALLS: i64 = 12;
    const FOREIGN_CALLS: i64 = 5;
    let index = tenant("gannock");
    let credential = format!("key-{}", story.random.hex(8));
    let begin = story.platform.moment(800, 8, 3);
    let call = |number: i64, region: &'static str, source_ip: &str| Event {
        tenant: index,
        time: begin + number * 6 * MINUTE,
        action: "stock.read",
        outcome: "success",
        actor_type: "service",
        actor: String::from("integration-wms"),
        resource_type: "stock_item",
        resource: format!("stock_item-{number:05}"),
        class: "operational",
        source_ip: source_ip.to_owned(),
        user_agent: "wms-connector/2.0",
        credential: credential.clone(),
        service: "api-gateway",
        workflow: "stock-sync",
        region,
        attributes: Attributes::new().text("route", "/api/stock").integer("items", 40).finish(),
        ..Event::default()
    };
    for number in 0..HOME_CALLS {
        story.add(call(number, EU, "2001:db8:20::15"));
    }
    let foreign = (0..FOREIGN_CALLS).map(|number| {
        let mut event = call(4 + number, US, "198.51.100.140");
        event.time += 2 * MINUTE + 7 * SECOND;
        story.add(event)
    });
    let foreign_calls = foreign.collect();
    RoamingCredential {
        tenant: TENANTS[index].id.to_owned(),
        credential,
        home_region: EU.to_owned(),
        home_calls: HOME_CALLS as u64,
        foreign_region: US.to_owned(),
        foreign_calls,
    }
}

/// A login of the quiet tenant's one person.
fn quiet_login(platform: &Platform, index: usize, time: i64) -> Event {
    Event {
        tenant: index,
        time,
        action: "auth.login",
        outcome: "success",
        actor_type: "user",
        actor: Platform::person(index, 0),
        resource_type: "account",
        resource: Platform::person(index, 0),
        source_ip: platform.address(index, 0, time),
        session: platform.session(index, 0, time),
        service: "identity",
        attributes: Attributes::new().text("method", "sso").json("mfa", "true").finish(),
        ..Event::default()
    }
}

/// Plants the few events of the quiet tenant, and the one that should not be.
pub fn quiet(story: &mut Story) -> Quiet {
    const VISITS: i64 = 4;
    let platform: &Platform = story.platform;
    let index = tenant(QUIET);
    let (start, span) = (platform.plan.start_us, platform.plan.span());
    for visit in 0..VISITS {
        let time = start + span / 5 * visit + span / 20;
        story.add(quiet_login(platform, index, time));
    }
    let read = quiet_login(platform, index, start + span / 5 + span / 20 + 4 * MINUTE);
    story.add(Event {
        action: "invoice.read",
        resource_type: "invoice",
        resource: String::from("invoice-00003"),
        class: "financial",
        service: "billing",
        attributes: String::new(),
        ..read
    });
    let (trace_id, span_id) = (story.random.hex(32), story.random.hex(16));
    story.add(Event {
        stream: Stream::Telemetry,
        action: "request.serve",
        actor_type: "service",
        actor: String::from("svc-identity"),
        resource_type: "",
        source_ip: String::from("10.48.1.20"),
        session: String::new(),
        severity: Severity::Number(9),
        duration_us: Some(21_407),
        trace_id,
        span_id,
        ..quiet_login(platform, index, start + span / 3)
    });
    let (actor, source_ip) = (Platform::person(index, 900), String::from("2001:db8:66::3"));
    let (key, session) = (format!("key-{}", story.random.hex(8)), format!("s-{}", story.random.hex(16)));
    let anomaly = story.add(Event {
        action: "apikey.create",
        actor: actor.clone(),
        resource_type: "apikey",
        resource: key,
        source_ip: source_ip.clone(),
        session,
        attributes: Attributes::new().text("scope", "read-all").json("expires", "null").finish(),
        ..quiet_login(platform, index, platform.moment(620, 3, 12))
    });
    Quiet { tenant: QUIET.to_owned(), events: VISITS as u64 + 3, anomaly, actor, source_ip }
}

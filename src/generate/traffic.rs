//! Everyday traffic: the ordinary events among which the plants hide.
//!
//! Nothing here is a finding. In particular no event of everyday traffic grants a role, crosses a region, comes from
//! support, or carries the bad release's reason; errors happen at a low rate everywhere, so that "no errors at all"
//! is never the test of health. Neighbours: `platform` says who and where, the parent decides when.
//!
//! Invariants:
//! 1. One call makes one event, from the draws of one sequence only.
//! 2. Release and region follow the time the event happened, not the time it arrived.

use super::platform::{PARTNER, Platform, TENANTS, Trade, US, cumulative_weights, tenant};
use super::random::Random;
use super::wire::{Attributes, Event, Severity, Stream, event_id};

/// Who usually does a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doer {
    /// A person of the tenant.
    Person,
    /// A service of the platform.
    Service,
    /// An assistant that acts for a person.
    Agent,
}

/// A kind of thing that happens.
#[derive(Debug)]
struct Kind {
    weight: u64,
    trade: Option<Trade>,
    stream: Stream,
    action: &'static str,
    service: &'static str,
    workflow: &'static str,
    integration: &'static str,
    resource: &'static str,
    class: &'static str,
    doer: Doer,
}

/// A kind from the columns of the table below; a dash means absent.
const fn kind(
    weight: u64,
    trade: Option<Trade>,
    doer: Doer,
    does: [&'static str; 2],
    way: [&'static str; 2],
    what: [&'static str; 2],
) -> Kind {
    let [service, action] = does;
    let [workflow, integration] = way;
    let [resource, class] = what;
    Kind { weight, trade, stream: Stream::Audit, action, service, workflow, integration, resource, class, doer }
}

/// A kind of telemetry.
const fn measure(weight: u64, trade: Option<Trade>, does: [&'static str; 2], way: [&'static str; 2]) -> Kind {
    let [service, action] = does;
    let [workflow, integration] = way;
    let (resource, class) = ("", "");
    Kind {
        weight,
        trade,
        stream: Stream::Telemetry,
        action,
        service,
        workflow,
        integration,
        resource,
        class,
        doer: Doer::Service,
    }
}

use Doer::{Agent, Person, Service};
const GOODS: Option<Trade> = Some(Trade::Distribution);
const TIME: Option<Trade> = Some(Trade::Services);
const WHITE_LABEL: Option<Trade> = Some(Trade::Partner);

/// What a day on the platform is made of.
static KINDS: [Kind; 31] = [
    kind(60, None, Service, ["billing", "invoice.post"], ["order-to-invoice", "tax-tables"], ["invoice", "financial"]),
    kind(50, None, Person, ["billing", "invoice.read"], ["", ""], ["invoice", "financial"]),
    kind(22, None, Person, ["billing", "invoice.approve"], ["invoice-approval", ""], ["invoice", "financial"]),
    kind(
        30,
        None,
        Service,
        ["billing", "payment.capture"],
        ["order-to-cash", "payments-gateway"],
        ["payment", "financial"],
    ),
    kind(
        12,
        None,
        Service,
        ["billing", "statement.import"],
        ["bank-reconciliation", "bank-feed"],
        ["bank_statement", "financial"],
    ),
    kind(70, GOODS, Person, ["orders", "order.create"], ["quote-to-order", ""], ["order", "commercial"]),
    kind(55, GOODS, Person, ["orders", "order.update"], ["quote-to-order", ""], ["order", "commercial"]),
    kind(45, GOODS, Service, ["orders", "order.import"], ["edi-orders", "edi-bridge"], ["order", "commercial"]),
    kind(
        50,
        GOODS,
        Service,
        ["inventory", "shipment.book"],
        ["order-fulfilment", "carrier-hub"],
        ["shipment", "commercial"],
    ),
    kind(40, GOODS, Person, ["inventory", "stock.adjust"], ["stocktake", ""], ["stock_item", "operational"]),
    kind(80, TIME, Person, ["projects", "timesheet.submit"], ["time-to-invoice", ""], ["timesheet", "personal"]),
    kind(45, TIME, Person, ["projects", "timesheet.approve"], ["time-to-invoice", ""], ["timesheet", "personal"]),
    kind(50, TIME, Person, ["projects", "project.update"], ["project-planning", ""], ["project", "commercial"]),
    kind(90, WHITE_LABEL, Person, ["identity", "user.update"], ["client-administration", ""], ["user", "personal"]),
    kind(
        60,
        WHITE_LABEL,
        Person,
        ["admin-console", "setting.update"],
        ["client-administration", ""],
        ["setting", "operational"],
    ),
    kind(60, None, Person, ["customers", "customer.read"], ["", ""], ["customer", "personal"]),
    kind(18, None, Person, ["customers", "customer.update"], ["customer-care", "crm-sync"], ["customer", "personal"]),
    kind(45, None, Person, ["identity", "auth.login"], ["", ""], ["account", ""]),
    kind(20, None, Person, ["identity", "auth.logout"], ["", ""], ["account", ""]),
    kind(25, None, Person, ["documents", "document.read"], ["", ""], ["document", "confidential"]),
    kind(14, None, Person, ["exports", "report.run"], ["month-end", ""], ["report", "financial"]),
    kind(6, None, Service, ["exports", "export.complete"], ["data-export", ""], ["export", "financial"]),
    kind(10, None, Agent, ["assistant", "agent.suggest"], ["collections-assistant", ""], ["customer", "personal"]),
    kind(22, None, Service, ["api-gateway", "webhook.deliver"], ["", "edi-bridge"], ["webhook", "operational"]),
    kind(4, None, Person, ["admin-console", "setting.update"], ["", ""], ["setting", "operational"]),
    measure(130, None, ["api-gateway", "request.serve"], ["", ""]),
    measure(45, None, ["billing", "job.run"], ["order-to-invoice", "tax-tables"]),
    measure(25, None, ["billing", "integration.call"], ["order-to-cash", "payments-gateway"]),
    measure(45, GOODS, ["orders", "queue.consume"], ["edi-orders", "edi-bridge"]),
    measure(25, GOODS, ["inventory", "job.run"], ["stock-sync", "carrier-hub"]),
    measure(12, None, ["identity", "request.serve"], ["", ""]),
];

const CLIENTS_OF_PARTNER: [&str; 3] = ["fennimoor", "dunlarch", "wexholm"];
const BROWSERS: [&str; 3] =
    ["Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "erp-mobile/5.2"];
const UNITS: [&str; 4] = ["north", "south", "wholesale", "online"];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "CHF", "GBP"];

/// A source of ordinary events.
#[derive(Debug)]
pub struct Traffic<'a> {
    platform: &'a Platform,
    tenants: Vec<u64>,
    kinds: Vec<Vec<u64>>,
}

impl<'a> Traffic<'a> {
    /// Traffic on `platform`.
    pub fn new(platform: &'a Platform) -> Self {
        let sums = |trade: Trade| {
            let mut sum = 0;
            let weights =
                KINDS.iter().map(|kind| if kind.trade.is_none_or(|own| own == trade) { kind.weight } else { 0 });
            weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect()
        };
        Self {
            platform,
            tenants: cumulative_weights(),
            kinds: TENANTS.iter().map(|tenant| sums(tenant.trade)).collect(),
        }
    }

    /// One ordinary event that happens at `time`.
    pub fn event(&self, time: i64, random: &mut Random) -> Event {
        let number = random.weighted(&self.tenants);
        let kind = &KINDS[random.weighted(&self.kinds[number])];
        let home = &TENANTS[number];
        let mut event = Event {
            tenant: number,
            stream: kind.stream,
            time,
            id: event_id(time, random),
            action: kind.action,
            service: kind.service,
            workflow: kind.workflow,
            integration: kind.integration,
            region: home.region,
            release: self.platform.release_at(home.region, time),
            partner: home.partner,
            ..Event::default()
        };
        self.fill_outcome(kind, &mut event, random);
        self.fill_actor(kind, &mut event, random);
        self.fill_resource(kind, &mut event, random);
        match kind.stream {
            Stream::Audit => fill_details(kind, &mut event, random),
            Stream::Telemetry => fill_measures(&mut event, random),
        }
        event
    }

    fn fill_outcome(&self, kind: &Kind, event: &mut Event, random: &mut Random) {
        let login = kind.action == "auth.login";
        let failures = if login { 60 } else { 22 };
        let draw = random.below(1_000);
        (event.outcome, event.reason) = if draw < failures {
            (
                "failure",
                if login { "bad_password" } else { random.choose(&["validation", "stale_version", "not_found"]) },
            )
        } else if draw < failures + 10 && kind.doer == Doer::Person {
            ("denied", if login { "mfa_missing" } else { random.choose(&["role_missing", "limit_exceeded"]) })
        } else if draw >= 994 {
            ("error", random.choose(&["upstream_timeout", "database_busy"]))
        } else {
            ("success", "")
        };
    }

    fn fill_actor(&self, kind: &Kind, event: &mut Event, random: &mut Random) {
        if kind.doer == Doer::Service {
            event.actor_type = "service";
            event.actor = format!("svc-{}", kind.service);
            event.source_ip = format!(
                "10.{}.{}.{}",
                if event.region == US { 16 } else { 48 },
                random.below(8),
                10 + random.below(40)
            );
            if kind.stream == Stream::Audit {
                event.credential = format!("wl-{}-{}", kind.service, event.region);
            }
            return;
        }
        // A white-label operator's people do some of the work at its clients.
        let by_partner = !event.partner.is_empty() && random.permille(120);
        let employer = if by_partner { tenant(PARTNER) } else { event.tenant };
        // The smaller of two draws: a few people do most of the work.
        let people = Platform::people(employer);
        let number = random.below(people).min(random.below(people));
        event.actor = Platform::person(employer, number);
        event.actor_type = if by_partner { "partner" } else { "user" };
        if kind.doer == Doer::Agent {
            event.actor_type = "agent";
            event.on_behalf_of = std::mem::replace(&mut event.actor, String::from("agent-collections"));
        } else if TENANTS[event.tenant].trade == Trade::Partner {
            event.actor_type = "partner";
        }
        event.source_ip = self.platform.address(employer, number, event.time);
        event.session = self.platform.session(employer, number, event.time);
        if event.action == "auth.login" && event.outcome != "success" {
            // No session without a login.
            event.session.clear();
        }
        event.user_agent = BROWSERS[(number % 3) as usize];
    }

    fn fill_resource(&self, kind: &Kind, event: &mut Event, random: &mut Random) {
        if kind.resource.is_empty() {
            return;
        }
        let size = 50 + TENANTS[event.tenant].weight * 4;
        event.resource_type = kind.resource;
        event.class = kind.class;
        event.resource = if kind.resource == "account" {
            event.actor.clone()
        } else {
            format!("{}-{:05}", kind.resource, random.below(size))
        };
        if kind.resource == "export" {
            event.resource = format!("exp-{}", random.hex(10));
            // Some services always name the boundary, also when it is the tenant's own region.
            event.boundary = if random.permille(300) { event.region } else { "" };
        }
        let home = &TENANTS[event.tenant];
        if home.weight >= 1_600 {
            let number = 1 + random.below(3);
            event.legal_entity = format!("{}-le{number}", home.id);
            event.business_unit = random.choose(&UNITS);
        }
        match home.trade {
            Trade::Services => {
                let project = random.below(12 + home.weight / 100);
                event.project = format!("prj-{project:03}");
                event.client = format!("cl-{:02}", project % 9);
            }
            // A white-label operator works on its clients: the boundary names whose thing was touched.
            Trade::Partner if kind.trade == WHITE_LABEL => {
                event.boundary = random.choose(&CLIENTS_OF_PARTNER);
                event.client = event.boundary.to_owned();
            }
            _ => {}
        }
    }
}

/// Attributes of an audit event, as a service of that kind would write them.
fn fill_details(kind: &Kind, event: &mut Event, random: &mut Random) {
    if random.permille(600) {
        event.trace_id = random.hex(32);
    }
    let attributes = Attributes::new().text("request_id", &random.hex(16));
    let attributes = match kind.resource {
        "invoice" | "payment" => {
            let currency = random.choose(&CURRENCIES);
            let amount = 500 + random.below(900_000);
            attributes
                .amount("amount", amount)
                .text("currency", currency)
                .amount("tax", amount / 5)
                .integer("lines", 1 + random.below(24))
        }
        "order" => {
            let items =
                format!("[{{\"sku\":\"SK-{:05}\",\"quantity\":{}}}]", random.below(9_000), 1 + random.below(40));
            attributes.json("items", &items).text("channel", random.choose(&["edi", "portal", "phone"]))
        }
        "stock_item" => attributes
            .integer("counted", random.below(400))
            .text("note", random.choose(&["recount", "damaged", "Zähldifferenz"])),
        "timesheet" => attributes
            .text("hours", &format!("{}.{}", 1 + random.below(9), random.choose(&["00", "25", "50"])))
            .json("billable", "true"),
        "export" => {
            attributes.integer("rows", 200 + random.below(40_000)).text("format", random.choose(&["csv", "xlsx"]))
        }
        "account" => attributes
            .text("method", random.choose(&["password", "sso", "passkey"]))
            .json("mfa", if random.permille(800) { "true" } else { "false" }),
        "setting" => attributes.json("change", "{\"from\":\"monthly\",\"to\":\"weekly\"}"),
        _ => attributes
            .json("fields", random.choose(&["[\"name\",\"address\"]", "[\"status\"]", "[\"terms\",\"limit\"]"])),
    };
    event.attributes = attributes.finish();
}

/// Duration, severity, trace and attributes of a telemetry event.
fn fill_measures(event: &mut Event, random: &mut Random) {
    let base: u64 = match event.action {
        "request.serve" => 18_000,
        "queue.consume" => 45_000,
        "integration.call" => 160_000,
        _ => 420_000,
    };
    let usual = base * (60 + random.below(120)) / 100;
    // A long tail: one in 40 takes eight times as long, one in 600 forty times.
    let duration = if random.below(600) == 0 {
        usual * 40
    } else if random.below(40) == 0 {
        usual * 8
    } else {
        usual
    };
    event.duration_us = Some(duration);
    let level = match event.outcome {
        "error" => 17,
        "failure" | "denied" => 13,
        _ => 9,
    };
    // One service is older and sends names.
    event.severity = match (event.service, level) {
        ("inventory", 17) => Severity::Name("error"),
        ("inventory", 13) => Severity::Name("warn"),
        ("inventory", _) => Severity::Name("info"),
        _ => Severity::Number(level),
    };
    event.trace_id = random.hex(32);
    event.span_id = random.hex(16);
    let attributes = match event.action {
        "request.serve" => {
            let status = match event.outcome {
                "success" => 200,
                "failure" => 422,
                "denied" => 403,
                _ => 503,
            };
            let route =
                random.choose(&["/api/orders", "/api/invoices", "/api/customers", "/api/stock", "/api/projects"]);
            Attributes::new()
                .text("method", random.choose(&["GET", "GET", "GET", "POST"]))
                .text("route", route)
                .integer("status", status)
        }
        "queue.consume" => {
            Attributes::new().integer("depth", random.below(300)).integer("attempt", 1 + random.below(2))
        }
        _ => {
            Attributes::new().integer("items", 1 + random.below(200)).text("worker", &format!("w-{}", random.below(12)))
        }
    };
    event.attributes = attributes.finish();
}

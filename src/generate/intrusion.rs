//! The intrusion: an address guesses passwords at several tenants, gets into one account, and the session is used
//! from elsewhere.
//!
//! The account belongs to the white-label operator, so the session reaches into its clients: one session, several
//! tenants. It ends with the session's revocation and a last try that is refused. Neighbours: `plants` takes the
//! events, `oversight` the grant made on the way.
//!
//! Invariants:
//! 1. The two addresses and the session occur in no other event.
//! 2. All events of the session have different times, so that they have one order.

use super::planted::{AddressCount, Crossing, EventRef, Grant, Intrusion, SessionStep};
use super::plants::Story;
use super::platform::{PARTNER, Platform, TENANTS, US, tenant};
use super::time::{MINUTE, SECOND, uneven};
use super::wire::{Attributes, Event};

/// Where the guesses come from.
const GUESSER: &str = "203.0.113.66";
/// Where the session is used afterwards.
const SECOND_ADDRESS: &str = "198.51.100.23";
/// Whose account opened.
const VICTIM: u64 = 3;
/// The tenants tried, in order; the operator of white labels last.
const TRIED: [&str; 7] = ["quillfen", "pellgrove", "tarnholt", "yarncastle", "ossingby", "umberfall", PARTNER];

/// What the intrusion adds to other parts of the record.
#[derive(Debug)]
pub struct Found {
    /// The intrusion.
    pub intrusion: Intrusion,
    /// The role the intruder granted, without approval.
    pub grant: Grant,
    /// The export that left the region.
    pub crossing: Crossing,
}

/// Plants all of it.
pub fn plant(story: &mut Story) -> Found {
    let begin = story.platform.moment(690, 2, 14);
    let failed = story.scaled(250, 42, 700) as u64;
    let session = format!("s-{}", story.random.hex(16));
    let mut tenants = guesses(story, begin, failed);
    let login = login(begin + 38 * MINUTE, "success", &Platform::person(tenant(PARTNER), VICTIM));
    let login = Event { tenant: tenant(PARTNER), actor_type: "partner", session: session.clone(), ..login };
    let mut steps = vec![step(story, login)];
    let success = steps[0].event.clone();
    if let Some(last) = tenants.last_mut() {
        (last.attempts, last.successes) = (last.attempts + 1, 1);
        last.last = success.time.clone();
    }
    let visit = begin + 61 * MINUTE;
    let mut acts = Acts { story, session: session.clone(), time: visit };
    acts.look_around(&mut steps);
    let (grant, crossing) = acts.take(&mut steps);
    acts.try_payment(&mut steps);
    let (contained_by, after) = acts.contained(&mut steps);
    let intrusion = Intrusion {
        source_ip: GUESSER.to_owned(),
        failed,
        tenants,
        success,
        session,
        actor: Platform::person(tenant(PARTNER), VICTIM),
        second_ip: SECOND_ADDRESS.to_owned(),
        steps,
        contained_by,
        after_containment: vec![after],
    };
    Found { intrusion, grant, crossing }
}

/// The failed logins: tenant after tenant, half an hour in all.
fn guesses(story: &mut Story, begin: i64, failed: u64) -> Vec<AddressCount> {
    let slot = 35 * MINUTE / failed as i64;
    let mut counts: Vec<AddressCount> = Vec::with_capacity(TRIED.len());
    for number in 0..failed {
        let index = tenant(TRIED[(number * TRIED.len() as u64 / failed) as usize]);
        let time = begin + number as i64 * slot + story.random.between(0, slot - SECOND / 2);
        let tried = Platform::person(index, story.random.below(Platform::people(index)));
        let event =
            Event { tenant: index, actor_type: "anonymous", reason: "bad_password", ..login(time, "failure", &tried) };
        let found = if number % 16 == 5 { story.add_twice(event) } else { story.add(event) };
        match counts.last_mut().filter(|last| last.tenant == found.tenant) {
            Some(last) => (last.attempts, last.last) = (last.attempts + 1, found.time),
            None => counts.push(AddressCount {
                tenant: found.tenant,
                attempts: 1,
                successes: 0,
                first: found.time.clone(),
                last: found.time,
            }),
        }
    }
    counts
}

/// A login from the guessing address.
fn login(time: i64, outcome: &'static str, account: &str) -> Event {
    Event {
        time,
        action: "auth.login",
        outcome,
        actor: account.to_owned(),
        resource_type: "account",
        resource: account.to_owned(),
        source_ip: GUESSER.to_owned(),
        user_agent: "python-http/3.1",
        service: "identity",
        attributes: Attributes::new().text("method", "password").json("mfa", "false").finish(),
        ..Event::default()
    }
}

/// Plants an event of the session and notes it.
fn step(story: &mut Story, event: Event) -> SessionStep {
    let (outcome, source_ip, resource) = (event.outcome.to_owned(), event.source_ip.clone(), event.resource.clone());
    SessionStep { event: story.add(event), outcome, source_ip, resource }
}

/// The session in the wrong hands.
struct Acts<'s, 'a> {
    story: &'s mut Story<'a>,
    session: String,
    time: i64,
}

impl Acts<'_, '_> {
    /// The next act, half a minute to four minutes after the one before.
    fn next(&mut self, place: &str, does: [&'static str; 2], what: [&'static str; 2], resource: String) -> Event {
        self.time = uneven(self.time + self.story.random.between(30 * SECOND, 4 * MINUTE));
        let [service, action] = does;
        let [resource_type, class] = what;
        Event {
            tenant: tenant(place),
            time: self.time,
            action,
            outcome: "success",
            actor_type: "partner",
            actor: Platform::person(tenant(PARTNER), VICTIM),
            resource_type,
            resource,
            class,
            source_ip: SECOND_ADDRESS.to_owned(),
            session: self.session.clone(),
            user_agent: "python-http/3.1",
            service,
            ..Event::default()
        }
    }

    fn look_around(&mut self, steps: &mut Vec<SessionStep>) {
        for client in ["fennimoor", "dunlarch"] {
            let mut event =
                self.next(PARTNER, ["admin-console", "client.read"], ["tenant", "operational"], client.to_owned());
            event.client = client.to_owned();
            steps.push(step(self.story, event));
        }
        let event = self.next("fennimoor", ["identity", "user.list"], ["user", "personal"], String::from("users"));
        steps.push(step(self.story, event));
        for (client, count) in [("fennimoor", 3), ("dunlarch", 2)] {
            for _ in 0..count {
                let customer = format!("customer-{:05}", self.story.random.below(2_000));
                let event = self.next(client, ["customers", "customer.read"], ["customer", "personal"], customer);
                steps.push(step(self.story, event));
            }
        }
    }

    /// Grants a role to an account of the intruder's and exports the customers.
    fn take(&mut self, steps: &mut Vec<SessionStep>) -> (Grant, Crossing) {
        let subject = Platform::person(tenant("fennimoor"), 991);
        let mut event = self.next("fennimoor", ["identity", "role.grant"], ["user", "personal"], subject.clone());
        event.attributes = Attributes::new().text("role", "tenant-admin").finish();
        steps.push(step(self.story, event));
        let role = String::from("tenant-admin");
        let granted = steps[steps.len() - 1].event.clone();
        let grant = Grant {
            event: granted,
            subject,
            role,
            approval_id: None,
            revoked: None,
            left: None,
            never_used: true,
            orphaned: false,
        };
        let export = format!("exp-{}", self.story.random.hex(10));
        let mut event = self.next("fennimoor", ["exports", "export.complete"], ["export", "personal"], export.clone());
        (event.workflow, event.boundary) = ("data-export", US);
        event.attributes = Attributes::new().integer("rows", 61_204).text("format", "csv").finish();
        let (region, actor) = (TENANTS[event.tenant].region.to_owned(), event.actor.clone());
        steps.push(step(self.story, event));
        let event = steps[steps.len() - 1].event.clone();
        (grant, Crossing { event, region, boundary: US.to_owned(), actor, export, approval_id: None })
    }

    fn try_payment(&mut self, steps: &mut Vec<SessionStep>) {
        let account = format!("payee-{:04}", self.story.random.below(900));
        let mut event = self.next("dunlarch", ["billing", "payee.update"], ["payee", "financial"], account);
        (event.outcome, event.reason) = ("denied", "limit_exceeded");
        steps.push(step(self.story, event));
    }

    /// The revocation by an administrator, and one try after it.
    fn contained(&mut self, steps: &mut Vec<SessionStep>) -> (EventRef, EventRef) {
        let session = self.session.clone();
        let mut event = self.next(PARTNER, ["identity", "session.revoke"], ["session", "operational"], session);
        let people = tenant(PARTNER);
        event.actor = Platform::person(people, 0);
        event.source_ip = self.story.platform.address(people, 0, event.time);
        event.session = self.story.platform.session(people, 0, event.time);
        event.attributes =
            Attributes::new().text("cause", "login from an unknown network").json("all_devices", "true").finish();
        let revoked = self.story.add(event);
        let mut event = self.next(
            "fennimoor",
            ["customers", "customer.read"],
            ["customer", "personal"],
            String::from("customer-00007"),
        );
        (event.outcome, event.reason) = ("denied", "session_revoked");
        steps.push(step(self.story, event));
        (revoked, steps[steps.len() - 1].event.clone())
    }
}

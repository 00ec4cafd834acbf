//! `piperoll demo`: the whole of it in a minute, against the real service over HTTP, checked as it goes.
//!
//! Not here: the story ([`crate::generate`]), the service ([`crate::service`]). Invariant: every tick mark was
//! earned: an answer is compared with the planted record, a proof is checked, a tampered byte is searched for.

mod review;

use super::query::shown;
use super::{FOUND, Outcome, block_on, interrupted, start_logging};
use crate::client::{Client, ClientError};
use crate::generate::{Plan, Planted, Question, generate, questions};
use crate::output;
use crate::service::Service;
use crate::settings::{LogFormat, Overrides, Place, Settings, key_in, main_store, store_in};
use clap::Args;
use ledger::receipt::Receipt;
use ledger_store::{DurableFolder, Fsck, Report};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// See it all in a minute: a service, a story, five questions, a proof, and a tampered copy that is found
///
/// Starts a service on a new folder, loads a month of a fictitious platform, asks five questions that a
/// security analyst and an SRE would ask and checks the answers against what was planted, verifies the ledger,
/// flips one byte in a copy and shows that it is found and where, and keeps serving so that you can go on.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to use; it must be new
    #[arg(long, default_value = "piperoll-demo", value_name = "DIR")]
    data: PathBuf,
    /// Where to listen; a loopback address
    #[arg(long, default_value = "127.0.0.1:7117", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// How many events to load
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Another number tells another story
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop at the end instead of serving on
    #[arg(long)]
    exit: bool,
}

/// A step of the demo did not come out as planted.
#[derive(Debug, thiserror::Error)]
#[error("the demo found what it did not expect: {0}")]
struct Unexpected(String);

/// Runs the command.
///
/// # Errors
/// The folder is not new, the service cannot start, or something did not come out as planted.
pub fn run(arguments: &Arguments) -> Outcome {
    if arguments.data.exists() {
        let folder = arguments.data.display();
        return Err(format!("{folder} is there already; remove it, or name another folder with --data").into());
    }
    start_logging(LogFormat::Text, "warn");
    let place = Place { config: None, data: Some(arguments.data.clone()) };
    // On local disk, whatever the environment says of stores: a copy of it is tampered with.
    let settings = Settings::load(&place, Overrides { listen: Some(arguments.listen), ..Overrides::default() })?;
    block_on(async {
        let service = Service::start(&settings).await?;
        let told = tell(&service, &settings, arguments).await;
        if told.is_ok() && !arguments.exit {
            println!("\nServing at {} until you press Ctrl-C.", service.url());
            interrupted().await;
        }
        service.stop(false).await?;
        told
    })?
}

fn step(number: usize, what: &str) {
    println!("\n{number}. {what}");
}

async fn tell(service: &Service, settings: &Settings, arguments: &Arguments) -> Outcome {
    step(1, "A service, on local disk, reachable from this machine only");
    println!("   {}   data in {}", service.url(), settings.data.display());
    let founded = service.founded().ok_or_else(|| Unexpected("the platform is not new".into()))?;
    let shown = founded.key.rsplit_once('_').map_or("", |(shown, _)| shown);
    println!("   the administrator's key was made, and would be shown once: {shown}_…");
    let administrator = Client::new(&service.url(), &founded.key);
    step(2, "A month of a fictitious platform is loaded");
    let plan = Plan { events: arguments.events, seed: arguments.seed, ..Plan::default() };
    let mut events = Vec::new();
    let planted = generate(&plan, &mut events)?;
    let keys = set_up(&administrator, &tenants_of(&events)).await?;
    let receipt = load(&Client::new(&service.url(), &keys.services), &events, &planted).await?;
    let client = Client::new(&service.url(), &keys.analyst);
    step(3, "The receipt is checked against the ledger's public key");
    check_receipt(&client, &receipt).await?;
    step(4, "Five questions, and the answers that were planted");
    for question in questions(&planted) {
        ask(&client, &question).await?;
    }
    step(5, "The bad release as an incident: whom it broke, whom not, and since when it is over");
    scope(&client, &planted).await?;
    step(6, "Who has access that they should not: reviewed, decided, and confirmed when it is gone");
    review::hold(&Client::new(&service.url(), &keys.officer), &Client::new(&service.url(), &keys.services), &planted)
        .await?;
    step(7, "Support comes in only when asked and approved, and the customer sees it");
    lend(&service.url(), &administrator).await?;
    step(8, "The ledger is sealed and verified from its files alone");
    service.stores().main().seal_all().await?;
    // What is merged now is not merged while a copy is made.
    service.stores().main().upkeep().await?;
    let (report, took) = verify(&store_in(&settings.data), settings).await?;
    if !report.is_sound() {
        super::verify::show(&report, false);
        return Ok(ExitCode::from(FOUND));
    }
    let (entries, streams) = (output::grouped(report.entries()), report.streams.len());
    println!(
        "   ✓ {entries} entries of {streams} streams: every leaf recomputed, every signed root confirmed ({took} ms)"
    );
    step(9, "One byte of a copy is flipped");
    tamper(settings).await?;
    step(10, "Where to go from here");
    where_next(&service.url(), &settings.data);
    Ok(ExitCode::SUCCESS)
}

/// Asks for the scope of the release that was planted, and opens an incident with it.
async fn scope(client: &Client, planted: &Planted) -> Result<(), Box<dyn std::error::Error>> {
    let bad = &planted.bad_release;
    let named = json!({"release": bad.release, "service": bad.service, "workflow": bad.workflow});
    let question = json!({"subtree": access::registry::PLATFORM, "streams": ["telemetry"], "where": named});
    let body = json!({"title": "Invoices fail", "severity": "high", "question": question});
    let opened = client.post("/v1/incidents", &body).await?;
    let answer = &opened["answer"];
    let tenants = answer["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let affected = tenants.iter().filter(|one| one["affected"] == true);
    let mut affected: Vec<&str> = affected.filter_map(|one| one["tenant"].as_str()).collect();
    affected.sort_unstable();
    if affected != bad.affected {
        return Err(Unexpected(format!("affected are {affected:?}, and {:?} were planted", bad.affected)).into());
    }
    println!("   {}", shown(&answer["summary"]));
    for one in tenants.iter().filter(|one| one["affected"] == true) {
        println!("     {:<12} {}", shown(&one["tenant"]), shown(&one["why"]));
    }
    let id = shown(&opened["made"]["incident"]);
    println!(
        "   ✓ as planted; kept as incident {id} with the {} heads that it is the answer to",
        answer["read"].as_array().map_or(0, Vec::len)
    );
    Ok(())
}

/// Segments of which the largest that a commit names is looked for.
const CANDIDATES: usize = 8;

/// The keys of who takes part.
struct Keys {
    services: String,
    analyst: String,
    officer: String,
}

/// Makes the tenants, and who may bring their events and who may read them.
async fn set_up(administrator: &Client, tenants: &BTreeSet<String>) -> Result<Keys, Box<dyn std::error::Error>> {
    // The platform's own tenant is there from the first start on.
    let tenants = tenants.iter().filter(|tenant| *tenant != access::registry::PLATFORM);
    let mut changes: Vec<Value> = tenants.map(|tenant| json!({"change": "tenant.create", "tenant": tenant})).collect();
    for (principal, kind, role) in [
        ("platform-services", "service", "ingest-service"),
        ("analyst", "user", "security-analyst"),
        ("officer", "user", "compliance-officer"),
    ] {
        changes.push(json!({"change": "principal.create", "principal": principal, "kind": kind}));
        changes.push(json!({"change": "grant.create", "principal": principal, "role": role,
            "tenants": ["platform"], "subtree": true}));
        changes.push(json!({"change": "credential.create", "principal": principal}));
    }
    let made = administrator.change(&Value::Array(changes)).await?;
    let mut keys = made["changes"].as_array().into_iter().flatten().filter_map(|one| one["key"].as_str());
    let mut next = || keys.next().map(str::to_string).ok_or_else(|| Unexpected("a key is missing".into()));
    let count = changes_of(&made, "tenant.create");
    println!(
        "   ✓ {count} tenants, a service that brings their events, an analyst and a compliance officer who may read them"
    );
    Ok(Keys { services: next()?, analyst: next()?, officer: next()? })
}

fn changes_of(made: &Value, name: &str) -> usize {
    made["changes"].as_array().into_iter().flatten().filter(|one| one["made"]["change"] == name).count()
}

/// A partner provisions a tenant; its service brings events, its auditor reads them; support is refused, asks, is let in
/// by the tenant's own administrator, reads, and is out again; and the tenant sees all of it.
async fn lend(url: &str, administrator: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let tenant = "brightwater";
    let key_of = |made: &Value, principal: &str| -> Result<Client, Box<dyn std::error::Error>> {
        let all = made["changes"].as_array().into_iter().flatten();
        let key = all.filter(|one| one["made"]["principal"] == principal).find_map(|one| one["key"].as_str());
        Ok(Client::new(url, key.ok_or_else(|| Unexpected(format!("{principal} has no key")))?))
    };
    let person = |name: &str, kind: &str, home: &str| json!({"change": "principal.create", "principal": name, "kind": kind, "home": home});
    let grant = |name: &str, role: &str, tenant: &str| json!({"change": "grant.create", "principal": name, "role": role, "tenants": [tenant], "subtree": true});
    let key = |name: &str| json!({"change": "credential.create", "principal": name});
    let made = administrator
        .change(&json!([
            {"change": "tenant.create", "tenant": "northwind-partners"},
            person("partner", "user", "northwind-partners"),
            grant("partner", "partner-administrator", "northwind-partners"),
            key("partner"),
            {"change": "principal.create", "principal": "sup-11", "kind": "user"},
            grant("sup-11", "support", "northwind-partners"),
            key("sup-11"),
        ]))
        .await?;
    let (partner, support) = (key_of(&made, "partner")?, key_of(&made, "sup-11")?);
    let narrow = |name: &str, role: &str| json!({"change": "grant.create", "principal": name, "role": role, "tenants": [tenant]});
    let made = partner
        .change(&json!([
            {"change": "tenant.create", "tenant": tenant, "parent": "northwind-partners"},
            person("till", "service", tenant),
            narrow("till", "ingest-service"),
            key("till"),
            person("ines", "user", tenant),
            narrow("ines", "tenant-administrator"),
        ]))
        .await?;
    let till = key_of(&made, "till")?;
    // A person's key is nothing that a partner may make: whoever holds it is that person.
    let ines = key_of(&administrator.change(&json!([key("ines")])).await?, "ines")?;
    let event = json!({"id": "sale-1", "time": "2026-03-30T09:00:00Z", "tenant": tenant, "action": "sale.complete",
        "outcome": "success", "actor": {"type": "user", "id": "u-1"}});
    till.events("/v1/events", event.to_string().into_bytes()).await?;
    let sql = "SELECT action, actor_id FROM audit";
    let ask = |client: Client| async move { client.query(sql, &[tenant.to_string()], "application/json").await };
    ask(ines.clone()).await?;
    println!("   the partner set {tenant} up: its service brings events, its people read them");
    expect_refusal(ask(partner).await, "the partner asks for its events")?;
    expect_refusal(ask(support.clone()).await, "support asks for them")?;
    let asked = support
        .change(&json!([{"change": "elevation.ask", "role": "sre", "tenants": [tenant], "reason": "a sale is missing",
            "ticket": "T-4711", "minutes": 30}]))
        .await?;
    let id = asked["changes"][0]["made"]["elevation"].as_str().unwrap_or_default().to_string();
    ines.change(&json!([{"change": "elevation.approve", "id": id, "reason": "agreed on the phone"}])).await?;
    ask(support.clone()).await?;
    println!("   support asked, with reason and ticket; ines of {tenant} agreed; support has read");
    ines.change(&json!([{"change": "elevation.revoke", "id": id, "reason": "solved"}])).await?;
    expect_refusal(ask(support).await, "support asks again, after its end")?;
    told(&ines, tenant).await
}

/// What the tenant sees of it.
async fn told(ines: &Client, tenant: &str) -> Result<(), Box<dyn std::error::Error>> {
    let sql = "SELECT seq, actor_id, action, outcome, elevation_id FROM access
        WHERE actor_id = 'sup-11' OR elevation_id IS NOT NULL ORDER BY seq";
    let answer = ines.query(sql, &[tenant.to_string()], "application/json").await?;
    let answer: Value = answer.json().await.map_err(ClientError::from)?;
    super::query::table_of(&answer).lines().for_each(|line| println!("   {line}"));
    let actions: Vec<&str> =
        answer["rows"].as_array().into_iter().flatten().filter_map(|row| row[2].as_str()).collect();
    let expected = ["access.denied", "elevation.ask", "elevation.approve", "events.read", "elevation.revoke"];
    let mut left = actions.iter();
    if !expected.iter().all(|wanted| left.any(|action| action == wanted)) {
        return Err(
            Unexpected(format!("the tenant was told {actions:?}, and should have been told {expected:?}")).into()
        );
    }
    println!("   ✓ what {tenant} sees of it, in its own stream, as provable as everything else");
    Ok(())
}

fn expect_refusal<T>(answer: Result<T, ClientError>, what: &str) -> Result<(), Unexpected> {
    match answer {
        Err(ClientError::Refused { status: 403, .. }) => {
            println!("   {what}: refused");
            Ok(())
        }
        _ => Err(Unexpected(format!("{what}, and is not refused"))),
    }
}

/// The tenants that lines of events name.
fn tenants_of(events: &[u8]) -> BTreeSet<String> {
    let lines = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let names =
        lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()?["tenant"].as_str().map(str::to_string));
    names.collect()
}

async fn load(client: &Client, events: &[u8], planted: &Planted) -> Result<String, Box<dyn std::error::Error>> {
    let lines: Vec<&[u8]> = events.split_inclusive(|byte| *byte == b'\n').collect();
    let bar = output::progress(lines.len() as u64, "events", false);
    let start = Instant::now();
    let (mut counts, mut receipt) = ([0u64; 4], String::new());
    for batch in lines.chunks(1_000) {
        let answer = client.events("/v1/events", batch.concat()).await?;
        for (count, name) in counts.iter_mut().zip(["accepted", "duplicates", "conflicts", "rejected"]) {
            *count += answer[name].as_u64().unwrap_or_default();
        }
        receipt = answer["receipt"].as_str().map_or(receipt, str::to_string);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let [accepted, duplicates, conflicts, rejected] = counts;
    let rate = lines.len() as f64 / start.elapsed().as_secs_f64();
    println!(
        "   ✓ {} accepted, {duplicates} repeats recognized, {conflicts} conflicts refused, {rejected} rejected; {} events/s, each durable before it was acknowledged",
        output::grouped(accepted),
        output::grouped(rate as u64)
    );
    let expected = [planted.events, planted.repeats, planted.conflicts.len() as u64, 0];
    if counts != expected {
        return Err(Unexpected(format!("counts {counts:?}, planted {expected:?}")).into());
    }
    Ok(receipt)
}

async fn check_receipt(client: &Client, receipt: &str) -> Result<(), Box<dyn std::error::Error>> {
    let keys: Value = serde_json::from_str(&client.text("/v1/keys").await?)?;
    let vkey = keys["keys"][0]["vkey"].as_str().unwrap_or_default();
    let verified = Receipt::parse(receipt.as_bytes())?.verify(&[vkey.parse()?])?;
    println!("   key       {vkey}");
    let (log, heads) = (verified.checkpoint.head(), verified.heads.len());
    println!("   ✓ the last batch is covered: {heads} streams, in group {} of the signed store log", log.size - 1);
    Ok(())
}

async fn ask(client: &Client, question: &Question) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let answer = client.query(&question.sql, &question.tenants, "application/json").await?;
    let answer: Value = answer.json().await.map_err(ClientError::from)?;
    let took = start.elapsed().as_millis();
    println!("\n   {} asks: {}", question.asked_by, question.title);
    let table = super::query::table_of(&answer);
    table.lines().for_each(|line| println!("   {line}"));
    let rows: Vec<Vec<Value>> = serde_json::from_value(answer["rows"].clone())?;
    if rows != question.expected {
        return Err(Unexpected(format!("answer {rows:?}, planted {:?}", question.expected)).into());
    }
    println!("   ✓ exactly what was planted ({took} ms). {}", question.why);
    Ok(())
}

async fn verify(store: &Path, settings: &Settings) -> Result<(Report, u128), Box<dyn std::error::Error>> {
    let own = crate::keyfile::KeyFile::read(&key_in(&settings.data))?;
    let key = own.keys.current.verifier(own.ledger.as_str());
    let objects = Arc::new(DurableFolder::open(store)?);
    let start = Instant::now();
    let fsck = Fsck {
        objects,
        ledger: own.ledger,
        keys: vec![key],
        content: Default::default(),
        kept: vec![],
        durable: vec![],
    };
    let report = fsck.store(|_| {}).await?;
    Ok((report, start.elapsed().as_millis()))
}

/// Copies the store, flips one bit in the middle of a segment, and expects to be told which.
async fn tamper(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let copy = settings.data.join("tampered-copy");
    copy_folder(&store_in(&settings.data), &copy)?;
    // The largest that a commit names: one that was merged away still lies there for whoever reads it.
    for victim in segments_by_size(&copy)?.into_iter().take(CANDIDATES) {
        let sound = std::fs::read(&victim)?;
        let (at, mut bytes) = (sound.len() / 2, sound.clone());
        bytes[at] ^= 1;
        std::fs::write(&victim, bytes)?;
        let name = victim.strip_prefix(&copy)?.display().to_string();
        let (report, took) = verify(&copy, settings).await?;
        if let Some(finding) = report.findings().find(|finding| finding.is_fault && finding.object == name) {
            println!("   flipped one bit of byte {at} of {name}");
            let (first, last) = finding.entries.unwrap_or_default();
            println!("   ✓ found in {took} ms: {}\n     entries {first} to {last}: {}", finding.object, finding.what);
            std::fs::remove_dir_all(copy)?;
            return Ok(());
        }
        std::fs::write(&victim, sound)?;
    }
    Err(Unexpected("the flipped byte was not found".into()).into())
}

/// Copies a folder of a store that is in use: what goes away meanwhile (a staged file, a segment that was merged) is not
/// copied.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let copied = if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop)
        };
        match copied {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Every segment below a folder, the largest first.
fn segments_by_size(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "parquet") {
                found.push((entry.metadata()?.len(), path));
            }
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

fn where_next(url: &str, data: &Path) {
    let (store, data) = (store_in(data), data.display());
    println!(
        "   ask         piperoll query --url {url} --tenant hollowmere \"SELECT * FROM audit ORDER BY seq DESC LIMIT 10\""
    );
    println!("   prove       curl -s '{url}/v1/tenants/hollowmere/audit/proof/inclusion?seq=7'");
    println!("   verify      piperoll verify --data {data} --tenant hollowmere");
    println!(
        "   in place    {}/tenant=hollowmere/stream=audit is a Delta table for Spark, DuckDB, Polars, Trino",
        store.display()
    );
    println!("   the log     curl -s {url}/v1/stores/main/checkpoint   (signed by {})", main_store());
    println!("   every byte  ledger/FORMAT.md");
}

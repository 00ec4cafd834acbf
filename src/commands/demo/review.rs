//! The demo's access review: found as planted, decided, and confirmed by an event.
//!
//! Not here: the story ([`crate::generate`]). Invariant: what is found is compared with what was planted.

use super::Unexpected;
use crate::client::Client;
use crate::commands::query::shown;
use crate::generate::Planted;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a confirmation may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds a review of the tenant where most is orphaned.
pub async fn hold(officer: &Client, services: &Client, planted: &Planted) -> Result<(), Box<dyn std::error::Error>> {
    let question = json!({"subtree": access::registry::PLATFORM, "sources": ["events"], "since": planted.first_time,
        "as_of": planted.last_time});
    let answer = &officer.post("/v1/access/entitlements", &question).await?["answer"];
    let orphaned = |answer: &Value| -> BTreeSet<String> {
        let all = answer["findings"].as_array().into_iter().flatten().filter(|one| one["kind"] == "orphaned");
        all.map(|one| shown(&one["subject"])).collect()
    };
    let expected = planted.grants.iter().filter(|grant| grant.orphaned).map(|grant| grant.subject.clone());
    let (found, expected) = (orphaned(answer), expected.collect::<BTreeSet<_>>());
    if found != expected {
        return Err(Unexpected(format!("orphaned are {found:?}, and {expected:?} were planted")).into());
    }
    println!("   {}", shown(&answer["summary"]));
    for one in answer["findings"].as_array().into_iter().flatten().take(6) {
        let [kind, subject, about, what] = ["kind", "subject", "about", "what"].map(|name| shown(&one[name]));
        println!("     {kind:<12} {subject:<18} {about:<24} {what}");
    }
    // Of what there is now: nothing changed since.
    let now = json!({"subtree": access::registry::PLATFORM, "sources": ["events"]});
    let open = json!({"title": "Leavers", "due_at": "2099-01-01T00:00:00Z", "question": now});
    let opened = officer.post("/v1/access/reviews", &open).await?;
    let id = shown(&opened["made"]["review"]);
    let route = format!("/v1/access/reviews/{id}/decisions");
    let mut decision = json!({"select": {"findings": ["orphaned"]}, "decision": "revoke", "reason": "they left"});
    let would = officer.post(&route, &decision).await?["would"].clone();
    decision["covers"] = would["covers"].clone();
    officer.post(&route, &decision).await?;
    println!(
        "   {} items are frozen as review {id}; {} orphaned ones are to be revoked",
        opened["found"]["items"], would["count"]
    );
    // The systems that gave them say that they are gone.
    let revoked = would["first"].as_array().into_iter().flatten().map(|item| {
        let id = format!("demo-revoked-{}", item["item"]);
        json!({"id": id, "tenant": item["tenant"], "time": planted.last_time, "action": "role.revoke",
            "outcome": "success", "actor": {"type": "service", "id": "directory"},
            "resource": {"type": "user", "id": item["subject"]}, "attributes": {"role": item["role"]}})
        .to_string()
    });
    let lines: Vec<String> = revoked.collect();
    services.events("/v1/events", lines.join("\n").into_bytes()).await?;
    let begin = Instant::now();
    loop {
        let review: Value = serde_json::from_str(&officer.text(&format!("/v1/access/reviews/{id}")).await?)?;
        if review["outstanding"] == 0 {
            println!("   ✓ as planted; each revocation is confirmed by the event that shows it");
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Unexpected(format!("revocations are not confirmed: {review}")).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

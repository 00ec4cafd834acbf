//! Pages of events: complete, without repeats, in wire form.

use super::*;
use crate::events::page;
use crate::run::Question;
use crate::{Filter, Order, Page};
use ledger::Field;
use serde_json::Value;

async fn get(engine: &Engine, filter: Filter) -> Page {
    let limit = filter.limit;
    let snapshot = stream("acme", StreamKind::Audit, 3, 1_000, 100).await;
    page(engine.ask(vec![snapshot], Question::Events(filter)).await.unwrap(), limit).await.unwrap()
}

async fn all(engine: &Engine, mut filter: Filter) -> Vec<i64> {
    let mut seqs = Vec::new();
    loop {
        let page = get(engine, filter.clone()).await;
        let body: Value = serde_json::from_str(&page.json).unwrap();
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), page.count);
        seqs.extend(events.iter().map(|event| event["seq"].as_i64().unwrap()));
        assert_eq!(body["next"].as_i64(), page.next);
        match page.next {
            Some(next) => filter.from_seq = Some(next),
            None => return seqs,
        }
    }
}

#[tokio::test]
async fn pages_have_neither_gap_nor_repeat() {
    let engine = engine();
    let up: Vec<i64> = (0..3_100).collect();
    let down: Vec<i64> = (0..3_100).rev().collect();
    assert_eq!(all(&engine, Filter { limit: 999, ..Filter::default() }).await, up);
    assert_eq!(all(&engine, Filter { limit: 1_000, order: Order::Descending, ..Filter::default() }).await, down);
    let failures: Vec<i64> = (0..3_100).filter(|n| n % 5 == 0 && n % 17 == 3).collect();
    let equal = vec![(Field::Outcome, "failure".to_string()), (Field::ActorId, "u-3".to_string())];
    assert_eq!(all(&engine, Filter { limit: 7, equal: equal.clone(), ..Filter::default() }).await, failures);
    let backward: Vec<i64> = failures.into_iter().rev().collect();
    assert_eq!(all(&engine, Filter { limit: 7, equal, order: Order::Descending, ..Filter::default() }).await, backward);
    let window =
        Filter { limit: 10, since: Some(BEGIN + 995_000_000), until: Some(BEGIN + 1_005_000_000), ..Filter::default() };
    assert_eq!(all(&engine, window).await, (995..1_005).collect::<Vec<_>>());
    let exact = Filter { limit: 100, from_seq: Some(3_000), ..Filter::default() };
    assert_eq!(all(&engine, exact).await, (3_000..3_100).collect::<Vec<_>>());
    assert_eq!(all(&engine, Filter { limit: 5, from_seq: Some(99_999), ..Filter::default() }).await, Vec::<i64>::new());
    assert_eq!(
        all(&engine, Filter { limit: 5, from_seq: Some(0), order: Order::Descending, ..Filter::default() }).await,
        [0]
    );
}

#[tokio::test]
async fn entries_come_in_wire_form_with_their_attributes_verbatim() {
    let engine = engine();
    let row = Row { tenant: "acme".into(), seq: 1_234 };
    let equal = vec![(Field::TraceId, row.trace_hex().unwrap())];
    let page = get(&engine, Filter { limit: 3, equal, ..Filter::default() }).await;
    assert!(page.json.contains(&format!("\"attributes\":{}", row.attributes())), "{}", page.json);
    let body: Value = serde_json::from_str(&page.json).unwrap();
    let event = &body["events"][0];
    assert_eq!(event["id"], "e-1234");
    assert_eq!(event["time"], ledger::time::format_micros(row.occurred_at()));
    assert_eq!(event["actor"], serde_json::json!({"type": "user", "id": row.actor_id(), "name": row.actor_name()}));
    assert_eq!((&event["trace_id"], &event["duration_us"]), (&row.trace_hex().unwrap().into(), &12_340.into()));
    assert_eq!(event["recorded_at"], ledger::time::format_micros(row.occurred_at() + 5));
    assert!(event.get("resource").is_none() && event.get("reason").is_none() && event.get("severity").is_none());
    assert_eq!((&body["head"]["size"], &body["head"]["origin"]), (&3_100.into(), &"test/acme/audit/0".into()));
    assert!(!page.json.contains("salt"));
}

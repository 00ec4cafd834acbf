//! Each limit gives its own error, and what it took is given back.

use super::*;
use crate::Exceeded;
use std::time::Duration;

async fn fails(engine: &Engine, sql: &str) -> Exceeded {
    let got = match engine.sql(world().await, sql).await {
        Ok(answer) => answer.collect().await.map(drop),
        Err(error) => Err(error),
    };
    match got {
        Err(QueryError::Exceeded(exceeded)) => exceeded,
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn rows_time_and_memory_are_named() {
    let few = Engine::new(Limits { rows: 1_000, ..Limits::default() }).unwrap();
    let rows = fails(&few, "SELECT seq FROM audit").await;
    assert_eq!((rows.limit(), rows.to_string().contains("1000 rows")), ("rows", true));
    assert_eq!(ask(&few, "SELECT seq FROM audit LIMIT 1000").await.unwrap().len(), 1_000);

    let hasty = Engine::new(Limits { time: Duration::from_millis(300), ..Limits::default() }).unwrap();
    let begun = std::time::Instant::now();
    let time = fails(&hasty, "SELECT count(*) FROM audit a, audit b, audit c WHERE a.seq + b.seq <> c.seq").await;
    assert_eq!(time.limit(), "time");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // No pair matches, so the join makes no batch after which it could yield. All pairs take a third of a second.
    let hasty = Engine::new(Limits { time: Duration::from_millis(20), ..Limits::default() }).unwrap();
    for join in ["a.seq + b.seq < -1", "a.action = b.action AND a.seq + b.seq < -1"] {
        let begun = std::time::Instant::now();
        let time = fails(
            &hasty,
            &format!("SELECT count(*) FROM audit a JOIN audit b ON {join} JOIN audit c ON a.seq + c.seq < -1"),
        )
        .await;
        assert_eq!(time.limit(), "time");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    let small = Engine::new(Limits { memory_bytes: 256 * 1_024, ..Limits::default() }).unwrap();
    let memory = fails(&small, "SELECT attributes, count(*) FROM audit GROUP BY attributes").await;
    assert_eq!((memory.limit(), memory.to_string().contains("memory limit")), ("memory", true));
    let sort = fails(&small, "SELECT * FROM audit ORDER BY actor_name").await;
    assert_eq!(sort.limit(), "memory");
    assert_eq!(ask(&small, "SELECT count(*) FROM audit").await.unwrap(), [["6200"]]);
}

#[tokio::test]
async fn a_dropped_answer_ends_its_query() {
    let engine = Engine::new(Limits { concurrent: 1, patience: Duration::from_secs(10), ..Limits::default() }).unwrap();
    let answer = engine.sql(world().await, "SELECT a.seq FROM audit a, audit b, audit c").await.unwrap();
    let second = engine.sql(world().await, "SELECT 1");
    drop(answer);
    let begun = std::time::Instant::now();
    assert_eq!(cells(&second.await.unwrap().collect().await.unwrap()), [["1"]]);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_question_that_is_given_up_while_it_plans_or_runs_ends() {
    let engine = Engine::new(Limits { concurrent: 1, patience: Duration::from_secs(10), ..Limits::default() }).unwrap();
    let slow = engine.sql(world().await, "SELECT count(*) FROM audit a, audit b, audit c WHERE a.seq + b.seq <> c.seq");
    assert!(
        tokio::time::timeout(Duration::from_millis(50), async { slow.await.unwrap().collect().await }).await.is_err()
    );
    assert_eq!(ask(&engine, "SELECT 2").await.unwrap(), [["2"]]);
}

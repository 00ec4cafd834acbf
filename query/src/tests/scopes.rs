//! Whoever sees only some rows and sections learns nothing of the others, whatever they ask.
//!
//! Two ways to look at it. Against a model: for random sights and questions, the answer is the one over only the rows
//! that are visible, with masked sections null. And by what does not change: in two worlds that differ in nothing but
//! what is hidden, every question has the same answer, the same error and the same plan.

use super::*;
use crate::table::Seen;
use access::registry::change::Dimension;
use access::{Sight, View};
use datafusion::arrow::array::{Array as _, AsArray};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use ledger::{Field, Section};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SEALED: i64 = 200;
const ROWS: i64 = 260;

/// What stands in a column of a row, where it is not what every row of these tests has there.
type Value = fn(&Hidden, i64) -> Option<String>;

/// What a world hides.
struct Hidden {
    word: &'static str,
    /// Where hidden rows say that they belong.
    unit: &'static str,
    /// How many rows more there are, hidden ones.
    more: i64,
}

const ONE: Hidden = Hidden { word: "MARKER-one", unit: "south", more: 0 };
const OTHER: Hidden = Hidden { word: "MARKER-other-and-longer", unit: "west", more: 40 };

/// Every third row, and none of the last, is of the north: visible.
fn is_visible(seq: i64) -> bool {
    seq % 3 == 0 && seq < ROWS
}

fn secret(of: &Hidden, seq: i64, visible: String) -> Option<String> {
    Some(if is_visible(seq) { visible } else { format!("{} {}", of.word, seq * 7 % 11) })
}

/// Columns that differ between worlds: everywhere in hidden rows, and in masked sections (actor, details) in all.
const COLUMNS: [(&str, Value); 9] = [
    ("business_unit", |of, seq| match (is_visible(seq), seq % 2) {
        (true, _) => Some("north".into()),
        (false, 0) => Some(of.unit.into()),
        (false, _) => None,
    }),
    ("legal_entity", |of, seq| secret(of, seq, format!("le-{}", seq % 2))),
    ("region", |of, seq| secret(of, seq, format!("eu-{}", seq % 4))),
    ("action", |of, seq| secret(of, seq, format!("invoice.{}", seq % 5))),
    ("release", |of, seq| secret(of, seq, format!("r-{}", seq % 7))),
    ("session", |of, seq| secret(of, seq, format!("s-{}", seq % 13))),
    ("event_id", |of, seq| Some(format!("{}{seq}", if is_visible(seq) { "e-" } else { of.word }))),
    ("actor_name", |of, seq| Some(format!("{} {}", of.word, seq))),
    ("attributes", |of, seq| Some(format!(r#"{{"n":{seq},"deep":"{}"}}"#, of.word))),
];

/// The stream of a world: two segments and a tail.
async fn hiding(of: &Hidden) -> Snapshot {
    let tail = ROWS - SEALED + of.more;
    let mut snapshot = stream("acme", StreamKind::Audit, 2, SEALED / 2, tail).await;
    let changed = |batch: RecordBatch| {
        let seqs =
            batch.column_by_name("seq").unwrap().as_primitive::<datafusion::arrow::datatypes::Int64Type>().clone();
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let value = COLUMNS.iter().find(|(name, _)| name == field.name());
            value.map_or(Arc::clone(column), |(_, value)| {
                Arc::new(seqs.values().iter().map(|seq| value(of, *seq)).collect::<StringArray>()) as ArrayRef
            })
        });
        let columns = columns.collect();
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    };
    for (number, segment) in snapshot.segments.iter_mut().enumerate() {
        let first = number as i64 * SEALED / 2;
        let bytes = parquet(&changed(batch(StreamKind::Audit, &rows("acme", first..first + SEALED / 2))));
        let mut reference = segment.reference.clone();
        (reference.bytes, reference.sha256) = (bytes.len() as u64, Hash::of(&bytes));
        snapshot.objects.put(&segment.location, bytes.into()).await.unwrap();
        // Statistics that speak of hidden rows too, as those of a real segment do.
        let statistics = Statistics {
            action: Some((of.word.into(), "invoice.9".into())),
            release: Some((of.word.into(), "r-9".into())),
            region: Some((of.word.into(), "eu-9".into())),
            ..segment.statistics.clone()
        };
        *segment = Arc::new(Segment { reference, location: segment.location.clone(), statistics });
    }
    snapshot.tail = snapshot.tail.into_iter().map(changed).collect();
    snapshot
}

fn view(rows: &[(Dimension, &[&str])], masked: &[Section], since: Option<i64>, until: Option<i64>) -> View {
    let rows = rows.iter().map(|(dimension, values)| (*dimension, values.iter().map(|v| (*v).to_string()).collect()));
    let masked: BTreeSet<Section> = masked.iter().copied().collect();
    let right = "g1".parse().unwrap();
    View { rows: rows.collect(), masked, since, until, right, is_elevation: false, purpose: String::new() }
}

/// The north, without who did it and without details.
fn of_the_north() -> Sight {
    let north: &[(Dimension, &[&str])] = &[(Dimension::BusinessUnit, &["north"])];
    Sight::of(vec![view(north, &[Section::Actor, Section::Details], None, None)]).unwrap()
}

/// Rows, or the error as its reader gets it.
async fn outcome(engine: &Engine, snapshot: Snapshot, sight: &Sight, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let seen = Seen { snapshot, sight: Some(Arc::new(sight.clone())), meter: Default::default() };
    let told = |error: QueryError| format!("{error} {error:?}");
    let answer = engine.sql(vec![seen], sql).await.map_err(told)?;
    Ok(cells(&answer.collect().await.map_err(told)?))
}

/// Ways to make hidden rows and masked values tell something.
fn escapes() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    // In place of a value, alone, in a filter, in a group, in an order, and in a window.
    for expression in [
        "actor_name",
        "attributes",
        "json_text(attributes, '/deep')",
        "cast(actor_name AS INT)",
        "cast(session AS INT)",
        "cast(json_text(attributes, '/n') AS INT)",
        "1 / (CASE WHEN business_unit = 'north' THEN 1 ELSE 0 END)",
        "1 / (CASE WHEN actor_name IS NULL THEN 1 ELSE 0 END)",
        "1 / (seq % 3)",
        "1 / (CASE WHEN session LIKE 'MARKER%' THEN 0 ELSE 1 END)",
        "CASE WHEN action LIKE 'MARKER%' THEN cast('x' AS INT) ELSE 1 END",
        "CASE WHEN legal_entity > 'm' THEN 1 / 0 ELSE 1 END",
        "coalesce(actor_name, 'hidden')",
        "nullif(business_unit, 'north')",
        "concat(actor_name, session)",
        "regexp_like(session, 'MARKER')",
        "length(event_id)",
        "chr(length(session) * 100000000)",
        "to_timestamp(session)",
        "date_part('day', occurred_at)",
        "(SELECT max(session) FROM audit)",
        "(SELECT count(*) FROM audit a WHERE a.business_unit <> 'north')",
        "(SELECT a.actor_name FROM audit a WHERE a.seq = audit.seq)",
        "EXISTS (SELECT 1 FROM audit a WHERE a.business_unit = 'south')",
        "session IN (SELECT a.session FROM audit a WHERE a.business_unit IS NULL)",
    ] {
        all.push(format!("SELECT {expression} AS x FROM audit ORDER BY seq"));
        all.push(format!("SELECT count(*) FROM audit WHERE cast({expression} AS TEXT) <> 'x'"));
        all.push(format!("SELECT cast({expression} AS TEXT) AS x, count(*) FROM audit GROUP BY 1 ORDER BY 1"));
    }
    let others = [
        "SELECT count(*) FROM audit",
        "SELECT count(*), min(seq), max(seq), min(occurred_at), max(occurred_at) FROM audit",
        "SELECT min(action), max(action), min(release), max(release), min(region), max(region) FROM audit",
        "SELECT count(DISTINCT session), count(actor_name), approx_distinct(session) FROM audit",
        "SELECT * FROM audit ORDER BY seq DESC LIMIT 5",
        "SELECT seq FROM audit ORDER BY actor_name DESC, seq LIMIT 3",
        "SELECT seq FROM audit ORDER BY session DESC, seq LIMIT 3",
        "SELECT seq FROM audit LIMIT 2",
        "SELECT seq FROM audit WHERE upper(session) <> 'X' LIMIT 2",
        "SELECT first_value(seq), last_value(session) FROM audit",
        "SELECT business_unit, count(*) FROM audit GROUP BY business_unit",
        "SELECT legal_entity, count(*) FROM audit WHERE business_unit <> 'north' GROUP BY 1",
        "SELECT count(*) FROM audit WHERE business_unit IS NULL",
        "SELECT count(*) FROM audit WHERE business_unit IS DISTINCT FROM 'north'",
        "SELECT count(*) FROM audit WHERE actor_name = 'MARKER-one 3'",
        "SELECT count(*) FROM audit WHERE actor_name IS NOT NULL OR session LIKE 'MARKER%'",
        "SELECT count(*) FROM audit WHERE NOT (actor_name IS NULL)",
        "SELECT count(*) FROM audit WHERE event_id IN ('MARKER-one1', 'MARKER-other-and-longer1')",
        "SELECT a.seq, b.session FROM audit a JOIN audit b ON a.seq = b.seq + 1 ORDER BY 1 LIMIT 9",
        "SELECT a.seq FROM audit a LEFT JOIN audit b ON a.seq + 1 = b.seq WHERE b.seq IS NOT NULL",
        "SELECT a.seq FROM audit a FULL JOIN audit b ON a.session = b.actor_name ORDER BY 1 LIMIT 9",
        "SELECT seq FROM audit EXCEPT SELECT seq FROM audit WHERE business_unit = 'north'",
        "SELECT session FROM audit UNION SELECT actor_name FROM audit ORDER BY 1",
        "SELECT session FROM audit INTERSECT SELECT session FROM audit WHERE business_unit IS NULL",
        "WITH hidden AS (SELECT * FROM audit WHERE business_unit <> 'north') SELECT count(*) FROM hidden",
        "SELECT seq, lag(session) OVER (ORDER BY seq), lead(actor_name) OVER (ORDER BY seq) FROM audit ORDER BY seq",
        "SELECT seq, row_number() OVER (ORDER BY occurred_at) FROM audit ORDER BY seq",
        "SELECT first_value(session) OVER (ORDER BY seq ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM audit ORDER BY seq",
        "SELECT string_agg(session, ',' ORDER BY seq) FROM audit",
        "SELECT array_agg(actor_name) FROM audit",
        "SELECT sum(seq), avg(duration_us), stddev(seq), median(seq) FROM audit",
        "SELECT action, max(length(attributes)) FROM audit GROUP BY ROLLUP(action) ORDER BY 1",
        "SELECT count(*) FROM audit GROUP BY occurred_at HAVING count(*) > 0 ORDER BY occurred_at LIMIT 9",
        "SELECT DISTINCT release, region FROM audit ORDER BY 1, 2",
        "SELECT count(*) FILTER (WHERE session LIKE 'MARKER%') FROM audit",
        "EXPLAIN SELECT * FROM audit",
        "EXPLAIN SELECT count(*) FROM audit",
        "EXPLAIN SELECT max(occurred_at), max(seq) FROM audit",
        "EXPLAIN SELECT seq FROM audit WHERE release = 'MARKER-one 3'",
        "EXPLAIN SELECT seq FROM audit WHERE action = 'MARKER-other-and-longer 3' AND session = 'MARKER'",
        "EXPLAIN SELECT a.seq FROM audit a JOIN audit b ON a.session = b.session WHERE b.region > 'f'",
        "EXPLAIN VERBOSE SELECT count(*) FROM audit WHERE occurred_at > '2026-08-06'",
        "SELECT count(*) FROM audit WHERE 1 / (seq - 1) > 0",
        "SELECT count(*) FROM audit WHERE cast(session AS BIGINT) = 1 AND business_unit = 'north'",
        "SELECT count(*) FROM audit WHERE business_unit = 'north' AND 1 / (CASE WHEN session LIKE 'M%' THEN 0 ELSE 1 END) = 1",
        "SELECT salt_seed FROM audit",
        "SELECT audit.\"business_unit\" FROM audit WHERE tenant = 'globex'",
        "SELECT count(*) FROM telemetry",
        "SELECT count(*) FROM access",
        "SELECT count(*) FROM control",
        "SELECT * FROM information_schema.tables",
        "SELECT unnest(array_agg(session)) FROM audit",
        "SHOW TABLES",
    ];
    all.extend(others.map(String::from));
    all
}

#[tokio::test]
async fn nothing_that_is_asked_tells_two_worlds_apart_that_differ_in_what_is_hidden() {
    let engine = engine();
    let (one, other) = (hiding(&ONE).await, hiding(&OTHER).await);
    let (north, all) = (of_the_north(), Sight::of(vec![view(&[], &[], None, None)]).unwrap());
    let (mut told, mut vain, mut told_to_all) = (Vec::new(), 0, 0);
    let escapes = escapes();
    for sql in &escapes {
        let first = outcome(&engine, one.clone(), &north, sql).await;
        let second = outcome(&engine, other.clone(), &north, sql).await;
        let text = format!("{first:?}");
        // What the question itself says comes back in plans and messages.
        let own_word = text.contains(MARKER) && !sql.contains(MARKER);
        if first != second || own_word {
            told.push(format!("{sql}\n  {first:?}\n  {second:?}").chars().take(900).collect::<String>());
        }
        vain += usize::from(first.is_err());
        let (first, second) =
            (outcome(&engine, one.clone(), &all, sql).await, outcome(&engine, other.clone(), &all, sql).await);
        told_to_all += usize::from(first != second);
    }
    assert!(told.is_empty(), "{} of {} escape:\n{}", told.len(), escapes.len(), told.join("\n"));
    // The question is worth asking: who sees everything is told the difference by most of them.
    assert!(escapes.len() >= 120 && told_to_all > 70, "{} asked, {told_to_all} tell", escapes.len());
    assert!(vain < 60, "{vain} of {} only failed", escapes.len());
    let north_has = (0..ROWS).filter(|seq| is_visible(*seq)).count().to_string();
    assert_eq!(outcome(&engine, one, &north, "SELECT count(*) FROM audit").await.unwrap(), [[north_has]]);
}

#[tokio::test]
async fn a_plan_shows_a_scoped_table_and_nothing_of_its_segments() {
    let engine = engine();
    let explained = |sight: Sight| {
        let engine = engine.clone();
        async move {
            let sql = "EXPLAIN SELECT session FROM audit WHERE release = 'r-1' AND actor_name = 'x'";
            let lines = outcome(&engine, hiding(&ONE).await, &sight, sql).await.unwrap();
            lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
    };
    let scoped = explained(of_the_north()).await;
    assert!(scoped.contains("[acme/audit/scoped], conditions=[release"), "{scoped}");
    assert!(!scoped.contains("segments=") && !scoped.contains("0-99"), "{scoped}");
    let whole = explained(Sight::of(vec![view(&[], &[], None, None)]).unwrap()).await;
    assert!(whole.contains("segments="), "{whole}");
}

/// A sight, as the model has it.
fn sights() -> impl Strategy<Value = Vec<View>> {
    let units = proptest::sample::subsequence(vec!["north", "south", "nowhere"], 1..3);
    let entities = proptest::sample::subsequence(vec!["le-0", "le-1", "MARKER-one 3"], 1..3);
    let masks = proptest::sample::subsequence(Section::COMMITTED.to_vec(), 0..4);
    let time = || proptest::option::of((0..ROWS).prop_map(|seq| BEGIN + seq * 1_000_000));
    let one = (proptest::option::of(units), proptest::option::of(entities), masks, time(), time());
    let one = one.prop_map(|(units, entities, masked, since, until)| {
        let mut rows: Vec<(Dimension, Vec<&str>)> = Vec::new();
        rows.extend(units.map(|units| (Dimension::BusinessUnit, units)));
        rows.extend(entities.map(|entities| (Dimension::LegalEntity, entities)));
        let rows: Vec<(Dimension, &[&str])> = rows.iter().map(|(of, values)| (*of, values.as_slice())).collect();
        view(&rows, &masked, since, until)
    });
    proptest::collection::vec(one, 1..4)
}

fn questions() -> impl Strategy<Value = String> {
    let column =
        proptest::sample::select(vec!["session", "actor_name", "business_unit", "release", "attributes", "action"]);
    let other = proptest::sample::select(vec!["legal_entity", "actor_id", "region", "event_id"]);
    let value = proptest::sample::select(vec!["s-3", "north", "MARKER-one 7", "r-1", "invoice.2", "u-3"]);
    (column, other, value, 0..ROWS, 0..9u8).prop_map(|(a, b, value, n, form)| match form {
        0 => format!("SELECT seq, {a}, {b} FROM audit WHERE {a} = '{value}'"),
        1 => format!("SELECT {a}, count(*), max({b}) FROM audit GROUP BY {a}"),
        2 => format!("SELECT count(*), count({a}), min({b}) FROM audit WHERE seq >= {n}"),
        3 => format!("SELECT seq, {a} FROM audit WHERE {a} IS NULL AND {b} IS NOT NULL"),
        4 => format!("SELECT seq FROM audit WHERE {a} <> '{value}' OR {b} LIKE 'le%'"),
        5 => format!("SELECT x.seq, y.{a} FROM audit x JOIN audit y ON x.seq = y.seq + 3 WHERE x.{b} IS NOT NULL"),
        6 => format!(
            "SELECT seq, {b} FROM audit WHERE occurred_at >= (SELECT max(occurred_at) FROM audit WHERE seq < {n})"
        ),
        7 => {
            format!("SELECT {b}, {a} FROM audit WHERE {a} IN ('{value}', 'le-1') UNION ALL SELECT {a}, {b} FROM audit")
        }
        _ => format!("SELECT max(seq), min(seq), sum(length({a})) FROM audit WHERE NOT ({b} = '{value}')"),
    })
}

/// Only the visible rows, with masked sections null.
fn visible(all: &[RecordBatch], views: &[View]) -> RecordBatch {
    use datafusion::arrow::array::BooleanArray;
    use datafusion::arrow::compute::{concat_batches, filter_record_batch, nullif};
    let all = concat_batches(&all[0].schema(), all).unwrap();
    let text = |name: &str, row: usize| {
        let column = all.column_by_name(name).unwrap().as_string_view();
        column.is_valid(row).then(|| column.value(row).to_string())
    };
    let times = all.column_by_name("occurred_at").unwrap();
    let times = times.as_primitive::<datafusion::arrow::datatypes::TimestampMicrosecondType>();
    let shows = |view: &View, row: usize| {
        view.rows.iter().all(|(dimension, values)| {
            let name = match dimension {
                Dimension::BusinessUnit => "business_unit",
                _ => "legal_entity",
            };
            text(name, row).is_some_and(|value| values.contains(&value))
        }) && view.since.is_none_or(|since| times.value(row) >= since)
            && view.until.is_none_or(|until| times.value(row) < until)
    };
    let schema = all.schema();
    let columns = schema.fields().iter().zip(all.columns()).map(|(field, column)| {
        let section =
            Field::ALL.into_iter().find(|one| one.name() == field.name()).map_or(Section::Skeleton, Field::section);
        let hidden = |row| !views.iter().any(|view| shows(view, row) && !view.masked.contains(&section));
        let hidden: BooleanArray = (0..all.num_rows()).map(|row| Some(hidden(row))).collect();
        if section == Section::Skeleton { Arc::clone(column) } else { nullif(column, &hidden).unwrap() }
    });
    let masked = RecordBatch::try_new(all.schema(), columns.collect()).unwrap();
    let passes: BooleanArray = (0..all.num_rows()).map(|row| Some(views.iter().any(|view| shows(view, row)))).collect();
    filter_record_batch(&masked, &passes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_the_one_over_only_what_is_visible(views in sights(), sql in questions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (found, expected) = runtime.block_on(async {
            let engine = engine();
            let world = hiding(&ONE).await;
            let all = engine.sql(vec![world.clone()], "SELECT * FROM audit").await.unwrap().collect().await.unwrap();
            let sight = Sight::of(views.clone()).unwrap();
            let mut found = outcome(&engine, world, &sight, &sql).await.unwrap();
            found.sort();
            // The judge is the engine as its makers ship it, over a table in memory.
            let judge = SessionContext::new();
            let table = visible(&all, &views);
            judge.register_table("audit", Arc::new(MemTable::try_new(table.schema(), vec![vec![table]]).unwrap())).unwrap();
            let mut expected = cells(&judge.sql(&sql).await.unwrap().collect().await.unwrap());
            expected.sort();
            (found, expected)
        });
        prop_assert_eq!(found, expected, "{} {:?}", sql, views);
    }
}

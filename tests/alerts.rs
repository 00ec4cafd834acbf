//! The alert rules for Prometheus: each asks for metrics that exist, and leads to a page that exists.
//!
//! Not here: what the metrics count (each crate). The rules are read by PyYAML, where the tests' Python is at hand.

use crate::python::python;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const RULES: &str = "dashboards/alerts/piperoll.yml";
/// The folders whose sources count.
const COUNTING: [&str; 7] = ["access", "dashboards", "ingest", "ledger", "query", "retention", "src"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text of these sources that is the name of a metric.
fn counted(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            counted(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let quoted = source.split('"').filter(|text| text.starts_with("piperoll_"));
            found.extend(quoted.map(str::to_string));
        }
    }
}

/// Names of our metrics in an expression; of a histogram, without what Prometheus adds.
fn asked(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("piperoll_"))
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    page.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

#[test]
fn each_rule_asks_for_metrics_that_exist_and_leads_to_a_page_that_exists() {
    let Some(python) = python() else { return };
    let script = "import json, sys, yaml\nprint(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let read = Command::new(python).args(["-c", script]).arg(root().join(RULES)).output().unwrap();
    assert!(read.status.success(), "{read:?}");
    let rules: Value = serde_json::from_slice(&read.stdout).unwrap();
    let mut metrics = BTreeSet::new();
    COUNTING.iter().for_each(|folder| counted(&root().join(folder), &mut metrics));
    assert!(metrics.len() > 20, "{metrics:?}");
    let mut names = BTreeSet::new();
    let groups = rules["groups"].as_array().unwrap();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} stands twice");
        let expression = rule["expr"].as_str().unwrap();
        let mut of_ours = asked(expression).peekable();
        assert!(of_ours.peek().is_some() || expression.starts_with("up{"), "{name}: {expression}");
        of_ours.for_each(|metric| assert!(metrics.contains(metric), "{name}: there is no {metric}"));
        assert!(["page", "ticket"].iter().any(|severity| rule["labels"]["severity"] == *severity), "{name}");
        assert!(rule["annotations"]["summary"].as_str().unwrap().len() > 10, "{name}");
        let (page, anchor) = {
            let runbook = rule["annotations"]["runbook"].as_str().unwrap();
            runbook.split_once('#').map_or((runbook, None), |(page, anchor)| (page, Some(anchor)))
        };
        let page = std::fs::read_to_string(root().join(page)).unwrap_or_else(|_| panic!("{name}: there is no {page}"));
        anchor.iter().for_each(|anchor| assert!(anchors(&page).contains(*anchor), "{name}: no heading #{anchor}"));
    }
    assert_eq!(names.len(), 14);
}

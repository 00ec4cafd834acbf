//! Tidy: the rules of the house as tests over the checked-out tree. Each fails with the places, the reason and
//! the way to mend them.
//!
//! What it is not: a parser of Rust or a security boundary. It reads text with comments and literals blanked
//! (`scrub`), so it stops accidents and drift, not somebody who means to get round it.
//!
//! Neighbours: `tree` lists the files, `scrub` blanks what is not code; `manifests`, `features`, `confine`,
//! `shape`, `text` and `pages` hold the rules, `allowed` the exceptions with their reasons, `clippy.toml` the few
//! lints that need a setting.
//!
//! Invariants: (1) a rule reports all its findings at once; (2) an exception that excuses nothing is itself a
//! finding; (3) nothing here compiles code, reaches the network or writes.

mod allowed;
mod confine;
mod features;
mod manifests;
mod pages;
mod scrub;
mod shape;
mod text;
mod tree;

use std::fmt::Write as _;

use allowed::Allowance;
use tree::Tree;

/// One rule: its name in reports and in the allow-list, why it stands, and how to mend a breach.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub id: &'static str,
    pub why: &'static str,
    pub mend: &'static str,
}

/// One place that breaks a rule. Line 0 stands for the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line, what: what.into() }
    }
}

/// Takes out what the allow-list excuses, and puts in every entry for this rule that excuses nothing.
fn settle(rule: &Rule, findings: Vec<Finding>, allowances: &[Allowance]) -> Vec<Finding> {
    let of_rule: Vec<&Allowance> = allowances.iter().filter(|a| a.rule == rule.id).collect();
    let mut open: Vec<Finding> =
        findings.iter().filter(|f| !of_rule.iter().any(|a| a.covers(&f.path))).cloned().collect();
    for entry in of_rule {
        if !findings.iter().any(|f| entry.covers(&f.path)) {
            let what = format!("the entry {:?} for `{}` excuses nothing: delete it", entry.path, rule.id);
            open.push(Finding::new(allowed::HERE, 0, what));
        }
    }
    open.sort();
    open.dedup();
    open
}

/// The text of a failure, or nothing when the rule holds.
fn report(rule: &Rule, findings: &[Finding]) -> Option<String> {
    if findings.is_empty() {
        return None;
    }
    let mut out = format!("\ntidy `{}`: {} to mend\n", rule.id, findings.len());
    for f in findings {
        match f.line {
            0 => writeln!(out, "  {}: {}", f.path, f.what),
            line => writeln!(out, "  {}:{line}: {}", f.path, f.what),
        }
        .expect("writing to a string cannot fail");
    }
    write!(out, "why:  {}\nmend: {}\n", rule.why, rule.mend).expect("writing to a string cannot fail");
    Some(out)
}

/// Runs rules over the checked-out tree and fails with everything that they found.
fn enforce(check: impl Fn(&Tree) -> Vec<(Rule, Vec<Finding>)>) {
    let tree = Tree::checked_out();
    let failures: Vec<String> = check(&tree)
        .into_iter()
        .filter_map(|(rule, findings)| report(&rule, &settle(&rule, findings, allowed::ALLOWED)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.concat());
}

#[test]
fn who_imports_whom() {
    enforce(manifests::check);
}

#[test]
fn program_and_tests_share_one_compilation() {
    enforce(|tree| vec![features::check(tree)]);
}

#[test]
fn confinements() {
    enforce(confine::check);
}

#[test]
fn sizes_names_docs_and_globals() {
    enforce(shape::check);
}

#[test]
fn no_machine_paths_or_registry_hosts() {
    enforce(text::check);
}

#[test]
fn readme_map_equals_the_tree() {
    enforce(|tree| vec![pages::map(tree)]);
}

#[test]
fn decision_records_are_numbered() {
    enforce(|tree| vec![pages::decisions(tree)]);
}

#[test]
fn allow_list_names_rules_and_reasons() {
    let known: Vec<&str> = confine::CONFINED
        .iter()
        .map(|c| c.rule.id)
        .chain([features::FEATURES.id])
        .chain(manifests::RULES.iter().chain(shape::RULES).chain(text::RULES).map(|r| r.id))
        .collect();
    for (i, entry) in allowed::ALLOWED.iter().enumerate() {
        assert!(known.contains(&entry.rule), "{}: no rule `{}`; rules: {known:?}", allowed::HERE, entry.rule);
        assert!(entry.reason.split_whitespace().count() >= 4, "{}: say why for {:?}", allowed::HERE, entry.path);
        let twice = allowed::ALLOWED[..i].iter().any(|a| a.rule == entry.rule && a.path == entry.path);
        assert!(!twice, "{}: {:?} stands twice for `{}`", allowed::HERE, entry.path, entry.rule);
    }
}

#[cfg(test)]
mod own {
    //! Tests of the reporting itself.
    use super::*;

    const RULE: Rule = Rule { id: "r", why: "because", mend: "so" };
    const ENTRY: Allowance = Allowance { rule: "r", path: "a/", reason: "for the sake of this test" };

    #[test]
    fn an_exception_excuses_and_a_stale_one_is_found() {
        let two = vec![Finding::new("a/x.rs", 3, "bad"), Finding::new("b.rs", 4, "bad")];
        assert_eq!(settle(&RULE, two, &[ENTRY]), vec![Finding::new("b.rs", 4, "bad")]);
        let left = settle(&RULE, Vec::new(), &[ENTRY]);
        assert!(left.len() == 1 && left[0].what.contains("excuses nothing"), "{left:?}");
    }

    #[test]
    fn a_report_has_place_reason_and_remedy() {
        let text = report(&RULE, &[Finding::new("b.rs", 4, "bad")]).expect("one finding makes a report");
        assert!(text.contains("b.rs:4: bad\nwhy:  because\nmend: so"), "{text}");
        assert_eq!(report(&RULE, &[]), None);
    }
}

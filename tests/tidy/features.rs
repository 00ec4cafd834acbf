//! One compilation for the program and its tests: both must resolve every crate to the same features.
//!
//! What it is not: a rule about which features are good. It asks `cargo tree`, offline and with the lock file as
//! it is, and compares.
//!
//! Invariant: a crate that only the tests link is free; a crate that the program links looks the same in both.
//! A finding's path is the crate's name, so that `allowed` can except a crate.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::tree::Tree;
use super::{Finding, Rule};

/// The rule of this file.
pub const FEATURES: Rule = Rule {
    id: "same-features",
    why: "a feature that only the tests turn on makes cargo compile that crate, and all above it, twice",
    mend: "turn the features of the second list on for this crate in [workspace.dependencies], under a \
           dependency that the program itself has, until both lists agree",
};

/// Compares the features that cargo would build the program's crates with, once without and once with the tests'
/// dependencies.
pub fn check(tree: &Tree) -> (Rule, Vec<Finding>) {
    let program = resolved(tree, "normal,build");
    let tests = resolved(tree, "normal,build,dev");
    (FEATURES, differing(&program, &tests))
}

type Features = BTreeMap<String, BTreeSet<String>>;

/// Each crate with its version, and the sets of features that cargo builds it with.
fn resolved(tree: &Tree, edges: &str) -> Features {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(&tree.root)
        .args(["tree", "--locked", "--offline", "--workspace", "--prefix", "none", "--format", "{p}|{f}"])
        .args(["--edges", edges])
        .output()
        .unwrap_or_else(|e| panic!("starting cargo tree: {e}"));
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    features(&String::from_utf8_lossy(&output.stdout))
}

fn features(listing: &str) -> Features {
    let mut found = Features::new();
    for (package, features) in listing.lines().filter_map(|line| line.split_once('|')) {
        let features = features.trim_end_matches("(*)").trim();
        found.entry(package.to_owned()).or_default().insert(features.to_owned());
    }
    found
}

fn differing(program: &Features, tests: &Features) -> Vec<Finding> {
    let none = BTreeSet::new();
    program
        .iter()
        .map(|(package, features)| (package, features, tests.get(package).unwrap_or(&none)))
        .filter(|(_, program, tests)| !program.is_subset(tests))
        .map(|(package, program, tests)| {
            let name = package.split(' ').next().unwrap_or(package);
            let what = format!("{package}: the program has {program:?}, the tests {tests:?}");
            Finding::new(name, 0, what)
        })
        .collect()
}

#[cfg(test)]
mod own {
    //! Tests of the comparison.
    use super::*;

    #[test]
    fn a_feature_of_the_tests_alone_is_found() {
        let program = features("a v1|std\nb v1|x\na v1|std (*)\n");
        assert_eq!(differing(&program, &features("a v1|std\nb v1|x\nc v1|\n")), []);
        let found = differing(&program, &features("a v1|alloc,std\nb v1|x\n"));
        assert!(found.len() == 1 && found[0].path == "a", "{found:?}");
    }
}

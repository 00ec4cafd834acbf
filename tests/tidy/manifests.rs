//! Rules read from the manifests: the layers of architecture §3, what `ledger` may link, dependencies that one
//! crate alone may name, and one set of versions for the whole workspace.
//!
//! What it does not see: paths in code (`confine` reads those), what a dependency links in turn, and which
//! features cargo resolves (`features` asks it).
//!
//! Invariant: a crate that the table does not name fails, so the table cannot fall behind the tree.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::tree::Tree;
use super::{Finding, Rule};

/// A workspace crate, its folder, and the crates below it.
struct Layer {
    name: &'static str,
    folder: &'static str,
    below: &'static [&'static str],
}

/// The house, from the ground up.
const LAYERS: &[Layer] = &[
    Layer { name: "ledger", folder: "ledger", below: &[] },
    Layer { name: "piperoll-verify", folder: "ledger/verify", below: &["ledger"] },
    Layer { name: "ledger-store", folder: "ledger/store", below: &["ledger"] },
    Layer { name: "access", folder: "access", below: &["ledger", "ledger-store"] },
    Layer { name: "ingest", folder: "ingest", below: &["ledger", "ledger-store", "access"] },
    Layer { name: "query", folder: "query", below: &["ledger", "ledger-store", "access"] },
    Layer { name: "retention", folder: "retention", below: &["ledger", "ledger-store", "access"] },
    Layer {
        name: "dashboards",
        folder: "dashboards",
        below: &["ledger", "ledger-store", "access", "ingest", "query", "retention"],
    },
    Layer {
        name: "piperoll",
        folder: "",
        below: &["ledger", "ledger-store", "access", "ingest", "query", "retention", "dashboards"],
    },
];

/// All that `ledger` links, and the most that the auditor's tool links.
const LEDGER_LINKS: &[&str] = &["base64", "ed25519-dalek", "sha2", "thiserror"];
const VERIFY_LINKS: &[&str] = &["clap", "flate2", "ledger", "thiserror"];
const NEVER_NEAR_PROOFS: &[&str] = &["arrow", "datafusion", "parquet", "tokio"];

/// Dependencies that only these crates may name outside tests.
const CONFINED: &[(&str, &[&str])] = &[
    ("sha2", &["ledger"]),
    ("ed25519-dalek", &["ledger"]),
    ("ring", &["ledger-store"]),
    ("argon2", &["access"]),
    ("object_store", &["ledger-store", "query"]),
    ("datafusion", &["query"]),
    ("getrandom", &["piperoll"]),
    ("rand", &["piperoll"]),
];

const IMPORTS: Rule = Rule {
    id: "imports",
    why: "a reader must know from the manifest alone what a crate can reach (architecture §3)",
    mend: "move what both need into a crate below them, or pass it in from src/; a new crate gets a line in \
           LAYERS (tests/tidy/manifests.rs), in the README's map and in the workspace's members",
};
const PURE: Rule = Rule {
    id: "pure-ledger",
    why: "who reads ledger/Cargo.toml must see that the rules of history cannot do IO, and an auditor must be \
          able to read all that the verifier links",
    mend: "put the code that needs this dependency into ledger/store or src/; to widen the list for good, write \
           a decision record and change LEDGER_LINKS or VERIFY_LINKS (tests/tidy/manifests.rs)",
};
const HOMES: Rule = Rule {
    id: "confined-dependencies",
    why: "hashing, stores, SQL and randomness each have one home, and the manifest is the first fence",
    mend: "call the crate that has it (tests/tidy/manifests.rs, CONFINED), or name it under [dev-dependencies] \
           if only tests need it",
};
const WORKSPACE: Rule = Rule {
    id: "workspace",
    why: "one version, one set of lints and one test binary keep the build small and the same everywhere",
    mend: "name versions in the root's [workspace.dependencies] and write `name.workspace = true` in the crate; \
           begin each crate's lints with `[lints] workspace = true`; list every crate in members and \
           default-members; set `autotests = false` in the root package",
};
/// The rules of this file that an exception may name.
pub const RULES: &[Rule] = &[IMPORTS, PURE, HOMES, WORKSPACE];

/// A manifest of the workspace, and the layer that it is.
struct Manifest<'t> {
    path: String,
    text: &'t str,
    table: Table,
    layer: &'static Layer,
}

/// One line of a dependency table: its kind, the key, the package's real name and the entry.
struct Dependency<'m> {
    dev: bool,
    package: String,
    entry: &'m Value,
}

/// All rules about manifests.
pub fn check(tree: &Tree) -> Vec<(Rule, Vec<Finding>)> {
    let mut imports = Vec::new();
    let manifests = manifests(tree, &mut imports);
    let (mut pure, mut homes, mut workspace) = (Vec::new(), Vec::new(), root(tree));
    for manifest in &manifests {
        let at = |package: &str, what: String| Finding::new(&manifest.path, line_of(manifest.text, package), what);
        let lints = manifest.table.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool);
        if lints != Some(true) {
            workspace.push(Finding::new(&manifest.path, 0, "does not take the workspace's lints"));
        }
        for d in dependencies(&manifest.table, tree) {
            let name = manifest.layer.name;
            if LAYERS.iter().any(|l| l.name == d.package) && !manifest.layer.below.contains(&d.package.as_str()) {
                imports.push(at(&d.package, format!("{name} imports {}, which is not below it", d.package)));
            }
            if d.entry.get("workspace").and_then(Value::as_bool) != Some(true) {
                workspace.push(at(&d.package, format!("{} has a version of its own", d.package)));
            }
            let homes_of = CONFINED.iter().find(|(package, _)| *package == d.package).map(|(_, homes)| *homes);
            if let Some(allowed) = homes_of.filter(|allowed| !d.dev && !allowed.contains(&name)) {
                let allowed = allowed.join(" and ");
                homes.push(at(&d.package, format!("{name} links {}, which belongs to {allowed}", d.package)));
            }
            if let Some(what) = impure(name, &d) {
                pure.push(at(&d.package, what));
            }
        }
        let missing = LEDGER_LINKS.iter().filter(|l| manifest.layer.name == "ledger" && line_of(manifest.text, l) == 0);
        pure.extend(missing.map(|l| Finding::new(&manifest.path, 0, format!("{l} is on the list but not linked"))));
    }
    vec![(IMPORTS, imports), (PURE, pure), (HOMES, homes), (WORKSPACE, workspace)]
}

/// What is wrong with this dependency of `ledger` or of the verifier, if anything.
fn impure(name: &str, d: &Dependency<'_>) -> Option<String> {
    let links = match name {
        "ledger" => LEDGER_LINKS,
        "piperoll-verify" => VERIFY_LINKS,
        _ => return None,
    };
    if NEVER_NEAR_PROOFS.contains(&d.package.as_str()) {
        Some(format!("{name} names {}, not even tests may", d.package))
    } else if !d.dev && !links.contains(&d.package.as_str()) {
        Some(format!("{name} links {}; it may link {}", d.package, links.join(", ")))
    } else {
        None
    }
}

/// Reads the manifests in the tree; those that the table does not know become findings.
fn manifests<'t>(tree: &'t Tree, findings: &mut Vec<Finding>) -> Vec<Manifest<'t>> {
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(p, _)| *p == "Cargo.toml" || p.ends_with("/Cargo.toml")) {
        let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let table: Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        let name = table.get("package").and_then(|p| p.get("name")).and_then(Value::as_str).unwrap_or_default();
        match LAYERS.iter().find(|l| l.name == name && l.folder == folder) {
            Some(layer) => found.push(Manifest { path: path.to_owned(), text, table, layer }),
            None => findings.push(Finding::new(path, 0, format!("no layer {name:?} in folder {folder:?} is known"))),
        }
    }
    let gone = LAYERS.iter().filter(|l| !found.iter().any(|m| m.layer.name == l.name));
    findings.extend(gone.map(|l| {
        Finding::new("tests/tidy/manifests.rs", 0, format!("LAYERS names {}, which the tree has not", l.name))
    }));
    found
}

/// Every dependency of a manifest, of every kind and target.
fn dependencies<'m>(table: &'m Table, tree: &Tree) -> Vec<Dependency<'m>> {
    let shared: Table = tree.text("Cargo.toml").and_then(|t| t.parse().ok()).unwrap_or_default();
    let shared = shared.get("workspace").and_then(|w| w.get("dependencies")).cloned();
    let targets = table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let mut found = Vec::new();
    for part in std::iter::once(table).chain(targets.filter_map(Value::as_table)) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (key, entry) in part.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let renamed = entry.get("package").or_else(|| shared.as_ref()?.get(key)?.get("package"));
                let package = renamed.and_then(Value::as_str).unwrap_or(key).to_owned();
                found.push(Dependency { dev: kind == "dev-dependencies", package, entry });
            }
        }
    }
    found
}

/// What the root manifest must say about the workspace as a whole.
fn root(tree: &Tree) -> Vec<Finding> {
    let table: Table = tree.text("Cargo.toml").and_then(|t| t.parse().ok()).unwrap_or_default();
    let mut found = Vec::new();
    for list in ["members", "default-members"] {
        let listed: BTreeSet<&str> = table
            .get("workspace")
            .and_then(|w| w.get(list))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let wanted: BTreeSet<&str> = LAYERS.iter().map(|l| if l.folder.is_empty() { "." } else { l.folder }).collect();
        if listed != wanted {
            found.push(Finding::new("Cargo.toml", 0, format!("{list} is {listed:?}, the layers are {wanted:?}")));
        }
    }
    let autotests = table.get("package").and_then(|p| p.get("autotests")).and_then(Value::as_bool);
    if autotests != Some(false) {
        let what = "without `autotests = false` each file in tests/ becomes a binary of its own";
        found.push(Finding::new("Cargo.toml", line_of(tree.text("Cargo.toml").unwrap_or_default(), "name"), what));
    }
    found
}

/// The line on which a key stands first; 0 if it does not.
fn line_of(manifest: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(is_key).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod own {
    //! Tests of the rules over made-up manifests.
    use super::*;

    /// What each rule finds when `crate_toml` stands in `folder` of an otherwise empty house.
    fn found(folder: &str, crate_toml: &str) -> Vec<(&'static str, String)> {
        let root = "[workspace.dependencies]\nhash = { package = \"sha2\", version = \"1\" }\n";
        let tree = Tree::made_of(&[("Cargo.toml", root), (&format!("{folder}/Cargo.toml"), crate_toml)]);
        let all = check(&tree).into_iter().flat_map(|(rule, f)| f.into_iter().map(move |f| (rule.id, f)));
        all.filter(|(_, f)| f.path.starts_with(folder)).map(|(id, f)| (id, f.what)).collect()
    }

    #[test]
    fn imports_go_down_only_also_for_tests() {
        let head = "[package]\nname = \"query\"\n[lints]\nworkspace = true\n";
        let fine = "[dependencies]\nledger.workspace = true\naccess.workspace = true\ndatafusion.workspace = true";
        assert_eq!(found("query", &format!("{head}{fine}")), []);
        for kind in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.build-dependencies"] {
            let toml = format!("{head}[{kind}]\ningest.workspace = true");
            assert_eq!(found("query", &toml), [("imports", "query imports ingest, which is not below it".to_owned())]);
        }
    }

    #[test]
    fn unknown_crates_own_versions_and_missing_lints_are_found() {
        let ids = |folder, toml: &str| found(folder, toml).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids("extra", "[package]\nname = \"extra\""), ["imports"]);
        assert_eq!(ids("query", "[package]\nname = \"query\"\n[dependencies]\nserde = \"1\""), ["workspace"; 2]);
    }

    #[test]
    fn the_ledger_links_its_list_and_hashing_stays_there() {
        let head = "[lints]\nworkspace = true\n[package]\nname";
        let list = "base64.workspace = true\ned25519-dalek.workspace = true\nthiserror.workspace = true";
        let fine = format!("{head} = \"ledger\"\n[dependencies]\nsha2.workspace = true\n{list}");
        assert_eq!(found("ledger", &fine), []);
        assert_eq!(found("ledger", &fine.replace("sha2", "serde")).len(), 2);
        assert_eq!(found("ledger", &format!("{fine}\n[dev-dependencies]\ntokio.workspace = true")).len(), 1);
        let renamed = format!("{head} = \"access\"\n[dependencies]\nhash.workspace = true");
        let what = "access links sha2, which belongs to ledger".to_owned();
        assert_eq!(found("access", &renamed), [("confined-dependencies", what)]);
        assert_eq!(found("access", &renamed.replace("[dep", "[dev-dep")), []);
    }
}

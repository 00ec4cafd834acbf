//! Rules about two pages for people: the README's map of the tree, and the numbered decision records.
//!
//! What it does not judge: whether a description is true.
//!
//! Invariant: the map names each top-level entry and each crate once, and nothing that is not there.

use std::collections::BTreeSet;

use super::tree::Tree;
use super::{Finding, Rule};

const README: &str = "README.md";
const RECORDS: &str = "docs/decisions/";
const OPEN: &str = "<!-- map -->";
const CLOSE: &str = "<!-- /map -->";

const MAP: Rule = Rule {
    id: "readme-map",
    why: "a map that differs from the tree sends the newcomer astray",
    mend: "edit the fenced block between `<!-- map -->` and `<!-- /map -->` in README.md: one line for each \
           entry, its path from the top (folders end in `/`), spaces, a description; a line that begins with a \
           space goes on with the one above",
};
const DECISIONS: Rule = Rule {
    id: "decision-records",
    why: "records are cited by number, so numbers have no gaps and no doubles",
    mend: "name the file `docs/decisions/NNNN-what-was-decided.md`, NNNN being the next free number from 0001",
};

/// Compares the README's map with the tree.
pub fn map(tree: &Tree) -> (Rule, Vec<Finding>) {
    let Some(readme) = tree.text(README) else {
        return (MAP, vec![Finding::new(README, 0, "there is no README.md")]);
    };
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for (line, path, description) in map_lines(readme) {
        let mut say = |what: String| found.push(Finding::new(README, line, what));
        if !tree.has(path) {
            let as_folder = format!("{path}/");
            let hint = if tree.has(&as_folder) { "; a folder is written with `/` at its end" } else { "" };
            say(format!("{path} is not in the tree{hint}"));
        }
        if description.is_empty() {
            say(format!("{path} has no description"));
        }
        if !listed.insert(path) {
            say(format!("{path} stands twice"));
        }
    }
    if listed.is_empty() {
        found.push(Finding::new(README, 0, "there is no map"));
    }
    let unlisted = wanted(tree).into_iter().filter(|path| !listed.contains(path.as_str()));
    found.extend(unlisted.map(|path| Finding::new(README, 0, format!("the map leaves out {path}"))));
    (MAP, found)
}

/// Lines of the map: number, path, description.
fn map_lines(readme: &str) -> Vec<(usize, &str, &str)> {
    readme
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim() != OPEN)
        .take_while(|(_, line)| line.trim() != CLOSE)
        .filter(|(_, line)| !line.starts_with([' ', '`', '<']) && !line.trim().is_empty())
        .map(|(at, line)| {
            let (path, description) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (at + 1, path, description.trim())
        })
        .collect()
}

/// What the map must name: top-level entries but dot files and the lock file, and the folder of each crate.
fn wanted(tree: &Tree) -> BTreeSet<String> {
    let top = tree.files.keys().map(|path| match path.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => path.clone(),
    });
    let crates = tree.files.keys().filter_map(|path| path.strip_suffix("/Cargo.toml")).map(|f| format!("{f}/"));
    top.filter(|path| !path.starts_with('.') && path != "Cargo.lock").chain(crates).collect()
}

/// Checks names and numbers of the decision records.
pub fn decisions(tree: &Tree) -> (Rule, Vec<Finding>) {
    let mut found = Vec::new();
    let records = tree.files.keys().filter_map(|path| Some((path, path.strip_prefix(RECORDS)?)));
    let mut next = 1;
    for (path, name) in records {
        let Some(number) = number_of(name) else {
            found.push(Finding::new(path, 0, "the name is not NNNN-title.md, title in lower case with hyphens"));
            continue;
        };
        if number != next {
            found.push(Finding::new(path, 0, format!("number {number:04} stands where {next:04} is due")));
        }
        next = number + 1;
    }
    (DECISIONS, found)
}

fn number_of(name: &str) -> Option<u32> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let titled = !title.is_empty() && title.chars().all(plain);
    (digits && titled).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod own {
    //! Tests of both rules over made-up pages.
    use super::*;

    fn of_map(lines: &str) -> Vec<String> {
        let readme = format!("# x\n{OPEN}\n```\n{lines}```\n{CLOSE}\nlater text\n");
        let files = [
            (README, readme.as_str()),
            ("Cargo.toml", ""),
            ("Cargo.lock", ""),
            (".ci/run", ""),
            ("a/Cargo.toml", ""),
            ("a/b/Cargo.toml", ""),
            ("docs/x.md", ""),
        ];
        map(&Tree::made_of(&files)).1.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn the_map_equals_the_tree() {
        let fine =
            "README.md  this page\nCargo.toml the workspace\na/  a crate\n    more of it\na/b/ another\ndocs/ pages\n";
        assert_eq!(of_map(fine), Vec::<String>::new());
        assert_eq!(of_map(&fine.replace("a/b/ another\n", "")), ["the map leaves out a/b/"]);
        assert_eq!(of_map(&format!("{fine}gone/ x\n")), ["gone/ is not in the tree"]);
        assert_eq!(of_map(&format!("{fine}docs/ x\n")), ["docs/ stands twice"]);
        assert_eq!(of_map(&format!("{fine}docs/x.md\n")), ["docs/x.md has no description"]);
        assert_eq!(of_map(&fine.replace("docs/", "docs")).len(), 2);
        assert!(of_map("").contains(&"there is no map".to_owned()));
    }

    #[test]
    fn records_are_numbered_without_gaps() {
        let found = |names: &[&str]| {
            let paths: Vec<String> = names.iter().map(|name| format!("{RECORDS}{name}")).collect();
            let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "")).collect();
            decisions(&Tree::made_of(&files)).1.len()
        };
        assert_eq!(found(&[]), 0);
        assert_eq!(found(&["0001-a-b.md", "0002-c.md"]), 0);
        for bad in [
            ["0001-a.md", "0003-b.md"],
            ["0001-a.md", "0001-b.md"],
            ["0001-a.md", "note.md"],
            ["0001-a.md", "0002-B.md"],
        ] {
            assert_eq!(found(&bad), 1, "{bad:?}");
        }
    }
}

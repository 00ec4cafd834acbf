//! Rules about every text file: no path of somebody's machine, no host of a package registry.
//!
//! What it leaves out: the lock file, which cargo writes and which names its registry by design.
//!
//! Invariant: the words that it looks for are put together at run time, so that this file passes itself.

use super::scrub::is_word;
use super::tree::Tree;
use super::{Finding, Rule};

const PATHS: Rule = Rule {
    id: "machine-paths",
    why: "a path of one machine is wrong on every other",
    mend: "write it relative to the tree, take it as an argument, or use a made-up one such as /srv/piperoll",
};
const HOSTS: Rule = Rule {
    id: "registry-hosts",
    why: "the tree must build behind any mirror, so only a machine's own settings name registries",
    mend: "name the package and let cargo, pip or apt find it",
};

/// The rules of this file.
pub const RULES: &[Rule] = &[PATHS, HOSTS];

/// Folders that exist on a developer's machine only.
fn folders() -> Vec<String> {
    ["work", "root", "home", "Users"].iter().map(|name| format!("/{name}/")).collect()
}

/// Package registries by host, without what may stand before.
fn hosts() -> Vec<String> {
    let split = [
        ("crates", "io"),
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb.debian", "org"),
        ("security.debian", "org"),
        ("archive.ubuntu", "com"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("proxy.golang", "org"),
        ("rubygems", "org"),
        ("maven.apache", "org"),
    ];
    split.iter().map(|(name, end)| format!("{name}.{end}")).collect()
}

/// Both rules over all text files.
pub fn check(tree: &Tree) -> Vec<(Rule, Vec<Finding>)> {
    let (folders, hosts) = (folders(), hosts());
    let (mut on_disk, mut on_net) = (Vec::new(), Vec::new());
    for (path, text) in tree.texts().filter(|(path, _)| *path != "Cargo.lock") {
        for (at, line) in text.lines().enumerate() {
            if let Some(folder) = folders.iter().find(|f| begins_a_path(line, f)) {
                on_disk.push(Finding::new(path, at + 1, format!("a path below {folder}")));
            }
            if let Some(host) = hosts.iter().find(|h| is_host(line, h)) {
                on_net.push(Finding::new(path, at + 1, format!("the host {host}")));
            }
        }
    }
    vec![(PATHS, on_disk), (HOSTS, on_net)]
}

/// Whether the folder stands at the begin of a path, and not inside a longer path or an address.
fn begins_a_path(line: &str, folder: &str) -> bool {
    let inside = |c: char| is_word(c) || matches!(c, '.' | '-' | '}' | ')' | '>' | '*' | ']');
    line.match_indices(folder).any(|(at, _)| {
        let before = &line[..at];
        before.ends_with("file://") || !before.ends_with(inside)
    })
}

fn is_host(line: &str, host: &str) -> bool {
    line.match_indices(host).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + host.len()..]);
        !before.ends_with(|c: char| is_word(c) || c == '-') && !after.starts_with(|c: char| is_word(c) || c == '-')
    })
}

#[cfg(test)]
mod own {
    //! Tests of both rules over made-up lines.
    use super::*;

    #[test]
    fn paths_and_hosts_are_found_and_likenesses_are_not() {
        let (folder, host) = (&folders()[0], &hosts()[0]);
        let found =
            |line: &str| check(&Tree::made_of(&[("a.md", line)])).iter().map(|(_, f)| f.len()).collect::<Vec<_>>();
        for line in [format!("cd {folder}main"), format!("\"{folder}x\""), format!("file://{folder}x")] {
            assert_eq!(found(&line), [1, 0], "{line}");
        }
        for line in [format!("https://{host}/x"), format!("static.{host}"), host.clone()] {
            assert_eq!(found(&line), [0, 1], "{line}");
        }
        for line in [format!("docs{folder}x"), format!("$HOME{folder}"), format!("my{host}"), format!("{host}n")] {
            assert_eq!(found(&line), [0, 0], "{line}");
        }
        let lock = Tree::made_of(&[("Cargo.lock", host)]);
        assert!(check(&lock).iter().all(|(_, f)| f.is_empty()));
    }
}

//! The checked-out tree as tidy sees it: paths from the top, texts, and which Rust files are tests.
//!
//! Not a general file walker: it reads what `git ls-files` names (tracked, or new and not ignored, so that a
//! breach is found before it is committed), and walks the folders only where git cannot answer.
//!
//! Invariants: (1) paths use `/` and start at the top of the tree; (2) a file is a test only if it lies in a
//! crate's `tests/` folder or hangs below a `#[cfg(test)] mod name;`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scrub;

/// Every file of the tree; the text is `None` for what is not UTF-8.
#[derive(Debug, Default)]
pub struct Tree {
    pub root: PathBuf,
    pub files: BTreeMap<String, Option<String>>,
}

/// One Rust file, ready for rules.
#[derive(Debug)]
pub struct Source<'t> {
    pub path: &'t str,
    pub text: &'t str,
    /// The text with comments and literals blanked.
    pub code: String,
    /// The same with `#[cfg(test)]` items blanked too.
    pub production: String,
    /// Whether the whole file is a test.
    pub test: bool,
}

impl Tree {
    /// The tree that this test was built from.
    pub fn checked_out() -> Self {
        let root = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let paths = listed_by_git(&root).unwrap_or_else(|| {
            let mut found = Vec::new();
            walk(&root, "", &mut found);
            found
        });
        let mut files = BTreeMap::new();
        for path in paths {
            let full = root.join(&path);
            if full.is_file() {
                let bytes = std::fs::read(&full).unwrap_or_else(|e| panic!("reading {path}: {e}"));
                files.insert(path, String::from_utf8(bytes).ok());
            }
        }
        assert!(files.contains_key("Cargo.toml"), "no Cargo.toml found at the top of the tree");
        Tree { root, files }
    }

    /// A tree made up in a test.
    pub fn made_of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), Some((*t).to_owned()))).collect();
        Tree { root: PathBuf::new(), files }
    }

    /// A file's text, if the file is there and is text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// All files that are text.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Whether a file, or a folder with files in it, stands at this path.
    pub fn has(&self, path: &str) -> bool {
        match path.strip_suffix('/') {
            Some(_) => self.files.keys().any(|p| p.starts_with(path)),
            None => self.files.contains_key(path),
        }
    }

    /// All Rust files.
    pub fn sources(&self) -> Vec<Source<'_>> {
        let rust = || self.texts().filter(|(path, _)| path.ends_with(".rs"));
        let mut test_roots = Vec::new();
        for (path, text) in rust() {
            let names = scrub::test_modules(&scrub::scrub(text));
            test_roots.extend(names.iter().map(|name| format!("{}/{name}", module_folder(path))));
        }
        rust()
            .map(|(path, text)| {
                let code = scrub::scrub(text);
                let production = scrub::without_tests(&code);
                let below = |root: &String| {
                    path.strip_prefix(root.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
                };
                let test = self.in_tests_folder(path) || test_roots.iter().any(below);
                Source { path, text, code, production, test }
            })
            .collect()
    }

    fn in_tests_folder(&self, path: &str) -> bool {
        path.starts_with("tests/")
            || path
                .split_once("/tests/")
                .is_some_and(|(above, _)| self.files.contains_key(&format!("{above}/Cargo.toml")))
    }
}

/// The folder in which the modules declared in `path` are looked for.
fn module_folder(path: &str) -> String {
    let stem = path.trim_end_matches(".rs");
    match stem.rsplit_once('/') {
        Some((folder, "mod" | "lib" | "main")) => folder.to_owned(),
        _ => stem.to_owned(),
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().ok().filter(|o| o.status.success())?;
    let names: Vec<String> =
        String::from_utf8(output.stdout).ok()?.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    // A tree unpacked inside somebody else's repository that ignores it lists nothing: walk instead.
    names.iter().any(|name| name == "Cargo.toml").then_some(names)
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
    let listing = std::fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("listing {folder:?}: {e}"));
    for item in listing {
        let item = item.unwrap_or_else(|e| panic!("listing {folder:?}: {e}"));
        let name = item.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let is_folder = item.file_type().is_ok_and(|t| t.is_dir());
        if is_folder && name != ".git" && !item.path().join("CACHEDIR.TAG").exists() {
            walk(root, &path, found);
        } else if !is_folder {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod own {
    //! Tests of the listing.
    use super::*;

    #[test]
    fn tests_are_known_by_folder_and_by_declaration() {
        let tree = Tree::made_of(&[
            ("tests/main.rs", ""),
            ("a/Cargo.toml", ""),
            ("a/tests/x.rs", ""),
            ("a/src/lib.rs", "#[cfg(test)]\nmod faults;\nmod log;"),
            ("a/src/faults.rs", ""),
            ("a/src/faults/deep.rs", ""),
            ("a/src/log.rs", "#[cfg(test)] mod tests;"),
            ("a/src/log/tests.rs", ""),
            ("a/src/tests/not.rs", ""),
            ("a/src/tests.rs", ""),
        ]);
        let tests: Vec<&str> = tree.sources().iter().filter(|s| s.test).map(|s| s.path).collect();
        assert_eq!(
            tests,
            ["a/src/faults.rs", "a/src/faults/deep.rs", "a/src/log/tests.rs", "a/tests/x.rs", "tests/main.rs"]
        );
    }

    #[test]
    fn walking_finds_what_git_lists_at_the_least() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        walk(&root, "", &mut found);
        assert!(found.iter().any(|p| p == "Cargo.toml"), "{found:?}");
    }
}

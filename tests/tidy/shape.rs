//! The shape of Rust files: sizes, names, module docs, and calls that have no place in them.
//!
//! What it does not judge: layout (`cargo fmt`) and what clippy finds. Tests are left out of sizes and of `unwrap`.
//!
//! Invariant: sizes are physical lines, so that anybody can check them by eye.

use super::confine::names;
use super::scrub::{functions, is_word};
use super::tree::{Source, Tree};
use super::{Finding, Rule};

const FILE_LINES: usize = 450;
const FUNCTION_LINES: usize = 70;
const INLINE_TEST_LINES: usize = 150;
const NAMELESS: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];
/// Types that make a `static` a hidden argument.
const CELLS: &[&str] = &[
    "Atomic*",
    "Cell",
    "DashMap",
    "LazyCell",
    "LazyLock",
    "Mutex",
    "OnceCell",
    "OnceLock",
    "RefCell",
    "RwLock",
    "UnsafeCell",
];

const FILES: Rule = Rule {
    id: "file-size",
    why: "a file that is read in one sitting gets reviewed; one that is not grows",
    mend: "split it by subject into modules whose names are nouns of the domain",
};
const FUNCTIONS: Rule = Rule {
    id: "function-size",
    why: "a function that fits a screen can be checked by eye",
    mend: "name a step of it and move that step into a function of its own",
};
const INLINE_TESTS: Rule = Rule {
    id: "inline-tests",
    why: "long tests in the same file bury the code",
    mend: "move them to a sibling `<file>/tests.rs`, declared by `#[cfg(test)] mod tests;`",
};
const DOCS: Rule = Rule {
    id: "module-docs",
    why: "a reader learns from a file's first lines what it is, what it is not, and what it keeps true",
    mend: "begin the file with `//!`: what it is, what it is not, its neighbours, its invariants",
};
const NAMES: Rule = Rule {
    id: "nameless",
    why: "such a name says nothing, so everything ends up there",
    mend: "name the file after what it holds, in the words of architecture §2",
};
const GLOBALS: Rule = Rule {
    id: "globals",
    why: "state behind a static is an argument that nobody sees and no test can set",
    mend: "build it in src/ and pass it to who needs it",
};
const UNWRAP: Rule = Rule {
    id: "unwrap",
    why: "input must not be able to end the process",
    mend: "return an error; where it cannot fail, use `expect` with the proof in its text",
};
const UNFINISHED: Rule = Rule { id: "unfinished", why: "what is merged works", mend: "write it, or leave it out" };

/// The rules of this file.
pub const RULES: &[Rule] = &[FILES, FUNCTIONS, INLINE_TESTS, DOCS, NAMES, GLOBALS, UNWRAP, UNFINISHED];

/// All rules about the shape of files.
pub fn check(tree: &Tree) -> Vec<(Rule, Vec<Finding>)> {
    let sources = tree.sources();
    let checks: [fn(&Source<'_>) -> Vec<Finding>; 8] =
        [file_size, function_sizes, inline_tests, docs, nameless, globals, unwraps, unfinished];
    RULES.iter().zip(checks).map(|(rule, check)| (*rule, sources.iter().flat_map(check).collect())).collect()
}

/// Lines that were blanked because they are tests.
fn test_lines(source: &Source<'_>) -> usize {
    let lines = source.code.lines().zip(source.production.lines());
    lines.filter(|(code, production)| code != production).count()
}

fn file_size(source: &Source<'_>) -> Vec<Finding> {
    let lines = source.text.lines().count() - test_lines(source);
    let what = || Finding::new(source.path, 0, format!("{lines} lines without tests, at most {FILE_LINES}"));
    (!source.test && lines > FILE_LINES).then(what).into_iter().collect()
}

fn inline_tests(source: &Source<'_>) -> Vec<Finding> {
    let lines = test_lines(source);
    let what =
        || Finding::new(source.path, 0, format!("{lines} lines of tests in the file, at most {INLINE_TEST_LINES}"));
    (!source.test && lines > INLINE_TEST_LINES).then(what).into_iter().collect()
}

fn function_sizes(source: &Source<'_>) -> Vec<Finding> {
    if source.test {
        return Vec::new();
    }
    functions(&source.production)
        .into_iter()
        .filter(|f| f.lines > FUNCTION_LINES)
        .map(|f| {
            let what = format!("fn {} has {} lines, at most {FUNCTION_LINES}", f.name, f.lines);
            Finding::new(source.path, f.line, what)
        })
        .collect()
}

fn docs(source: &Source<'_>) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let said = first.strip_prefix("//!").is_some_and(|said| said.split_whitespace().count() > 1);
    let what = || Finding::new(source.path, 1, "does not begin with `//!` and a sentence");
    (!said).then(what).into_iter().collect()
}

fn nameless(source: &Source<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for part in source.path.trim_end_matches(".rs").split('/') {
        if NAMELESS.contains(&part) {
            found.push(Finding::new(source.path, 0, format!("a path with `{part}` in it")));
        }
    }
    for (at, line) in source.code.lines().enumerate() {
        if let Some(name) = NAMELESS.iter().find(|n| names(line, &format!("mod {n}"))) {
            found.push(Finding::new(source.path, at + 1, format!("a module `{name}`")));
        }
    }
    found
}

fn globals(source: &Source<'_>) -> Vec<Finding> {
    if source.test {
        return Vec::new();
    }
    let code = &source.production;
    let mut found = Vec::new();
    for (at, word) in code.match_indices("static") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let rest = &code[at + word.len()..];
        if before == '\'' || is_word(before) || rest.starts_with(is_word) {
            continue;
        }
        let declared = rest.split(['=', ';']).next().unwrap_or_default();
        if names(declared, "mut") || CELLS.iter().any(|cell| names(declared, cell)) {
            let line = 1 + code[..at].matches('\n').count();
            found.push(Finding::new(source.path, line, "a static that changes"));
        }
    }
    found.extend(lines_naming(code, source.path, &["thread_local!", "lazy_static!"]));
    found
}

fn unwraps(source: &Source<'_>) -> Vec<Finding> {
    if source.test { Vec::new() } else { lines_naming(&source.production, source.path, &[".unwrap()", "::unwrap"]) }
}

fn unfinished(source: &Source<'_>) -> Vec<Finding> {
    lines_naming(&source.code, source.path, &["todo!", "unimplemented!", "dbg!"])
}

fn lines_naming(code: &str, path: &str, wanted: &[&str]) -> Vec<Finding> {
    let hit = |line: &str| wanted.iter().find(|name| names(line, name)).copied();
    code.lines()
        .enumerate()
        .filter_map(|(at, line)| Some(Finding::new(path, at + 1, format!("names `{}`", hit(line)?))))
        .collect()
}

#[cfg(test)]
mod own {
    //! Tests of the shapes over made-up files.
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let tree = Tree::made_of(&[("a/Cargo.toml", ""), (path, text)]);
        let all = check(&tree).into_iter().flat_map(|(rule, f)| f.into_iter().map(move |f| (rule.id, f.line)));
        all.collect()
    }

    #[test]
    fn sizes_leave_tests_out() {
        let doc = "//! A doc.\n";
        let tests = format!("#[cfg(test)]\nmod t {{\n{}}}\n", "fn x() {}\n".repeat(100));
        let lines = |n: usize| format!("{doc}{}{tests}", "const A: u8 = 1;\n".repeat(n - 1));
        assert_eq!(found("a/src/b.rs", &lines(FILE_LINES)), []);
        assert_eq!(found("a/src/b.rs", &lines(FILE_LINES + 1)), [("file-size", 0)]);
        assert_eq!(found("a/tests/b.rs", &lines(FILE_LINES + 1)), []);
        assert_eq!(found("a/src/b.rs", &format!("{doc}{tests}{tests}")), [("inline-tests", 0)]);
        let function = |n: usize| format!("{doc}fn x() {{\n{}}}\n", "y();\n".repeat(n - 2));
        assert_eq!(found("a/src/b.rs", &function(FUNCTION_LINES)), []);
        assert_eq!(found("a/src/b.rs", &function(FUNCTION_LINES + 1)), [("function-size", 2)]);
    }

    #[test]
    fn what_has_no_place_is_found_with_its_line() {
        let cases = [
            ("a/src/b.rs", "fn x() {}", vec![("module-docs", 1)]),
            ("a/src/b.rs", "//!\nfn x() {}", vec![("module-docs", 1)]),
            ("a/src/utils.rs", "//! A doc.", vec![("nameless", 0)]),
            ("a/tests/common/mod.rs", "//! A doc.\nmod helpers;", vec![("nameless", 0), ("nameless", 2)]),
            ("a/src/b.rs", "//! A doc.\nstatic mut X: u8 = 1;", vec![("globals", 2)]),
            ("a/src/b.rs", "//! A doc.\npub static X: Arc<\n Mutex<u8>> = y();", vec![("globals", 2)]),
            (
                "a/src/b.rs",
                "//! A doc.\nstatic N: AtomicU64 = z;\nthread_local! {}",
                vec![("globals", 2), ("globals", 3)],
            ),
            ("a/src/b.rs", "//! A doc.\nx\n.unwrap();", vec![("unwrap", 3)]),
            ("a/tests/b.rs", "//! A doc.\nx.unwrap(); todo!()", vec![("unfinished", 2)]),
        ];
        for (path, text, wanted) in cases {
            assert_eq!(found(path, text), wanted, "{path}: {text}");
        }
        let fine = "//! A doc.\nstatic X: &'static str = y; // unwrap()\nfn z<T: 'static>(m: &Mutex<T>) { m.unwrap_or(1); common(); }";
        assert_eq!(found("a/src/b.rs", fine), []);
    }
}

//! Confinements of architecture §3: what may be named in one place only, so that a reader can grep for it.
//!
//! What it does not do: follow imports or macros. Tests are left out: `tests/` folders and `#[cfg(test)]` items.
//!
//! Invariant: homes are part of a rule; single files that may break it stand in `allowed`, with a reason.

use super::scrub::is_word;
use super::tree::{Source, Tree};
use super::{Finding, Rule};

/// A rule about names: where it applies, where it does not, and what must not be named.
pub struct Confinement {
    pub rule: Rule,
    /// Path prefixes in which the names are at home.
    home: &'static [&'static str],
    /// Path prefixes to which the rule applies; empty for everywhere.
    within: &'static [&'static str],
    /// Only files that name one of these are looked at; empty for all.
    naming: &'static [&'static str],
    /// The names. A `*` at the end matches any continuation of the last word.
    names: &'static [&'static str],
}

const EVERYWHERE: &[&str] = &[];
const ANY_FILE: &[&str] = &[];

/// All confinements.
pub const CONFINED: &[Confinement] = &[
    Confinement {
        rule: Rule {
            id: "hashing",
            why: "what is hashed and signed must be provable from `ledger` alone",
            mend: "call ledger's function, or add the one that is missing there, with its bytes in FORMAT.md",
        },
        home: &["ledger/src/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["sha1::", "sha2", "sha3::", "ed25519_dalek", "Sha256::", "Sha512::", "blake3::", "hmac::"],
    },
    Confinement {
        rule: Rule {
            id: "encryption",
            why: "whoever asks what encrypts what must find it in two files, and secrets that are wiped in one type",
            mend: "use ledger_store::cipher; Parquet's own encryption is told its key by ledger/store/src/keys alone",
        },
        home: &["ledger/store/src/cipher.rs", "access/src/keys/keyring.rs"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["ring::", "argon2::", "aes_gcm::", "chacha20poly1305::"],
    },
    Confinement {
        rule: Rule {
            id: "store-writes",
            why: "whatever changes a store goes through the commit protocol of ledger/store",
            mend: "ask ledger/store for the operation (its commit, its layout); read-only calls are fine",
        },
        home: &["ledger/store/"],
        within: EVERYWHERE,
        naming: &["object_store", "ObjectStore*"],
        names: &[
            ".put(",
            ".put_opts(",
            ".put_multipart*",
            ".delete(",
            ".delete_stream",
            ".rename(",
            ".rename_if*",
            ".rename_opts",
            ".copy(",
            ".copy_if*",
            ".copy_opts",
            "WriteMultipart",
        ],
    },
    Confinement {
        rule: Rule {
            id: "store-writes",
            why: "whatever changes a store goes through the commit protocol of ledger/store",
            mend: "ask ledger/store for the operation (its commit, its layout); read-only calls are fine",
        },
        home: &["ledger/store/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["PutMode", "PutOptions", "PutPayload", "PutMultipart*"],
    },
    Confinement {
        rule: Rule {
            id: "file-writes",
            why: "durable state is written, synced and recovered in ledger/store alone",
            mend: "move the write there; a file that the user named on the command line may be written in src/, \
                   with an entry in tests/tidy/allowed.rs",
        },
        home: &["ledger/store/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &[
            "fs::write",
            "fs::rename",
            "fs::copy",
            "fs::hard_link",
            "fs::set_permissions",
            "File::create*",
            "File::options",
            "OpenOptions",
            "create_dir*",
            "remove_file",
            "remove_dir*",
            "DirBuilder",
            "symlink",
        ],
    },
    Confinement {
        rule: Rule {
            id: "sql-engine",
            why: "DataFusion stays replaceable and unreachable while only `query` names it",
            mend: "give `query` a function that takes and returns our types, and call that",
        },
        home: &["query/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["datafusion*"],
    },
    Confinement {
        rule: Rule {
            id: "wall-clock",
            why: "time that is handed in can be tested, and a leaping clock is watched in one place",
            mend: "take the clock as an argument; src/clock.rs is where it is read",
        },
        home: &["src/clock.rs"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["SystemTime::now*", "Utc::now*", "Local::now*", "OffsetDateTime::now*", "Zoned::now*"],
    },
    Confinement {
        rule: Rule {
            id: "stopwatch",
            why: "code that reads a timer by itself cannot be tested for what it does when time passes",
            mend: "take the clock or the deadline as an argument; a file that only measures durations may have \
                   an entry in tests/tidy/allowed.rs",
        },
        home: &["src/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["Instant::now*"],
    },
    Confinement {
        rule: Rule {
            id: "randomness",
            why: "seeds, keys and ids that are handed in make histories that tests can repeat",
            mend: "take the source of randomness as an argument; it is opened in src/",
        },
        home: &["src/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &[
            "getrandom*",
            "rand::",
            "fastrand::",
            "thread_rng",
            "OsRng",
            "SysRng",
            "from_entropy",
            "from_os_rng",
            "Uuid::new_v4",
            "Uuid::now_v7",
            "RandomState::new",
        ],
    },
    Confinement {
        rule: Rule {
            id: "environment",
            why: "settings are read once, at the start, and handed down as small structs",
            mend: "take the value as an argument and read it in src/",
        },
        home: &["src/"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["std::env", "env::"],
    },
    Confinement {
        rule: Rule {
            id: "status-codes",
            why: "a caller's next act follows from the kind of an error, and one file maps kinds to HTTP",
            mend: "return the error's kind through access::problem; a new status gets its place in that file",
        },
        home: &["access/src/problem.rs"],
        within: EVERYWHERE,
        naming: ANY_FILE,
        names: &["StatusCode::"],
    },
    Confinement {
        rule: Rule {
            id: "pure-code",
            why: "`ledger` says what a valid history is, and must not be able to do IO, wait or read a clock",
            mend: "do it in ledger/store or src/ and pass bytes and times in",
        },
        home: &[],
        within: &["ledger/src/"],
        naming: ANY_FILE,
        names: &[
            "async",
            ".await",
            "std::io",
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "SystemTime",
            "Instant",
            "println!",
            "eprintln!",
        ],
    },
];

/// All confinements against the tree; parts of one rule come together.
pub fn check(tree: &Tree) -> Vec<(Rule, Vec<Finding>)> {
    let sources = tree.sources();
    let mut found: Vec<(Rule, Vec<Finding>)> = Vec::new();
    for part in CONFINED {
        let findings = sources.iter().filter(|s| !s.test && part.applies(s)).flat_map(|s| part.breaches(s));
        match found.iter_mut().find(|(rule, _)| rule.id == part.rule.id) {
            Some((_, list)) => list.extend(findings),
            None => found.push((part.rule, findings.collect())),
        }
    }
    found
}

impl Confinement {
    fn applies(&self, source: &Source<'_>) -> bool {
        let under = |prefixes: &[&str]| prefixes.iter().any(|p| source.path.starts_with(p));
        (self.within.is_empty() || under(self.within))
            && !under(self.home)
            && (self.naming.is_empty() || self.naming.iter().any(|n| names(&source.production, n)))
    }

    fn breaches(&self, source: &Source<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (at, line) in source.production.lines().enumerate() {
            if let Some(name) = self.names.iter().find(|n| names(line, n)) {
                let name = name.trim_end_matches('*');
                found.push(Finding::new(source.path, at + 1, format!("names `{name}`")));
            }
        }
        found
    }
}

/// Whether blanked text holds a name as whole words; `*` at its end lets the last word go on.
pub fn names(code: &str, name: &str) -> bool {
    let (name, open) = name.strip_suffix('*').map_or((name, false), |n| (n, true));
    let starts_a_word = name.starts_with(is_word);
    let ends_a_word = name.ends_with(is_word) && !open;
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_word);
        let after = code[at + name.len()..].starts_with(is_word);
        !((starts_a_word && before) || (ends_a_word && after))
    })
}

#[cfg(test)]
mod own {
    //! Tests of the confinements over made-up files.
    use super::*;

    fn ids(path: &str, text: &str) -> Vec<&'static str> {
        let tree = Tree::made_of(&[(path, text)]);
        check(&tree).into_iter().filter(|(_, f)| !f.is_empty()).map(|(rule, _)| rule.id).collect()
    }

    #[test]
    fn names_are_whole_words() {
        assert!(
            names("use std::env;", "std::env")
                && names("env::var(x)", "env::")
                && names("x.put_multipart_opts(", ".put_multipart*")
        );
        assert!(
            !names("use my_std::env;", "std::env")
                && !names("std::environment", "std::env")
                && !names("smallrand::x", "rand::")
        );
    }

    #[test]
    fn each_confinement_holds_outside_its_home() {
        let cases = [
            ("hashing", "access/src/a.rs", "use sha2::Digest;", Some("ledger/src/hash.rs")),
            (
                "hashing",
                "ledger/store/src/a.rs",
                "let k = ed25519_dalek::SigningKey::from_bytes(b);",
                Some("ledger/src/key.rs"),
            ),
            ("encryption", "access/src/a.rs", "use ring::aead::Aad;", Some("ledger/store/src/cipher.rs")),
            (
                "store-writes",
                "query/src/a.rs",
                "use object_store::ObjectStoreExt;\nstore\n.put(&p, b)",
                Some("ledger/store/src/a.rs"),
            ),
            ("store-writes", "src/a.rs", "let m = PutMode::Create;", Some("ledger/store/src/a.rs")),
            ("file-writes", "src/a.rs", "std::fs::write(p, b)", Some("ledger/store/src/a.rs")),
            ("file-writes", "ingest/src/a.rs", "File::create_new(p)", None),
            ("sql-engine", "dashboards/src/a.rs", "datafusion_common::x()", Some("query/src/a.rs")),
            ("wall-clock", "src/serve.rs", "SystemTime::now()", Some("src/clock.rs")),
            ("stopwatch", "query/src/a.rs", "Instant::now()", Some("src/a.rs")),
            ("randomness", "ledger/store/src/a.rs", "getrandom::fill(&mut b)", Some("src/a.rs")),
            ("environment", "ingest/src/a.rs", "use std::{env, fs}; env::var(x)", Some("src/a.rs")),
            ("status-codes", "query/src/http.rs", "StatusCode::OK", Some("access/src/problem.rs")),
            ("pure-code", "ledger/src/a.rs", "async fn x() {}", Some("ledger/store/src/a.rs")),
        ];
        for (id, away, code, home) in cases {
            assert_eq!(ids(away, code), [id], "{away}: {code}");
            if let Some(home) = home {
                assert!(ids(home, code).is_empty(), "{home}: {code}");
            }
        }
    }

    #[test]
    fn tests_comments_strings_and_likenesses_are_free() {
        let free = "// sha2::\nlet a = \"StatusCode::OK\";\nbuf.put(x); router.delete(f);\n#[cfg(test)] mod t { use sha2::x; }";
        assert!(ids("access/src/a.rs", free).is_empty());
        assert!(ids("tests/a.rs", "sha2::x(); std::env::var(y); SystemTime::now();").is_empty());
    }
}

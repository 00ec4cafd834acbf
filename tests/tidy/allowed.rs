//! The exceptions to tidy's rules, each with its reason. An entry that excuses nothing fails its rule's test.
//!
//! What does not belong here: homes of a thing (where hashing lives, where stores are written); those are part
//! of the rule in `confine`. To add one: the rule's name as the failure prints it, the file from the top of the
//! tree (or a folder ending in `/`), and a reason that a reviewer would accept.

/// This file, for reports.
pub const HERE: &str = "tests/tidy/allowed.rs";

/// One exception: `rule` does not hold for `path`.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    pub rule: &'static str,
    /// A file, or a folder with a slash at its end; for `same-features`, a crate.
    pub path: &'static str,
    pub reason: &'static str,
}

impl Allowance {
    /// Whether the exception speaks of this file.
    pub fn covers(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(self.path) } else { path == self.path }
    }
}

/// All exceptions, by rule and then by path.
pub const ALLOWED: &[Allowance] = &[
    Allowance {
        rule: "confined-dependencies",
        path: "access/Cargo.toml",
        reason: "names the older ed25519-dalek that jsonwebtoken links, so that program and tests compile it once",
    },
    Allowance {
        rule: "encryption",
        path: "access/src/listener.rs",
        reason: "hands rustls the primitives that TLS is made of; nothing of the ledger is hashed or signed by them",
    },
    Allowance {
        rule: "file-writes",
        path: "access/src/keys/keyring.rs",
        reason: "replaces the keyring whole and synced; it is no part of a store, and no store may be able to write it",
    },
    Allowance {
        rule: "file-writes",
        path: "src/commands/bundle.rs",
        reason: "writes the bundle that was fetched to the file that the user names on the command line",
    },
    Allowance {
        rule: "file-writes",
        path: "src/commands/demo.rs",
        reason: "copies the demo's store into its own folder and flips a byte there",
    },
    Allowance {
        rule: "file-writes",
        path: "src/commands/generate.rs",
        reason: "writes the files that the user names on the command line",
    },
    Allowance {
        rule: "file-writes",
        path: "src/commands/rescue.rs",
        reason: "copies out of a store into the folder that the user names on the command line",
    },
    Allowance {
        rule: "file-writes",
        path: "src/keyfile.rs",
        reason: "creates the ledger's key file before there is a store, and replaces it whole and synced by one with a new key",
    },
];

//! How proofs are written: C2SP tlog-proof text, and JSON.
//!
//! Not here: making proofs (`ledger-store`), checking them (`ledger`).

use ledger::tlog_proof::TlogProof;
use ledger_store::{ConsistencyProof, InclusionProof};
use serde_json::{Value, json};

/// The text form (`c2sp.org/tlog-proof@v1`): index, hashes from the leaf's sibling upward, checkpoint.
pub fn tlog_proof(proof: &InclusionProof) -> String {
    TlogProof::new(proof.seq, proof.path.clone(), proof.checkpoint.clone()).to_text()
}

/// The JSON form of an inclusion proof.
pub fn inclusion_json(proof: &InclusionProof) -> Value {
    let path: Vec<String> = proof.path.iter().map(|hash| hash.to_base64()).collect();
    let redacted: Vec<&str> = proof.redacted.iter().map(|section| section.as_str()).collect();
    json!({
        "origin": proof.head.origin, "seq": proof.seq, "size": proof.head.size, "root": proof.head.root.to_base64(),
        "leaf": proof.leaf.to_base64(), "hashes": path, "checkpoint": proof.checkpoint,
        "redacted": redacted,
    })
}

/// The JSON form of a consistency proof.
pub fn consistency_json(proof: &ConsistencyProof) -> Value {
    let hashes: Vec<String> = proof.path.iter().map(|hash| hash.to_base64()).collect();
    json!({
        "from": proof.from, "to": proof.to, "hashes": hashes, "from_root": proof.from_root.to_base64(), "to_root": proof.to_root.to_base64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Hash, StreamHead};

    #[test]
    fn the_text_is_what_the_specification_shows() {
        let hash = |text: &str| Hash::from_base64(text).unwrap();
        let path = ["Z283gvWzpftDcO1JVyztxSP0pmMiJpyF8q8FCdF7Ck0=", "mFu102uSeACHaHHaklp+gqvoOp3bpYgpIKAHpV6is3Y="];
        let root = hash("qO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=");
        let head = StreamHead { origin: "audit.example/t/acme".into(), size: 13, root };
        let note = format!("{}\n\u{2014} audit.example/t/acme JM0MIh8L\n", head.to_text());
        let proof = InclusionProof {
            seq: 7,
            head,
            leaf: root,
            path: path.iter().map(|text| hash(text)).collect(),
            checkpoint: note.clone(),
            redacted: ledger::Section::Actor.into(),
        };
        let text = tlog_proof(&proof);
        let (above, below) = text.split_once("\n\n").unwrap();
        assert_eq!(above, format!("c2sp.org/tlog-proof@v1\nindex 7\n{}\n{}", path[0], path[1]));
        assert_eq!(below, note);
        assert_eq!(inclusion_json(&proof)["hashes"][1], path[1]);
        assert_eq!(inclusion_json(&proof)["redacted"], json!(["actor"]));
    }
}

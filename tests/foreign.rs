//! Judges from elsewhere: checkpoints, inclusion and consistency as implementations that nobody here wrote see
//! them (signed_note and tlog_tiles of Cloudflare's azul, and ct-merkle).
//!
//! Not here: Python's judgement of rows and chain (`python`).

use crate::program::{Service, events};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::tlog::{Hash, check_record, check_tree, record_hash};

fn hash(text: &str) -> Hash {
    Hash(STANDARD.decode(text).unwrap().try_into().unwrap())
}

/// Size and root of a checkpoint, once a foreign verifier has accepted it under this key.
fn accepted(note: &str, vkey: &str) -> (u64, Hash) {
    let note = Note::from_bytes(note.as_bytes()).unwrap();
    let verifier = StandardVerifier::new(vkey).unwrap();
    let (valid, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((valid.len(), unknown.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    (checkpoint.size(), *checkpoint.hash())
}

#[tokio::test]
async fn checkpoints_inclusion_and_consistency() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    service.post("/v1/events", events("acme", 0, 600)).await;
    service.stop();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 600, 77)).await;
    let log_key = service.key().await;
    accepted(&service.get("/v1/stores/main/checkpoint").await.1, &log_key.to_string());
    let base = "/v1/tenants/acme/audit";
    let checkpoint = service.get(&format!("{base}/checkpoint")).await.1;
    let origin = checkpoint.lines().next().unwrap();
    let vkey = log_key.under(origin).to_string();
    let (size, root) = accepted(&checkpoint, &vkey);
    assert_eq!(size, 677);
    // Entry bundles hold the leaf data: their hashes are the leaves that are proven.
    let mut leaves = Vec::new();
    for tile in ["000", "001", "002.p/165"] {
        let bundle = service.bytes(&format!("{base}/tile/entries/{tile}")).await;
        let mut rest = &bundle[..];
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            leaves.push(record_hash(&rest[2..2 + length]));
            rest = &rest[2 + length..];
        }
    }
    assert_eq!(leaves.len(), 677);
    let tile = service.bytes(&format!("{base}/tile/0/001")).await;
    assert!(tile.chunks_exact(32).eq(leaves[256..512].iter().map(|leaf| &leaf.0[..])));
    for seq in [0, 1, 255, 256, 511, 599, 600, 676] {
        let proof = service.get(&format!("{base}/proof/inclusion?seq={seq}")).await.1;
        let (body, note) = proof.split_once("\n\n").unwrap();
        let mut lines = body.lines();
        assert_eq!(
            (lines.next(), lines.next()),
            (Some("c2sp.org/tlog-proof@v1"), Some(format!("index {seq}").as_str()))
        );
        let path: Vec<Hash> = lines.map(hash).collect();
        assert_eq!(accepted(note, &vkey), (size, root));
        check_record(&path, size, root, seq, leaves[seq as usize]).unwrap();
        assert!(check_record(&path, size, root, seq, leaves[(seq as usize + 1) % 677]).is_err());
    }
    for old in [1, 2, 255, 256, 600, 676] {
        let proof: Value =
            serde_json::from_str(&service.get(&format!("{base}/proof/consistency?from={old}")).await.1).unwrap();
        let path: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(|h| hash(h.as_str().unwrap())).collect();
        let at_old = service.get(&format!("{base}/proof/inclusion?seq=0&size={old}")).await.1;
        let (old_size, old_root) = accepted(at_old.split_once("\n\n").unwrap().1, &vkey);
        assert_eq!(old_size, old);
        check_tree(&path, size, root, old, old_root).unwrap();
    }
}

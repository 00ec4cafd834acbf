//! What was acknowledged by whatever processes, and whether a service still holds to all of it.
//!
//! Invariant: what was acknowledged is there, once, at its position; no two heads of one size were ever signed, and
//! every signed head of a stream is a head of what the stream is now.

use crate::program::Service;
use ledger::StreamHead;
use ledger::proof::check_consistency;
use ledger::receipt::Receipt;
use ledger::tree::Hash;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Everything that was ever acknowledged.
#[derive(Default)]
pub struct Acknowledged {
    /// Tenant and event id to position.
    pub positions: HashMap<(String, String), u64>,
    /// Heads of streams that receipts covered.
    pub heads: Vec<StreamHead>,
    /// Heads of the store log that receipts end in.
    log_heads: BTreeMap<u64, Hash>,
}

impl Acknowledged {
    /// Takes note of the answer to a body, after its receipt verified.
    pub fn add(&mut self, body: &str, answer: &Value, key: &ledger::VerifierKey) {
        let receipt = Receipt::parse(answer["receipt"].as_str().unwrap().as_bytes()).unwrap();
        let verified = receipt.verify(std::slice::from_ref(key)).unwrap();
        for (line, result) in body.lines().zip(answer["results"].as_array().unwrap()) {
            let event: Value = serde_json::from_str(line).unwrap();
            let name = (event["tenant"].as_str().unwrap().to_string(), event["id"].as_str().unwrap().to_string());
            let seq = result["seq"].as_u64().unwrap();
            let head = verified.heads.iter().find(|head| head.origin.contains(&format!("/{}/", name.0))).unwrap();
            assert!(seq < head.size, "the receipt covers the position");
            let known = self.positions.insert(name.clone(), seq);
            assert!(known.is_none_or(|before| before == seq), "{name:?} moved from {known:?} to {seq}");
        }
        self.heads.extend(verified.heads);
        let head = verified.checkpoint.head();
        self.log_head(head.size, head.root);
    }

    fn log_head(&mut self, size: u64, root: Hash) {
        let known = self.log_heads.insert(size, root);
        assert!(known.is_none_or(|before| before == root), "two heads of the store log at {size}");
    }

    /// Takes what another client was told.
    pub fn extend(&mut self, other: Self) {
        self.positions.extend(other.positions);
        self.heads.extend(other.heads);
        other.log_heads.into_iter().for_each(|(size, root)| self.log_head(size, root));
    }

    /// Holds a service against all of it.
    pub async fn check(&self, service: &Service, tenants: &[&str]) {
        for tenant in tenants {
            self.check_rows(service, tenant).await;
            self.check_heads(service, tenant).await;
        }
    }

    async fn check_rows(&self, service: &Service, tenant: &str) {
        let rows = service.rows(&[tenant], "SELECT event_id, seq FROM audit ORDER BY seq").await;
        let stored: HashMap<String, u64> =
            rows.iter().map(|row| (row[0].as_str().unwrap().to_string(), row[1].as_u64().unwrap())).collect();
        assert_eq!(stored.len(), rows.len(), "{tenant}: an event is stored twice");
        assert!(rows.iter().enumerate().all(|(at, row)| row[1] == at), "{tenant}: positions have gaps");
        for ((owner, id), seq) in self.positions.iter().filter(|((owner, _), _)| owner == tenant) {
            assert_eq!(stored.get(id), Some(seq), "{owner}/{id} was acknowledged at {seq}");
        }
    }

    async fn check_heads(&self, service: &Service, tenant: &str) {
        let checkpoint = service.get(&format!("/v1/tenants/{tenant}/audit/checkpoint")).await.1;
        let newest = StreamHead::parse(&format!("{}\n", checkpoint.split_once("\n\n").unwrap().0)).unwrap();
        let mut heads: Vec<&StreamHead> = self.heads.iter().filter(|head| head.origin == newest.origin).collect();
        heads.sort_by_key(|head| head.size);
        heads.dedup_by(|a, b| a == b);
        assert!(heads.windows(2).all(|pair| pair[0].size < pair[1].size), "{tenant}: two heads of one size");
        let step = heads.len().div_ceil(12).max(1);
        for head in heads.into_iter().rev().step_by(step) {
            let proof =
                service.get(&format!("/v1/tenants/{tenant}/audit/proof/consistency?from={}", head.size)).await.1;
            let proof: Value = serde_json::from_str(&proof).unwrap();
            let hashes = proof["hashes"].as_array().unwrap().iter();
            let hashes: Vec<Hash> = hashes.map(|hash| Hash::from_base64(hash.as_str().unwrap()).unwrap()).collect();
            assert!(check_consistency(head.size, newest.size, &hashes, &head.root, &newest.root), "{tenant}: {head:?}");
        }
    }
}

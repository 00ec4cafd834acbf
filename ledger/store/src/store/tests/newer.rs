//! What a later version wrote is called newer, and never damaged: by whoever opens the store and by who checks it.

use super::*;
use crate::ErrorKind;
use ledger::note;

const COMMIT: &str = "objects/tenant=acme/stream=audit/_ledger/commits/00000000000000000000";

/// A store with one sealed stream, closed.
async fn sealed(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = Limits { log_file_bytes: 2_000, log_files: 1, ..bed.limits };
    let store = bed.open().await;
    for round in 0..40 {
        append_ids(&store, "acme", 3 * round..3 * round + 3).await;
    }
    store.seal_all().await.unwrap();
    log_life::wait_for(|| bed.at("objects/_store/log/head").exists()).await;
    append_ids(&store, "acme", 500..503).await;
    store.close().await;
    bed
}

/// Changes an object's text; a note is signed anew.
fn rewrite(bed: &Bed, object: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(bed.at(object)).unwrap();
    assert!(text.contains(from), "{text}");
    let written = match text.split_once("\n\n") {
        Some((body, _)) => {
            let body = format!("{body}\n").replacen(from, to, 1);
            let origin = body.lines().find_map(|line| line.strip_prefix("origin ")).unwrap().to_string();
            note::sign(&body, &origin, &[&key()])
        }
        None => text.replacen(from, to, 1),
    };
    std::fs::write(bed.at(object), written).unwrap();
}

async fn is_newer(bed: &Bed, object: &str) {
    let refused = bed.refusal().await;
    assert!(refused.is_newer() && refused.kind() == ErrorKind::Unavailable, "{object}: {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_object_is_named_and_not_called_damaged() {
    let bed = sealed(31).await;
    let heads = std::fs::read_dir(bed.at("objects/_store/log/head")).unwrap();
    let newest = heads.map(|head| head.unwrap().file_name().into_string().unwrap()).max().unwrap();
    let head = format!("objects/_store/log/head/{newest}");
    for (object, from, to) in [
        ("objects/_store/log/format", "piperoll-store/v1", "piperoll-store/v2"),
        ("objects/_store/log/format", "\norigin", "\nregion eu\norigin"),
        ("objects/_store/log/key/00000000000000000001", "piperoll-log-key/v1", "piperoll-log-key/v2"),
        ("objects/_store/log/owner/00000000000000000001", "piperoll-owner/v1", "piperoll-owner/v3"),
        (&head, "piperoll-log/v1", "piperoll-log/v2"),
        (&head, "\nhead ", "\nwitness w\nhead "),
        (COMMIT, "piperoll-commit/v1", "piperoll-commit/v2"),
        (COMMIT, "\nhead ", "\nfrontier x\nhead "),
    ] {
        let copy = bed.copy();
        rewrite(&copy, object, from, to);
        let report = copy.fsck().await;
        assert!(!report.is_sound() && report.is_newer(), "{object}: {:?}", report.findings().collect::<Vec<_>>());
        assert!(report.findings().any(|finding| object.ends_with(&finding.object)), "{object}");
        is_newer(&copy, object).await;
        // A version that never was is no newer one.
        let copy = bed.copy();
        rewrite(&copy, object, from, "piperoll-commit/v0");
        let refused = copy.refusal().await;
        assert!(!refused.is_newer(), "{object}: {refused:?}");
        assert!(!copy.fsck().await.is_newer(), "{object}");
    }
    assert!(bed.fsck().await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_record_of_a_later_form_and_an_unknown_frame_are_newer() {
    let bed = sealed(32).await;
    let copy = bed.copy();
    let second = copy.at("objects/_store/log/key/00000000000000000002");
    std::fs::write(second, note::sign("piperoll-log-key/v2\n", "example/_main/log/0", &[&key()])).unwrap();
    is_newer(&copy, "key 2").await;
    assert!(copy.fsck().await.is_newer());
    let copy = bed.copy();
    let file = copy.log_files().into_iter().find(|file| std::fs::metadata(file).unwrap().len() > 0).unwrap();
    let before = std::fs::read(&file).unwrap();
    let body = [9u8, 1, 2, 3];
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(crc32c::crc32c(&body).to_le_bytes());
    frame.extend(body);
    std::fs::write(&file, [before, frame].concat()).unwrap();
    is_newer(&copy, "frame").await;
}

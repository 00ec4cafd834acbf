//! Retention against a plain model: policies, holds, redactions, purges, kills and appends, drawn by chance.
//!
//! The model is a list of entries and three rules that are written down a second time here. After each step what is seen is
//! what the model says; nothing held or kept is ever gone; after a run nothing due is left that was sealed; and proofs hold.
//! `PIPEROLL_RETENTION_STEPS=10000` makes it longer, `PIPEROLL_RETENTION_SEED` another one. Not here: faults of single
//! calls (`ledger_store`).

mod bed;
mod model;

use bed::Bed;
use ledger::proof;
use ledger::tile::TILE_HASHES;
use ledger_store::ErrorKind;
use model::{Model, Stream};

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|given| given.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_model_and_the_ledger_agree() {
    let (steps, seed) = (number("PIPEROLL_RETENTION_STEPS", 300), number("PIPEROLL_RETENTION_SEED", 1));
    let mut bed = Bed::new(seed).await;
    let mut model = Model::default();
    for step in 0..steps {
        let stream = step_of(&mut bed, &mut model).await;
        agrees(&bed, &model, stream, step).await;
    }
    for stream in Stream::ALL {
        agrees(&bed, &model, stream, steps).await;
    }
    let report = bed.fsck().await;
    assert!(report.is_sound(), "{:?}", report.findings().collect::<Vec<_>>());
    let lacking: u64 = Stream::ALL.into_iter().map(|stream| model.redacted(stream)).sum();
    assert_eq!(report.redacted(), lacking);
    eprintln!("{steps} steps of seed {seed}: {}", model.tally());
}

/// One step, and the stream that is looked at after it.
async fn step_of(bed: &mut Bed, model: &mut Model) -> Stream {
    let stream = Stream::ALL[bed.below(Stream::ALL.len() as u64) as usize];
    match bed.below(100) {
        0..35 => bed.append(model, stream).await,
        35..47 => {
            let hours = 1 + bed.below(60);
            bed.pass(hours);
        }
        47..57 => bed.seal(model).await,
        57..63 => bed.change_policy(model).await,
        63..69 => bed.change_hold(model).await,
        69..79 => bed.purge(model).await,
        79..91 => bed.redact(model, stream).await,
        91..96 => bed.store().upkeep().await.unwrap(),
        _ => bed.kill(model).await,
    }
    stream
}

/// All that must hold of a stream.
async fn agrees(bed: &Bed, model: &Model, stream: Stream, step: u64) {
    let Ok(reader) = bed.store().reader(&stream.tenant(), stream.kind()) else {
        assert_eq!(model.seen(stream).len(), 0, "step {step}");
        return;
    };
    let mut found = Vec::new();
    let read = reader.entries::<ledger_store::StoreError>(0, |seq, draft| {
        // What was taken is certified in the stream itself, by entries that the service makes.
        if !draft.event_id().starts_with("purge-") {
            found.push(model::Seen::of(seq, draft));
        }
        Ok(())
    });
    read.await.unwrap();
    assert_eq!(found, model.seen(stream), "step {step}, {stream:?}");
    let head = reader.snapshot().await.unwrap().head;
    for entry in model.some_entries(stream, step) {
        match reader.inclusion(entry.seq, None).await {
            Ok(proof) => {
                assert!(proof::check_inclusion(entry.seq, head.size, &proof.path, &proof.leaf, &head.root));
                assert!(entry.gone || proof.redacted == entry.erased, "step {step}: {entry:?}");
            }
            Err(error) => assert!(error.kind() == ErrorKind::Gone && entry.gone, "step {step}: {entry:?} {error:?}"),
        }
    }
    let multiple = (step * 7_919 % (head.size / TILE_HASHES + 1)) * TILE_HASHES;
    for from in model.some_heads(stream, step).into_iter().chain([multiple]) {
        let proof = reader.consistency(from, None).await.unwrap();
        assert!(proof::check_consistency(from, head.size, &proof.path, &proof.from_root, &head.root), "{from}");
    }
}

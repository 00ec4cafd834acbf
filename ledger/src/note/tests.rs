//! Notes: round trips, the malformed ones of the fact sheet, rotation, and two foreign implementations.

use super::*;
use proptest::prelude::*;
use signed_note::{StandardVerifier, VerifierList};

pub(crate) fn hex32(hex: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

const TEXT: &str = "audit.example/t/acme\n13\nqO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=\n";
const NAME: &str = "audit.example/t/acme";

pub(crate) fn log_key() -> LedgerKey {
    LedgerKey::from_secret(&hex32("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
}

#[test]
fn the_fact_sheets_signature_and_witness() {
    let note = sign(TEXT, NAME, &[&log_key()]);
    let line = "\u{2014} audit.example/t/acme JM0MIh8LdYZYO3DS28wWPtJM3/0M+W0hXRSzCjJajT2CVbWfJxQUVkZHHQ9I3Qzj2bgxRJdyVdZN+akSqDv+A6xKcg4=\n";
    assert_eq!(note, format!("{TEXT}\n{line}"));
    let witness = "\u{2014} witness.example/w1 BNLYMwAAAABqsTuAz3FV0SHVWSI7s/l5H3iRxwNesHIsWUez03L+Wdd/fS0xDcDT8MgaWXPySJi/3r39ieNyp6kHZOsMnymwt+C0Ag==\n";
    let keys = [
        log_key().verifier(NAME),
        "witness.example/w1+04d2d833+BD1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM".parse().unwrap(),
    ];
    let verified = Note::parse(format!("{note}{witness}").as_bytes()).unwrap().verify(&keys).unwrap();
    assert_eq!((verified.text(), verified.signers()), (TEXT, &keys[..]));
}

#[test]
fn malformed_notes_are_refused() {
    let good = sign(TEXT, NAME, &[&log_key()]);
    let signature = good.lines().last().unwrap().to_string();
    let malformed: Vec<Vec<u8>> = vec![
        good.replace('\n', "\r\n").into_bytes(),
        good.replace("13", "1\t3").into_bytes(),
        good.replacen("\n\n", "\n\n\n", 1).into_bytes(),
        good.trim_end_matches('\n').as_bytes().to_vec(),
        good.replace('\u{2014}', "-").into_bytes(),
        good.replacen("\n\n", "\n", 1).into_bytes(),
        format!("{TEXT}\n").into_bytes(),
        format!("\n\n{signature}\n").into_bytes(),
        format!("{TEXT}\n{signature} x\n").into_bytes(),
        format!("{TEXT}\n\u{2014} {NAME} AAAA\n").into_bytes(),
        format!("{TEXT}\n\u{2014}  {NAME} JM0MIh8L\n").into_bytes(),
        [good.as_bytes(), b"\xff\n"].concat(),
        vec![b'a'; NOTE_BYTES + 1],
        vec![],
    ];
    for bytes in malformed {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        assert!(matches!(Note::parse(&bytes), Err(NoteError::Malformed(_))), "{shown}");
    }
}

#[test]
fn signatures_that_do_not_hold_are_refused() {
    let trusted = [log_key().verifier(NAME)];
    let good = sign(TEXT, NAME, &[&log_key()]);
    let verify = |note: &str| Note::parse(note.as_bytes()).unwrap().verify(&trusted);
    assert!(matches!(verify(&good.replacen("13", "14", 1)), Err(NoteError::BadSignature(_))));
    // The right key id under another name is somebody else's line.
    assert_eq!(
        verify(&good.replace("\u{2014} audit.example/t/acme", "\u{2014} audit.example/t/acmf")),
        Err(NoteError::Unknown)
    );
    let bad_line = good.lines().last().unwrap().replace("JM0MIh8L", "JM0MIh8M");
    assert!(matches!(verify(&format!("{good}{bad_line}\n")), Err(NoteError::BadSignature(_))));
    let stranger = LedgerKey::from_secret(&[9; 32]);
    assert_eq!(verify(&sign(TEXT, NAME, &[&stranger])), Err(NoteError::Unknown));
    assert_eq!(verify(&sign(TEXT, NAME, &[&stranger, &log_key()])).unwrap().signers(), &trusted);
}

#[test]
fn while_keys_rotate_one_head_is_signed_by_both() {
    let next = LedgerKey::from_secret(&[9; 32]);
    let note = sign(TEXT, NAME, &[&log_key(), &next, &log_key()]);
    let parsed = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(parsed.signatures().len(), 2, "a key signs once");
    for trusted in [log_key().verifier(NAME), next.verifier(NAME)] {
        assert!(parsed.clone().verify(&[trusted]).is_ok());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Note::parse(&bytes);
    }

    #[test]
    fn one_flipped_bit_never_verifies(position in 0usize..200, bit in 0u8..8) {
        let mut note = sign(TEXT, NAME, &[&log_key()]).into_bytes();
        let position = position % note.len();
        note[position] ^= 1 << bit;
        let verified = Note::parse(&note).and_then(|note| note.verify(&[log_key().verifier(NAME)]));
        prop_assert!(verified.is_err());
    }

    #[test]
    fn a_second_implementation_accepts_what_we_sign(size in any::<u64>(), seed in any::<[u8; 32]>()) {
        let key = LedgerKey::from_secret(&seed);
        let text = format!("{NAME}\n{size}\nqO9IRMjh1bpJyBHNuG6VeR9dMsp9lwmv2ij99l6UmlM=\n");
        let theirs = StandardVerifier::new(&key.verifier(NAME).to_string()).unwrap();
        let note = signed_note::Note::from_bytes(sign(&text, NAME, &[&key]).as_bytes()).unwrap();
        let (valid, unknown) = note.verify(&VerifierList::new(vec![Box::new(theirs)])).unwrap();
        prop_assert_eq!((valid.len(), unknown.len()), (1, 0));
    }
}

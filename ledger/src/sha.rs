//! SHA-256 of short input that is at hand in pieces: padded on the stack and compressed in one go.
//!
//! An event costs about ten such hashes, most of one or two blocks; a streaming hasher's buffer would cost as much as
//! they do. Not here: what is hashed ([`crate::leaf`], [`crate::tree`]); long input, which streams.
//!
//! Invariant: every function here is SHA-256 of FIPS 180-4, whatever way it takes.

use crate::tree::Hash;
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// The initial hash value (FIPS 180-4 §5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BLOCK: usize = 64;
/// Bytes that padding takes at least: a one bit and the length.
const PADDING: usize = 9;
/// Blocks that are padded on the stack: most leaves have fewer, and zeroing them costs little.
const SHORT: usize = 16;

/// SHA-256 of pieces, one after the other.
pub(crate) fn sha256(pieces: &[&[u8]]) -> Hash {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    match length + PADDING {
        0..=64 => short::<1>(pieces, length),
        65..=128 => short::<2>(pieces, length),
        129..=256 => short::<4>(pieces, length),
        257..=1_024 => short::<SHORT>(pieces, length),
        _ => {
            let mut hasher = Sha256::new();
            pieces.iter().for_each(|piece| hasher.update(piece));
            Hash(hasher.finalize().into())
        }
    }
}

/// For input that fits into `BLOCKS` blocks together with its padding.
fn short<const BLOCKS: usize>(pieces: &[&[u8]], length: usize) -> Hash {
    let mut blocks = [[0u8; BLOCK]; BLOCKS];
    let used = (length + PADDING).div_ceil(BLOCK);
    let bytes = blocks.as_flattened_mut();
    let mut at = 0;
    for piece in pieces {
        bytes[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    bytes[at] = 0x80;
    bytes[used * BLOCK - 8..used * BLOCK].copy_from_slice(&(8 * length as u64).to_be_bytes());
    let mut state = INITIAL;
    compress256(&mut state, &blocks[..used]);
    let mut hash = [0u8; 32];
    for (out, word) in hash.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    Hash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_around_the_bounds_of_blocks_agrees_with_the_streaming_hash() {
        let bytes: Vec<u8> = (0..1_200u32).map(|n| (n * 7 % 251) as u8).collect();
        for length in 0..bytes.len() {
            assert_eq!(sha256(&[&bytes[..length]]).0, <[u8; 32]>::from(Sha256::digest(&bytes[..length])), "{length}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_hashed_as_one(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6)) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(sha256(&slices).0, <[u8; 32]>::from(Sha256::digest(pieces.concat())));
        }
    }
}

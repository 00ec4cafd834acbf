//! C2SP tlog-tiles: coordinates, paths, and which hash of a tile covers what.
//!
//! Not here: reading or writing tiles (`ledger-store`). A tile holds 256 hashes of 32 bytes; hash `i` of
//! tile `n` at level `l` covers leaves `[(256n + i)·256^l, + 256^l)`. Partial tiles never feed the next level.

use crate::text;

/// Hashes in a full tile.
pub const TILE_HASHES: u64 = 256;
/// Tree heights between two levels of tiles.
pub const TILE_HEIGHT: u32 = 8;

/// What is asked for under `tile/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Hashes of a level.
    Hashes(u8),
    /// Leaf data, each after its length as `u16`.
    Entries,
}

/// One tile, full or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Which kind and level.
    pub kind: TileKind,
    /// Which tile of its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The C2SP path: `tile/<level>/<index in groups of three digits>[.p/<width>]`.
    pub fn path(&self) -> String {
        let level = match self.kind {
            TileKind::Hashes(level) => level.to_string(),
            TileKind::Entries => "entries".into(),
        };
        let mut groups = vec![format!("{:03}", self.index % 1_000)];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1_000));
            rest /= 1_000;
        }
        groups.reverse();
        let index = groups.join("/");
        if u64::from(self.width) == TILE_HASHES {
            format!("tile/{level}/{index}")
        } else {
            format!("tile/{level}/{index}.p/{}", self.width)
        }
    }

    /// Parses what [`Tile::path`] writes, and nothing else.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, index) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match level {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(text::decimal(level).filter(|level| *level < 64)? as u8),
        };
        let (index, width) = match index.split_once(".p/") {
            Some((index, width)) => {
                (index, text::decimal(width).filter(|width| (1..TILE_HASHES).contains(width))? as u16)
            }
            None => (index, TILE_HASHES as u16),
        };
        let mut number = 0u64;
        for group in index.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            number = number.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { kind, index: number, width };
        (tile.path() == path).then_some(tile)
    }

    /// The range of hashes of its level (or of entries) that it holds.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = self.index.saturating_mul(TILE_HASHES);
        start..start.saturating_add(u64::from(self.width))
    }

    /// Whether a tree of `size` leaves has all that the tile holds.
    pub fn is_within(&self, size: u64) -> bool {
        let level = match self.kind {
            TileKind::Hashes(level) => u32::from(level),
            TileKind::Entries => 0,
        };
        self.range().end <= size.checked_shr(TILE_HEIGHT * level).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip_and_have_one_spelling() {
        for (tile, path) in [
            (Tile { kind: TileKind::Hashes(0), index: 0, width: 256 }, "tile/0/000"),
            (Tile { kind: TileKind::Hashes(1), index: 1_234_067, width: 256 }, "tile/1/x001/x234/067"),
            (Tile { kind: TileKind::Entries, index: 5, width: 17 }, "tile/entries/005.p/17"),
        ] {
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse(path), Some(tile));
        }
        for bad in [
            "tile/0/0",
            "tile/00/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/x001",
            "tile/0/000/",
            "0/000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_second_implementation_names_tiles_the_same() {
        for tree_size in [1u64, 255, 256, 257, 70_000, 16_777_217] {
            for tile in tlog_tiles::Tile::new_tiles(8, 0, tree_size) {
                let ours = Tile {
                    kind: TileKind::Hashes(tile.level()),
                    index: tile.level_index(),
                    width: tile.width() as u16,
                };
                // The Go module's paths name the tile height after `tile/`; C2SP's do not.
                assert_eq!(tile.path().replacen("tile/8/", "tile/", 1), ours.path());
                assert!(ours.is_within(tree_size));
            }
        }
    }
}

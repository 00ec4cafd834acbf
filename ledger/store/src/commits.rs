//! A stream's commits as they are stored: each in an object of its own, or with its neighbours in a pack.
//!
//! Not here: what they say and whether it holds (`ledger::verify`), packing ([`crate::pack`]).
//!
//! Invariant: a commit is given only under the number that its object or its pack claims for it; whether it has
//! that number its own bytes tell.

use crate::error::StoreError;
use crate::layout::{self, StreamPrefix};
use crate::limits::CONCURRENT_OBJECTS;
use crate::segment;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which commits of a stream are stored, from some number on.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Those that have an object of their own, ascending.
    pub loose: Vec<u64>,
    /// First and last of each pack, ascending.
    pub packs: Vec<(u64, u64)>,
    from: u64,
}

impl Stored {
    /// Lists the commits from number `from` on, with one request.
    ///
    /// # Errors
    /// The listing failed.
    pub(crate) async fn list(
        objects: &Arc<dyn ObjectStore>,
        prefix: &StreamPrefix,
        from: u64,
    ) -> Result<Self, StoreError> {
        let folder = prefix.commits();
        let listing = match from.checked_sub(1) {
            Some(before) => objects.list_with_offset(Some(&folder), &prefix.commit(before)),
            None => objects.list(Some(&folder)),
        };
        let listed: Vec<_> = listing.try_collect().await.map_err(StoreError::objects(&folder))?;
        let mut stored = Self { from, ..Self::default() };
        for meta in listed {
            let path = &meta.location;
            match layout::number_of(path).filter(|number| prefix.commit(*number) == *path) {
                Some(number) if number >= from => stored.loose.push(number),
                Some(_) => {}
                None => {
                    let range = layout::pack_range(path).filter(|(first, last)| prefix.pack(*first, *last) == *path);
                    stored.packs.extend(range.filter(|(first, last)| first <= last && *last >= from));
                }
            }
        }
        stored.loose.sort_unstable();
        stored.packs.sort_unstable();
        Ok(stored)
    }

    /// One past the highest number.
    pub(crate) fn end(&self) -> u64 {
        let packed = self.packs.iter().map(|(_, last)| last.saturating_add(1)).max();
        let loose = self.loose.last().map(|last| last.saturating_add(1));
        packed.max(loose).unwrap_or(self.from)
    }

    /// The pack that holds a commit.
    pub(crate) fn pack_of(&self, number: u64) -> Option<(u64, u64)> {
        let at = self.packs.partition_point(|(first, _)| *first <= number).checked_sub(1)?;
        Some(self.packs[at]).filter(|(_, last)| number <= *last)
    }

    fn is_loose(&self, number: u64) -> bool {
        self.loose.binary_search(&number).is_ok()
    }
}

/// Commits read one after the other, each object once, several ahead.
pub(crate) struct Reader<'s> {
    objects: &'s Arc<dyn ObjectStore>,
    prefix: &'s StreamPrefix,
    stored: &'s Stored,
    /// Packs that were made after the listing.
    packed_since: Vec<(u64, u64)>,
    ahead: BTreeMap<u64, Bytes>,
}

impl<'s> Reader<'s> {
    /// A reader that has read nothing.
    pub(crate) fn new(objects: &'s Arc<dyn ObjectStore>, prefix: &'s StreamPrefix, stored: &'s Stored) -> Self {
        Self { objects, prefix, stored, packed_since: vec![], ahead: BTreeMap::new() }
    }

    /// The object in which a commit is looked for.
    pub(crate) fn place(&self, number: u64) -> Path {
        match self.pack_of(number) {
            Some((first, last)) => self.prefix.pack(first, last),
            None => self.prefix.commit(number),
        }
    }

    /// The bytes of a commit. Numbers are to be asked for in ascending order.
    ///
    /// # Errors
    /// The object cannot be read, is no pack, or not the one that its name says.
    pub(crate) async fn read(&mut self, number: u64) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.ahead.remove(&number) {
            return Ok(bytes);
        }
        self.ahead.clear();
        match self.pack_of(number) {
            Some(pack) => self.read_packed(pack, number).await?,
            None => match self.read_loose(number).await {
                Err(lost @ StoreError::Objects { source: object_store::Error::NotFound { .. }, .. }) => {
                    // A service at work packs commits: first the pack is there, then the object is gone.
                    let packed = Stored::list(self.objects, self.prefix, number).await?.pack_of(number);
                    let Some(pack) = packed else { return Err(lost) };
                    self.packed_since.push(pack);
                    self.read_packed(pack, number).await?;
                }
                read => read?,
            },
        }
        let path = self.place(number);
        self.ahead
            .remove(&number)
            .ok_or_else(|| StoreError::Damaged { path: path.to_string(), why: "it lacks a commit" })
    }

    fn pack_of(&self, number: u64) -> Option<(u64, u64)> {
        let since = || self.packed_since.iter().copied().find(|(first, last)| (*first..=*last).contains(&number));
        self.stored.pack_of(number).or_else(since)
    }

    async fn read_packed(&mut self, (first, last): (u64, u64), from: u64) -> Result<(), StoreError> {
        let packed = read_pack(self.objects, self.prefix, first, last).await?;
        self.ahead.extend((first..).zip(packed).filter(|(at, _)| *at >= from));
        Ok(())
    }

    async fn read_loose(&mut self, number: u64) -> Result<(), StoreError> {
        let more = (number..self.stored.end()).take(4 * CONCURRENT_OBJECTS);
        let wanted: Vec<u64> = more.take_while(|at| *at == number || self.stored.is_loose(*at)).collect();
        let (objects, prefix) = (self.objects, self.prefix);
        let one = |at: u64| async move { (at, segment::fetch(objects, &prefix.commit(at)).await) };
        let mut read = futures::stream::iter(wanted).map(one).buffered(CONCURRENT_OBJECTS);
        while let Some((at, bytes)) = read.next().await {
            match bytes {
                Ok(bytes) => drop(self.ahead.insert(at, bytes)),
                Err(error) if at == number => return Err(error),
                // It is asked for again in its turn, and then the error counts.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// The commits of a pack.
///
/// # Errors
/// It cannot be read, or does not hold the commits that its name says.
pub(crate) async fn read_pack(
    objects: &Arc<dyn ObjectStore>,
    prefix: &StreamPrefix,
    first: u64,
    last: u64,
) -> Result<Vec<Bytes>, StoreError> {
    let path = prefix.pack(first, last);
    let bytes = segment::fetch(objects, &path).await?;
    let (named, commits) =
        ledger::pack::unpack(&bytes).map_err(|source| StoreError::Pack { path: path.to_string(), source })?;
    if named != first || commits.len() as u64 != last - first + 1 {
        let why = "it holds other commits than its name says";
        return Err(StoreError::Damaged { path: path.to_string(), why });
    }
    Ok(commits.into_iter().map(|commit| bytes.slice_ref(commit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::name::StreamKind;
    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};

    #[tokio::test]
    async fn a_commit_that_is_packed_while_it_is_read_is_found_there() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let prefix = StreamPrefix::new(&"acme".parse().unwrap(), StreamKind::Audit);
        let commits: Vec<Vec<u8>> = (0..4u8).map(|n| format!("commit {n}\n").into_bytes()).collect();
        for (number, commit) in (0..).zip(&commits) {
            objects.put(&prefix.commit(number), commit.clone().into()).await.unwrap();
        }
        let stored = Stored::list(&objects, &prefix, 0).await.unwrap();
        let mut reader = Reader::new(&objects, &prefix, &stored);
        let slices: Vec<&[u8]> = commits.iter().map(Vec::as_slice).collect();
        objects.put(&prefix.pack(0, 2), ledger::pack::pack(0, &slices[..3]).into()).await.unwrap();
        for number in 0..3 {
            objects.delete(&prefix.commit(number)).await.unwrap();
        }
        for (number, commit) in (0..).zip(&commits) {
            assert_eq!(reader.read(number).await.unwrap(), commit, "commit {number}");
        }
        assert_eq!((reader.place(1), reader.place(3)), (prefix.pack(0, 2), prefix.commit(3)));
        // One that is nowhere is lost.
        objects.delete(&prefix.commit(3)).await.unwrap();
        assert!(Reader::new(&objects, &prefix, &stored).read(3).await.is_err());
    }
}

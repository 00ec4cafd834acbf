//! Where evidence bundles lie while they are made and until they were fetched: a folder of the tenant, in the tenant's own
//! store, under the tenant's key where it has one.
//!
//! Not here: what bundles hold (`query`), when they have lain long enough. Invariants: an object is created once; a handle
//! to one tenant's stream reaches that tenant's bundles and no other's; what is erased from a stream takes the
//! tenant's bundles with it, since they may hold it, and so does the destruction of its keys.

use crate::error::StoreError;
use crate::handle::StreamHandle;
use crate::layout;
use crate::objects::create;
use crate::segment;
use crate::store::Shared;
use crate::upkeep;
use bytes::Bytes;
use futures::TryStreamExt as _;
use ledger::bundle::Manifest;
use ledger::name::TenantId;
use object_store::ObjectStore as _;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The bundles of one tenant.
#[derive(Clone)]
pub struct Bundles {
    shared: Arc<Shared>,
    tenant: TenantId,
}

impl StreamHandle {
    /// The bundles of the stream's tenant.
    pub fn bundles(&self) -> Bundles {
        Bundles { shared: Arc::clone(&self.shared), tenant: self.stream.tenant.clone() }
    }
}

/// Names of bundles and of their objects: letters, digits and hyphens.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Bundles {
    /// The bundles that there are, by name.
    ///
    /// # Errors
    /// The object store cannot be listed.
    pub async fn ids(&self) -> Result<BTreeSet<String>, StoreError> {
        let listed = listed(&self.shared, &layout::bundles(&self.tenant)).await?;
        let id = |(path, _): &(Path, u64)| layout::in_bundles(&self.tenant, path).map(|(id, _)| id.to_string());
        Ok(listed.iter().filter_map(id).collect())
    }

    /// Every object of the tenant's bundles, by path below the store, with its bytes.
    ///
    /// # Errors
    /// The object store cannot be listed.
    pub async fn paths(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let listed = listed(&self.shared, &layout::bundles(&self.tenant)).await?;
        Ok(listed.into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect())
    }

    /// The objects of one bundle, by name, with their bytes.
    ///
    /// # Errors
    /// The object store cannot be listed.
    pub async fn objects(&self, id: &str) -> Result<BTreeMap<String, u64>, StoreError> {
        let listed = listed(&self.shared, &self.path(id, None)?).await?;
        let named = |(path, bytes): &(Path, u64)| Some((path.filename()?.to_string(), *bytes));
        Ok(listed.iter().filter_map(named).collect())
    }

    /// Creates an object of a bundle; one that is there stays as it is.
    ///
    /// # Errors
    /// The tenant's key is not at hand, or the object store failed.
    pub async fn put(&self, id: &str, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(id, Some(name))?;
        let sealed = self.shared.content.keys.seal_bundle(&self.tenant, &path, bytes, &*self.shared.ambient)?;
        match create(&self.shared.objects, &path, sealed.into()).await {
            Err(StoreError::Objects { source: object_store::Error::AlreadyExists { .. }, .. }) => Ok(()),
            put => put,
        }
    }

    /// An object of a bundle; none when it is not there.
    ///
    /// # Errors
    /// The tenant's key is not at hand, or the object store failed.
    pub async fn get(&self, id: &str, name: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(id, Some(name))?;
        let Some(bytes) = segment::fetch_if_there(&self.shared.objects, &path).await? else { return Ok(None) };
        self.shared.content.keys.open_bundle(&self.tenant, &path, bytes).map(Some)
    }

    /// Deletes a bundle.
    ///
    /// # Errors
    /// The object store failed; what is left is deleted the next time.
    pub async fn remove(&self, id: &str) -> Result<(), StoreError> {
        let objects = self.objects(id).await?;
        let paths: Result<Vec<Path>, _> = objects.keys().map(|name| self.path(id, Some(name))).collect();
        upkeep::delete(&self.shared, paths?).await
    }

    /// A name for a new bundle: 32 hexadecimal digits.
    pub fn new_id(&self) -> String {
        let mut random = [0; 16];
        self.shared.ambient.fill_random(&mut random);
        format!("{:032x}", u128::from_be_bytes(random))
    }

    /// The time, in microseconds.
    pub fn now(&self) -> i64 {
        self.shared.ambient.now_micros()
    }

    /// Signs what a bundle says of itself.
    pub fn sign(&self, manifest: &Manifest) -> String {
        manifest.sign(&self.shared.signing.now().all())
    }

    fn path(&self, id: &str, name: Option<&str>) -> Result<Path, StoreError> {
        if !is_name(id) || name.is_some_and(|name| !is_name(name)) {
            return Err(StoreError::NotFound("there is no such bundle"));
        }
        let folder = layout::bundles(&self.tenant).join(id);
        Ok(name.map_or(folder.clone(), |name| folder.join(name)))
    }
}

/// Deletes all bundles of a tenant: something is erased that they may hold.
///
/// # Errors
/// The object store failed; what is left is deleted when it is tried again.
pub(crate) async fn forget(shared: &Shared, tenant: &TenantId) -> Result<(), StoreError> {
    let listed = listed(shared, &layout::bundles(tenant)).await?;
    if listed.is_empty() {
        return Ok(());
    }
    upkeep::delete(shared, listed.into_iter().map(|(path, _)| path).collect()).await
}

/// The objects below a folder, with their bytes, ascending.
async fn listed(shared: &Shared, folder: &Path) -> Result<Vec<(Path, u64)>, StoreError> {
    let objects = shared.objects.list(Some(folder)).map_ok(|meta| (meta.location, meta.size));
    let mut all: Vec<_> = objects.try_collect().await.map_err(StoreError::objects(folder))?;
    all.sort();
    Ok(all)
}

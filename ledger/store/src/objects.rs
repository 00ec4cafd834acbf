//! The object store on a local disk, made durable: a put returns when file and folder are on stable storage.
//!
//! `object_store`'s own local backend writes without fsync, so a created object could be there and empty
//! after a power cut. Here the bytes are synced *before* they get their name, and the folder after.
//! Everything that only reads is delegated. Not here: other backends, retries.
//!
//! Invariant: an object that can be listed is whole; one that a put confirmed survives a power cut.

use crate::error::StoreError;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A local folder as an object store whose puts are durable.
#[derive(Debug)]
pub struct DurableFolder {
    inner: LocalFileSystem,
    root: PathBuf,
    staged: Arc<AtomicU64>,
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("durable local folder")
    }
}

fn failed(path: &FilePath, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::AlreadyExists { path: path.to_string_lossy().into(), source: source.into() }
        }
        std::io::ErrorKind::NotFound => Error::NotFound { path: path.to_string_lossy().into(), source: source.into() },
        _ => Error::Generic { store: "durable local folder", source: source.into() },
    }
}

impl DurableFolder {
    /// Opens a folder, and creates it when it is not there.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub fn open(root: &FilePath) -> std::result::Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(StoreError::file(root))?;
        let root = root.canonicalize().map_err(StoreError::file(root))?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(StoreError::objects(&Path::default()))?;
        Ok(Self { inner, root, staged: Arc::default() })
    }

    /// Creates the folders of `file` and syncs each folder whose entries changed.
    fn make_folders(root: &FilePath, folder: &FilePath) -> std::io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let mut at = folder;
        while at != root {
            let Some(parent) = at.parent() else { break };
            File::open(parent)?.sync_all()?;
            at = parent;
        }
        Ok(())
    }

    fn put_whole(
        root: &FilePath,
        file: &FilePath,
        staged: &FilePath,
        bytes: &PutPayload,
        mode: &PutMode,
    ) -> Result<()> {
        let folder = file.parent().unwrap_or(root);
        let put = || -> std::io::Result<()> {
            Self::make_folders(root, folder)?;
            let mut out = File::create(staged)?;
            for piece in bytes {
                out.write_all(piece)?;
            }
            out.sync_all()?;
            // A crash up to here leaves a staged file that no listing shows.
            match mode {
                PutMode::Create => fs::hard_link(staged, file)?,
                _ => fs::rename(staged, file)?,
            }
            // A crash up to here may lose the name, never show half an object.
            File::open(folder)?.sync_all()
        };
        let done = put();
        if staged.exists() {
            let _ = fs::remove_file(staged);
        }
        done.map_err(|e| failed(file, e))
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return Err(Error::NotImplemented {
                operation: "conditional update".into(),
                implementer: self.to_string(),
            });
        }
        let file = self.inner.path_to_filesystem(location)?;
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        // The local backend hides names that end in # and digits.
        let staged = PathBuf::from(format!("{}#{}{number}", file.display(), std::process::id()));
        let root = self.root.clone();
        let work = move || Self::put_whole(&root, &file, &staged, &payload, &opts.mode);
        tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })??;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart upload".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn created_once_whole_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(DurableFolder::open(&folder.path().join("new")).unwrap());
        let path = Path::from("tenant=acme/stream=audit/_ledger/commits/00000000000000000000");
        let create = || async {
            store.put_opts(&path, PutPayload::from_static(b"first"), PutOptions::from(PutMode::Create)).await
        };
        let racing = futures::future::join_all((0..16).map(|_| create())).await;
        assert_eq!(racing.iter().filter(|put| put.is_ok()).count(), 1);
        assert!(racing.iter().filter_map(|put| put.as_ref().err()).all(|e| matches!(e, Error::AlreadyExists { .. })));
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
        store.put(&path, PutPayload::from_static(b"second")).await.unwrap();
        assert_eq!(store.get_range(&path, 1..3).await.unwrap(), "ec");
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1, "no staged file is left behind");
        assert_eq!(listed[0].location, path);
        store.delete(&path).await.unwrap();
        assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })));
    }
}

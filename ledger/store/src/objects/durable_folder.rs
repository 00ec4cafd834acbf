//! The object store on a local disk, made durable: a put returns when file and folder are on stable storage.
//!
//! `object_store`'s own local backend writes without fsync, so a created object could be there and empty
//! after a power cut. Here the bytes are synced *before* they get their name, and the folder after.
//! Everything that only reads is delegated. Not here: other backends, retries ([`super::steady`]).
//!
//! Invariant: an object that can be listed is whole; one that a put confirmed survives a power cut.

use crate::error::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
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

    /// A place for an object that is being written.
    fn stage(&self, location: &Path) -> Result<Staged> {
        let file = self.inner.path_to_filesystem(location)?;
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        // The local backend hides names that end in # and digits.
        let staged = PathBuf::from(format!("{}#{}{number}", file.display(), std::process::id()));
        Ok(Staged { root: self.root.clone(), file, staged })
    }
}

/// An object on its way; what is left of it when it is given up is removed.
#[derive(Debug)]
struct Staged {
    root: PathBuf,
    file: PathBuf,
    staged: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone when it was renamed; a second name of the object when it was linked.
        let _ = fs::remove_file(&self.staged);
    }
}

impl Staged {
    fn folder(&self) -> &FilePath {
        self.file.parent().unwrap_or(&self.root)
    }

    fn begin(&self) -> std::io::Result<File> {
        DurableFolder::make_folders(&self.root, self.folder())?;
        File::create(&self.staged)
    }

    /// Gives the object its name.
    fn end(&self, out: &File, mode: &PutMode) -> std::io::Result<()> {
        out.sync_all()?;
        // A crash up to here leaves a staged file that no listing shows.
        match mode {
            PutMode::Create => fs::hard_link(&self.staged, &self.file)?,
            _ => fs::rename(&self.staged, &self.file)?,
        }
        // A crash up to here may lose the name, never show half an object.
        File::open(self.folder())?.sync_all()
    }

    fn put_whole(&self, bytes: &PutPayload, mode: &PutMode) -> Result<()> {
        let put = || {
            let mut out = self.begin()?;
            bytes.iter().try_for_each(|piece| out.write_all(piece))?;
            self.end(&out, mode)
        };
        put().map_err(|error| failed(&self.file, error))
    }
}

/// Runs work that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?
}

/// An object that comes in parts; it gets its name when all of them are there, and only if nobody has it.
#[derive(Debug)]
struct Parts {
    staged: Arc<Staged>,
    out: Arc<File>,
    /// Where the next part begins.
    end: u64,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (staged, out, mut at) = (Arc::clone(&self.staged), Arc::clone(&self.out), self.end);
        self.end += data.content_length() as u64;
        let mut write = move || -> std::io::Result<()> {
            for piece in &data {
                out.write_all_at(piece, at)?;
                at += piece.len() as u64;
            }
            Ok(())
        };
        Box::pin(blocking(move || write().map_err(|error| failed(&staged.file, error))))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, out) = (Arc::clone(&self.staged), Arc::clone(&self.out));
        blocking(move || staged.end(&out, &PutMode::Create).map_err(|error| failed(&staged.file, error))).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = Arc::clone(&self.staged);
        blocking(move || fs::remove_file(&staged.staged).map_err(|error| failed(&staged.file, error))).await
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
        let staged = self.stage(location)?;
        blocking(move || staged.put_whole(&payload, &opts.mode)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let staged = Arc::new(self.stage(location)?);
        let begun = Arc::clone(&staged);
        let out = blocking(move || begun.begin().map_err(|error| failed(&begun.file, error))).await?;
        Ok(Box::new(Parts { staged, out: Arc::new(out), end: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}

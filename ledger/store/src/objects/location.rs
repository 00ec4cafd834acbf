//! Where a store is, as people write it, and opening what is there.
//!
//! A folder, or a URL: `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`. Credentials
//! are handed in as options under the names of the usual environment variables; nothing here reads the environment,
//! but Google's library looks for its own default credentials when it is given none. Not here: retries
//! ([`super::steady`]).
//!
//! Invariants: a location that exists can be shown: it holds no credential; an option's value is never shown.

use super::answers::Telling;
use super::durable_folder::DurableFolder;
use super::patience::Patience;
use super::steady::Steady;
use crate::ambient::Ambient;
use crate::error::StoreError;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A location cannot be read. The text that was given is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store's location is not understood: {0}")]
pub struct LocationError(&'static str);

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Remote { url: Url, provider: Provider, prefix: Path },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    S3,
    Google,
    Azure,
}

/// What opens remote stores: names of the usual environment variables and their values.
#[derive(Clone, Default)]
pub struct Access(Vec<(String, String)>);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Access {
    /// Access by these options, such as `AWS_ACCESS_KEY_ID`. Names that no store knows are passed over.
    pub fn new(options: Vec<(String, String)>) -> Self {
        Self(options)
    }

    fn of(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let named = self.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()));
        named.filter(move |(name, _)| name.starts_with(prefix))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Folder(folder) => folder.display().fmt(f),
            Place::Remote { url, .. } => url.fmt(f),
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(given: &str) -> Result<Self, LocationError> {
        if given.is_empty() {
            return Err(LocationError("it is empty; name a folder or a URL such as s3://bucket/prefix"));
        }
        if !given.contains("://") {
            return Ok(Self::folder(FilePath::new(given)));
        }
        let url = Url::parse(given).map_err(|_| LocationError("it is no URL such as s3://bucket/prefix"))?;
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            let why = "it holds more than a place; credentials come from the environment, see `piperoll serve --help`";
            return Err(LocationError(why));
        }
        let provider = match url.scheme() {
            "file" => {
                let folder = url.to_file_path();
                let folder = folder.map_err(|()| LocationError("a file URL has three slashes: file:///path"))?;
                return Ok(Self(Place::Folder(folder)));
            }
            "s3" | "s3a" => Provider::S3,
            "gs" => Provider::Google,
            "az" | "azure" | "abfs" | "abfss" => Provider::Azure,
            _ => return Err(LocationError("its scheme is none of file, s3, gs, az, abfs and abfss")),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(LocationError("it names no bucket or container: s3://bucket/prefix"));
        }
        // Only in `abfs` does something stand before an @, and there it is the container.
        if !url.username().is_empty() && !url.scheme().starts_with("abfs") {
            return Err(LocationError("it names a user; credentials come from the environment"));
        }
        let prefix = Path::from_url_path(url.path());
        let prefix = prefix.map_err(|_| LocationError("its prefix is malformed: an empty part, `.` or `..`"))?;
        Ok(Self(Place::Remote { url, provider, prefix }))
    }
}

impl Location {
    /// A folder of this machine.
    pub fn folder(path: &FilePath) -> Self {
        Self(Place::Folder(path.into()))
    }

    /// The folder, when it is one of this machine.
    pub fn as_folder(&self) -> Option<&FilePath> {
        match &self.0 {
            Place::Folder(folder) => Some(folder),
            Place::Remote { .. } => None,
        }
    }

    /// Opens the store that is there, behind the retry policy; a folder is made when it is not there. Nothing is
    /// asked of a remote store yet.
    ///
    /// # Errors
    /// [`StoreError::File`] for a folder, [`StoreError::Objects`] when the options do not make a whole.
    pub fn open(&self, access: &Access, ambient: Arc<dyn Ambient>) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let (url, provider, prefix) = match &self.0 {
            Place::Folder(folder) => {
                let folder = Arc::new(DurableFolder::open(folder)?);
                return Ok(Arc::new(Steady::new(folder, Patience::disk(), ambient)));
            }
            Place::Remote { url, provider, prefix } => (url, *provider, prefix),
        };
        let store =
            connect(url, provider, access).map_err(|source| StoreError::Objects { path: self.to_string(), source })?;
        let store: Arc<dyn ObjectStore> =
            if prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix.clone())) };
        Ok(Arc::new(Steady::new(store, Patience::network(), ambient)))
    }
}

/// Connects without the library's own retries and deadlines: ours are the only ones.
fn connect(url: &Url, provider: Provider, access: &Access) -> object_store::Result<Arc<dyn ObjectStore>> {
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let client = ClientOptions::new().with_timeout_disabled().with_connect_timeout(Duration::from_secs(5));
    let telling = |conflict_passes| Telling { conflict_passes };
    Ok(match provider {
        Provider::S3 => {
            let builder = AmazonS3Builder::new().with_client_options(client).with_retry(once);
            let builder =
                access.of("aws_").fold(builder, |builder, (name, value)| match name.parse::<AmazonS3ConfigKey>() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
            Arc::new(builder.with_url(url.as_str()).with_http_connector(telling(true)).build()?)
        }
        Provider::Google => {
            let builder = GoogleCloudStorageBuilder::new().with_client_options(client).with_retry(once);
            let builder =
                access.of("google_").fold(builder, |builder, (name, value)| match name.parse::<GoogleConfigKey>() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
            Arc::new(builder.with_url(url.as_str()).with_http_connector(telling(false)).build()?)
        }
        Provider::Azure => {
            let builder = MicrosoftAzureBuilder::new().with_client_options(client).with_retry(once);
            let builder =
                access.of("azure_").fold(builder, |builder, (name, value)| match name.parse::<AzureConfigKey>() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                });
            Arc::new(builder.with_url(url.as_str()).with_http_connector(telling(false)).build()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (given, shown) in [
            ("store", "store"),
            ("/var/lib/store", "/var/lib/store"),
            ("file:///var/lib/my%20store", "/var/lib/my store"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/a/b=c/", "s3://bucket/a/b=c/"),
            ("gs://bucket/prefix", "gs://bucket/prefix"),
            ("az://container/prefix", "az://container/prefix"),
            ("abfss://container@account.dfs.core.windows.net/p", "abfss://container@account.dfs.core.windows.net/p"),
        ] {
            assert_eq!(given.parse::<Location>().unwrap().to_string(), shown);
        }
        assert_eq!("file:///x".parse::<Location>().unwrap().as_folder(), Some(FilePath::new("/x")));
    }

    #[test]
    fn what_is_no_place_is_refused_and_not_repeated() {
        for given in [
            "",
            "s3:///prefix",
            "s3://",
            "http://bucket/x",
            "memory:///",
            "file://host/x",
            "s3://sesame@bucket/x",
            "s3://key:sesame@bucket/x",
            "az://container/x?sig=sesame",
            "s3://bucket/x#sesame",
            "s3://bucket//x",
        ] {
            let refused = given.parse::<Location>().unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("sesame"), "{given}: {refused}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let access = Access::new(vec![("AWS_SECRET_ACCESS_KEY".into(), "sesame".into())]);
        assert_eq!(format!("{access:?}"), r#"["AWS_SECRET_ACCESS_KEY"]"#);
        // A key without its id is named, not shown.
        let ambient: Arc<dyn Ambient> = crate::store::tests::World::new(1);
        let error = "s3://bucket".parse::<Location>().unwrap().open(&access, ambient).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("sesame"));
        let access = Access::new(vec![("GOOGLE_SERVICE_ACCOUNT_KEY".into(), "sesame".into())]);
        let ambient: Arc<dyn Ambient> = crate::store::tests::World::new(1);
        let error = "gs://bucket".parse::<Location>().unwrap().open(&access, ambient).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("sesame"), "{error:?}");
    }
}

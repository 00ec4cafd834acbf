//! Each store against the conformance suite, and the probe against stores that do not tell the truth.

mod faulty;
mod policy;
mod still;

use super::conformance::conformance;
use super::servers::Server;
use super::*;
use crate::ambient::Ambient;
use crate::store::tests::script::Script;
use crate::store::tests::{World, faulty as faults};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;

pub(super) fn world() -> Arc<dyn Ambient> {
    World::new(1)
}

#[tokio::test]
async fn memory_conforms() {
    conformance(Arc::new(InMemory::new())).await;
    conformance(Arc::new(Steady::new(Arc::new(InMemory::new()), Patience::network(), world()))).await;
}

/// With no fault in its script it is an honest store; otherwise what is told of faults would say nothing.
#[tokio::test]
async fn the_fault_injecting_store_conforms() {
    let faulty = || faults::Faulty::new(Arc::new(InMemory::new()), Arc::new(Script::new(vec![])));
    conformance(Arc::new(faulty())).await;
    conformance(Arc::new(Steady::new(Arc::new(faulty().reversed()), Patience::network(), world()))).await;
}

#[tokio::test]
async fn a_local_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance(Arc::new(DurableFolder::open(&folder.path().join("bare")).unwrap())).await;
    let location: Location = format!("file://{}/new/folder", folder.path().display()).parse().unwrap();
    conformance(location.open(&Access::default(), world()).unwrap()).await;
    let left = walk(folder.path());
    assert!(left.is_empty(), "no staged file is left behind: {left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// A server's store, at a prefix that needs care.
fn on(server: &Server, prefix: &str) -> (Location, Arc<dyn ObjectStore>) {
    let options = server.environment.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    let location: Location = format!("{}/{prefix}", server.url).parse().unwrap();
    let store = location.open(&Access::new(options), world()).unwrap();
    (location, store)
}

#[tokio::test]
async fn servers_conform() {
    for server in [Server::s3(), Server::azure()].into_iter().flatten() {
        for prefix in ["", "a/b=c"] {
            let (location, store) = on(&server, prefix);
            eprintln!("{location}");
            probe(&store, &location, world().as_ref()).await.unwrap();
            conformance(store).await;
        }
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_named_without_credentials() {
    for server in [Server::s3(), Server::azure()].into_iter().flatten() {
        let mut options: Vec<(String, String)> =
            server.environment.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        options
            .iter_mut()
            .filter(|(name, _)| name == "AWS_SECRET_ACCESS_KEY")
            .for_each(|(_, key)| *key = "sesame".into());
        let location: Location = server.url.replace("ledgers", "nobodys").parse().unwrap();
        let store = location.open(&Access::new(options), world()).unwrap();
        let error = probe(&store, &location, world().as_ref()).await.unwrap_err();
        let told = format!("{error:?} {error}");
        assert!(told.contains("NotFound") && !told.contains("sesame") && !told.contains("Eby8vdM0"), "{told}");
        // A listing of what is not there is not tried again.
        let error = holds_anything(&store).await.unwrap_err();
        let told = format!("{error:?} {error}");
        assert!(told.contains("status: 404") && !told.contains("GaveUp") && !told.contains("sesame"), "{told}");
    }
}

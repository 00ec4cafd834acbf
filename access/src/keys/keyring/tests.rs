//! The keyring against hands that read, cut, change and exchange it.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

struct World(AtomicU64);

impl Ambient for World {
    fn now_micros(&self) -> i64 {
        0
    }
    fn monotonic_micros(&self) -> i64 {
        0
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            *byte = ((state ^ (state >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 56) as u8;
        }
    }
}

fn world(seed: u64) -> Arc<dyn Ambient> {
    Arc::new(World(AtomicU64::new(seed)))
}

#[tokio::test]
async fn keys_wrap_rotate_and_are_destroyed_across_openings() {
    let folder = tempfile::tempdir().unwrap();
    for passphrase in [None, Some("correct horse")] {
        let path = folder.path().join(if passphrase.is_some() { "b/keyring" } else { "a/keyring" });
        let ring = Keyring::open(&path, passphrase, world(1)).unwrap();
        let secret = Secret::of(&[7; 32]).unwrap();
        assert!(matches!(ring.wrap("acme", "k1", &secret).await, Err(ProviderError::NoKey(_))));
        ring.create("acme").await.unwrap();
        ring.create("acme").await.unwrap();
        let first = ring.wrap("acme", "k1", &secret).await.unwrap();
        ring.rotate("acme").await.unwrap();
        let second = ring.wrap("acme", "k2", &secret).await.unwrap();
        assert!(first.starts_with("v1:") && second.starts_with("v2:"));
        let ring = Keyring::open(&path, passphrase, world(2)).unwrap();
        for (of, wrapped) in [("k1", &first), ("k2", &second)] {
            assert_eq!(ring.unwrap("acme", of, wrapped).await.unwrap().bytes(), secret.bytes());
        }
        assert!(matches!(ring.unwrap("acme", "k2", &first).await, Err(ProviderError::Refused(_))));
        ring.create("globex").await.unwrap();
        assert!(matches!(ring.unwrap("globex", "k1", &first).await, Err(ProviderError::Refused(_))));
        ring.destroy("acme").await.unwrap();
        ring.destroy("acme").await.unwrap();
        assert!(matches!(ring.unwrap("acme", "k1", &first).await, Err(ProviderError::NoKey(_))));
        ring.create("acme").await.unwrap();
        assert!(matches!(ring.unwrap("acme", "k1", &first).await, Err(ProviderError::Refused(_))), "another key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("new").exists());
    }
}

#[tokio::test]
async fn a_keyring_that_others_read_or_that_was_cut_or_changed_opens_nothing_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring");
    let ring = Keyring::open(&path, Some("pass"), world(3)).unwrap();
    ring.create("acme").await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Keyring::open(&path, Some("pass"), world(4)), Err(KeyringError::Open { mode: 0o640, .. })));
    assert!(matches!(ring.create("globex").await, Err(ProviderError::Unavailable(_))), "asked anew each time");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Keyring::open(&path, Some("pass"), world(4)).is_err(), "{length} bytes");
        assert!(ring.create("globex").await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), &whole[..length], "it is left as it is");
    }
    std::fs::write(&path, &whole).unwrap();
    for wrong in [None, Some("other")] {
        let error = Keyring::open(&path, wrong, world(4)).err().unwrap();
        assert!(matches!(error, KeyringError::Passphrase { .. }), "{error}");
    }
    let newer = String::from_utf8(whole.clone()).unwrap().replace("/v1", "/v2");
    std::fs::write(&path, newer).unwrap();
    assert!(matches!(Keyring::open(&path, Some("pass"), world(4)), Err(KeyringError::Newer { .. })));
    std::fs::write(&path, &whole).unwrap();
    assert!(Keyring::open(&path, Some("pass"), world(5)).is_ok());
}

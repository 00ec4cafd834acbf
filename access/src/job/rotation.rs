//! The job that gives tenants new keys when theirs are so many days old.
//!
//! Not here: making a key ([`Door::rotate_keys`]); writing anew what is under an older one, which merging does by and by.

use super::{Found, Job, Outcome, Running, Work};
use crate::door::Door;
use serde_json::json;
use std::time::Duration;

/// Rotates tenants' keys.
pub struct KeyRotation {
    door: Door,
    after: Duration,
}

impl KeyRotation {
    /// Of the tenants behind this door, once a key is so old.
    pub fn new(door: Door, after: Duration) -> Self {
        Self { door, after }
    }
}

impl Job for KeyRotation {
    fn name(&self) -> &'static str {
        "key_rotation"
    }

    fn what(&self) -> &'static str {
        "gives tenants new keys when theirs are old; what they hold is written under them by and by"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("15 4 * * *")
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(async move {
            let (rotated, failed) = self.door.rotate_keys(self.after).await?;
            for (tenant, why) in &failed {
                let what = format!("no new key could be made for it: {why}");
                let advice = "see that the key provider answers; it is tried again when this is due".into();
                let tenant = Some(tenant.clone());
                running.found(Found { tenant, what, advice, ..Found::default() }).await?;
            }
            Ok(Outcome::of(json!({"rotated": rotated, "failed": failed.len()})))
        })
    }
}

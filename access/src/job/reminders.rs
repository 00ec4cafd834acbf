//! The job that reminds reviewers, and gives on what they left open.
//!
//! Not here: what is due of a review ([`Door::move_reviews_on`]).

use super::{Job, Outcome, Running, Work};
use crate::door::Door;
use serde_json::json;

/// Reminds reviewers.
pub struct Reminders(Door);

impl Reminders {
    /// Of the reviews behind this door.
    pub fn new(door: Door) -> Self {
        Self(door)
    }
}

impl Job for Reminders {
    fn name(&self) -> &'static str {
        "reminders"
    }

    fn what(&self) -> &'static str {
        "reminds reviewers of what they have not decided on, and gives it to somebody else when it is due"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("5 * * * *")
    }

    fn run<'j>(&'j self, _: &'j Running) -> Work<'j> {
        Box::pin(async move {
            let (reminders, escalations) = self.0.move_reviews_on().await?;
            Ok(Outcome::of(json!({"reminders": reminders, "escalations": escalations})))
        })
    }
}

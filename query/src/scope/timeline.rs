//! What happened when, folded to what a person can read.
//!
//! Not here: the counts ([`super::gather`]). Invariant: in order of time, and of kind and words where times are equal.

use super::counts::{Gathered, Notable};
use super::verdict::TenantScope;
use ledger::time::format_micros;
use serde::Serialize;

/// Lines of a timeline.
const LONGEST: usize = 200;

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Moment {
    /// When, or when it began.
    pub at: String,
    /// `release`, `first`, `failures`, `access`, `contained`.
    pub kind: &'static str,
    /// What, in words.
    pub what: String,
    /// The entry that says so, if it is one: tenant, stream and sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<(String, String, u64)>,
}

pub(crate) fn timeline(gathered: &Gathered, tenants: &[TenantScope]) -> Vec<Moment> {
    let mut all = Vec::new();
    for release in &gathered.releases {
        all.push(moment("release", release, said(release)));
    }
    for end in &gathered.ends {
        all.push(moment("contained", end, said(end)));
    }
    if let Some(first) = tenants.iter().filter(|one| one.affected).min_by_key(|one| (&one.first, &one.tenant)) {
        let at = first.first.clone().unwrap_or_default();
        all.push(Moment { at, kind: "first", what: format!("the first event, at {}", first.tenant), entry: None });
    }
    for bucket in &gathered.failures {
        let what =
            format!("{} failures at {} tenants until {}", bucket.failures, bucket.tenants, format_micros(bucket.end));
        all.push(Moment { at: format_micros(bucket.begin), kind: "failures", what, entry: None });
    }
    for look in &gathered.looks {
        let under = look.elevation.as_ref().map_or(String::new(), |id| format!(" under elevation {id}"));
        let (by, times, tenants) = (&look.by, several(look.times, "time"), several(look.tenants, "tenant"));
        let what = format!("{by} looked at {tenants}{under}: {times} until {}", format_micros(look.last));
        all.push(Moment { at: format_micros(look.first), kind: "access", what, entry: None });
    }
    all.sort();
    all.dedup();
    if all.len() > LONGEST {
        // Who looked is the longest list, and stands in the access streams.
        let mut room = LONGEST.saturating_sub(all.iter().filter(|one| one.kind != "access").count());
        all.retain(|one| {
            let stays = one.kind != "access" || room > 0;
            room = room.saturating_sub(usize::from(one.kind == "access"));
            stays
        });
        all.truncate(LONGEST);
    }
    all
}

fn several(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn moment(kind: &'static str, of: &Notable, what: String) -> Moment {
    let entry = Some((of.tenant.clone(), of.stream.clone(), of.seq));
    Moment { at: format_micros(of.at), kind, what, entry }
}

fn said(of: &Notable) -> String {
    let resource = of.resource.as_deref().or(of.release.as_deref()).unwrap_or_default();
    let region = of.region.as_ref().map_or(String::new(), |region| format!(" in {region}"));
    let by = of.by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
    format!("{} {resource}{region}{by}", of.action)
}

//! Certificates on record: of each stream from which a run took something.
//!
//! Not here: what a certificate says ([`crate::certificate`]). Invariant: made again of the same, it is the same, and found
//! standing.

use crate::certificate::{self, Subject};
use crate::due::{Asked, Due};
use crate::judge::Judge;
use crate::run::{PurgedStream, Report, Retention};
use access::Problem;
use access::registry::Run;
use access::registry::change::{CertificateFact, RetentionFact};
use access::registry::names::FactId;
use ledger::Hash;
use ledger::time::format_micros;
use ledger_store::EraseDone;
use std::collections::BTreeMap;

/// What was asked of a stream, and what it came to.
pub(crate) struct Carried {
    pub asked: Asked,
    pub done: EraseDone,
}

impl Retention {
    /// Puts a certificate of each stream on record, and in the report.
    ///
    /// # Errors
    /// A store or the registry does not accept.
    pub(crate) async fn certify(
        &self,
        id: &FactId,
        run: &Run,
        carried: Vec<Carried>,
        report: &mut Report,
    ) -> Result<(), Problem> {
        let mut facts = Vec::with_capacity(carried.len());
        for Carried { asked, done } in carried {
            let (certificate, kind) = match &run.redaction {
                Some(redaction) => (self.of_redaction(redaction, id, run, &asked, &done), certificate::REDACTED),
                None => (self.of_purge(id, run, &asked, &done), certificate::PURGED),
            };
            let (tenant, stream) = asked.0;
            let note = self.door.sign_report(&tenant, kind, Hash::of(certificate.as_bytes()))?;
            report.entries += done.entries;
            report.streams.push(PurgedStream {
                tenant: tenant.to_string(),
                stream: stream.to_string(),
                commit: done.commit.0,
                entries: done.entries,
                segments: (done.removed.len() as u64, done.added.len() as u64),
            });
            let (commit, entries) = (done.commit.0, done.entries);
            facts.push(CertificateFact { run: id.clone(), tenant, stream, commit, entries, certificate, note });
        }
        if facts.is_empty() { Ok(()) } else { self.door.certify_purges(facts).await }
    }

    fn of_purge(&self, id: &FactId, run: &Run, ((tenant, stream), due): &Asked, done: &EraseDone) -> String {
        let planned = match due {
            Due::Entries(planned) => Some(planned),
            Due::Sections(_) | Due::Nothing => None,
        };
        let registry = self.door.book().read();
        let each = registry.retention();
        let versions: BTreeMap<&str, (u64, &str)> =
            each.map(|policy| (policy.fact.policy.as_str(), (policy.set.seq, policy.fact.basis.as_str()))).collect();
        let judge = Judge::of(&registry, tenant, *stream, run.fact.as_of.0);
        // After a stop it is no longer known which of them let it go.
        let lets_go = |fact: &&RetentionFact| planned.is_none() && fact.at_most_days.is_some();
        let in_force = judge.policies().iter().filter(lets_go).map(|fact| fact.policy.as_str());
        let used = planned.iter().flat_map(|planned| planned.by_policy.keys().map(String::as_str)).chain(in_force);
        let named = |name: &str| versions.get(name).map(|(seq, basis)| (name.to_string(), *seq, basis.to_string()));
        let as_of = format_micros(run.fact.as_of.0);
        let subject = Subject {
            tenant,
            stream: *stream,
            run: id.as_str(),
            basis: (run.begun.seq, run.begun.at),
            by: run.begun.by.as_str(),
            as_of: (&as_of, run.fact.version),
            policies: used.filter_map(named).collect(),
            planned,
        };
        certificate::of_purge(&subject, done)
    }

    fn of_redaction(
        &self,
        redaction: &FactId,
        id: &FactId,
        run: &Run,
        ((tenant, stream), _): &Asked,
        done: &EraseDone,
    ) -> String {
        let registry = self.door.book().read();
        let found = registry.redaction(redaction);
        certificate::of_redaction((tenant, *stream), (redaction, found), (id, run), done)
    }
}

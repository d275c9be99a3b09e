//! What befell the streams of Producers, told in their status for a day: events that went before they were received, a
//! stream that was replaced. The checkpoints keep it over restarts of the operator.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::loss::{Loss, is_told};
use hookwright_core::record::Checkpoint;
use hookwright_crds::{ConditionType, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::status::conditions::{Judgement, dated, find};

/// The conditions that are there only when they are true.
pub(crate) const INCIDENTS: [ConditionType; 2] = [ConditionType::EventsLost, ConditionType::StreamReplaced];

/// What befell one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Incident {
    loss: Option<Loss>,
    replaced: Option<Timestamp>,
}

/// By Producer; of one that is not here nothing is known yet.
#[derive(Default)]
pub(crate) struct Incidents(Mutex<HashMap<ProducerUid, Incident>>);

impl Incidents {
    fn map(&self) -> MutexGuard<'_, HashMap<ProducerUid, Incident>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the checkpoint says, and returns whether that is news.
    pub(crate) fn note(&self, uid: &ProducerUid, checkpoint: &Checkpoint) -> bool {
        let incident = Incident { loss: checkpoint.loss.clone(), replaced: checkpoint.replaced };
        let old = self.map().insert(uid.clone(), incident.clone());
        old.unwrap_or_default() != incident
    }

    pub(crate) fn forget(&self, uid: &ProducerUid) {
        self.map().remove(uid);
    }

    /// The conditions that tell of it. `refresh`: also what only counts on is brought up to date.
    pub(crate) fn conditions(
        &self,
        uid: &ProducerUid,
        before: &[Condition],
        generation: i64,
        refresh: bool,
        now: Timestamp,
    ) -> Vec<Condition> {
        let old = |kind| find(before, kind).cloned();
        let Some(incident) = self.map().get(uid).cloned() else {
            return INCIDENTS.into_iter().filter_map(old).collect();
        };
        let told = dated(incident.judgements(now), before, generation, now).into_iter();
        told.map(|new| {
            if refresh { None } else { before.iter().find(|old| old.type_ == new.type_).cloned() }.unwrap_or(new)
        })
        .collect()
    }
}

impl Incident {
    fn judgements(&self, now: Timestamp) -> Vec<(ConditionType, Judgement)> {
        let lost = self.loss.as_ref().filter(|loss| is_told(loss.last, now)).map(|loss| {
            let bound = if loss.exact { "" } else { "Up to " };
            let events =
                if loss.events == 1 { "1 event was".to_owned() } else { format!("{} events were", loss.events) };
            let message = format!(
                "{bound}{events} removed from the stream before a dispatcher had received them, the last of \
                 them noticed at {:.0}: by a limit of the stream, a purge or a deletion. This stays for a day.",
                loss.last
            );
            (ConditionType::EventsLost, Judgement::holds(Reason::EventsLost, message))
        });
        let replaced = self.replaced.filter(|time| is_told(*time, now)).map(|time| {
            let message = format!(
                "At {time:.0} the stream was another one than before, of the same name. It is delivered from its first \
                 event on; what the old one held and no dispatcher had received is lost. This stays for a day."
            );
            (ConditionType::StreamReplaced, Judgement::holds(Reason::StreamReplaced, message))
        });
        lost.into_iter().chain(replaced).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_befell_a_stream_is_told_for_a_day() {
        let (incidents, uid) = (Incidents::default(), ProducerUid::parse("p-1").unwrap());
        let told = |before: &[Condition], refresh, now| incidents.conditions(&uid, before, 1, refresh, t(now));
        let kinds = |list: &[Condition]| list.iter().map(|condition| condition.type_.clone()).collect::<Vec<_>>();
        let mut checkpoint = Checkpoint::new(t(1), 1);
        assert!(!incidents.note(&uid, &checkpoint), "nothing is no news");
        assert!(told(&[], true, 10).is_empty());

        checkpoint.loss = Some(Loss { events: 3, exact: true, last: t(10) });
        checkpoint.replaced = Some(t(20));
        assert!(incidents.note(&uid, &checkpoint) && !incidents.note(&uid, &checkpoint));
        let first = told(&[], false, 20);
        assert_eq!(kinds(&first), ["EventsLost", "StreamReplaced"]);
        assert!(first[0].message.starts_with("3 events were removed"), "{}", first[0].message);
        assert!(first[0].message.contains("at 1970-01-01T00:00:10Z"), "{}", first[0].message);

        checkpoint.loss = Some(Loss { events: 5, exact: false, last: t(30) });
        assert!(incidents.note(&uid, &checkpoint));
        assert_eq!(told(&first, false, 30), first, "what only counts on waits");
        let second = told(&first, true, 30);
        assert!(second[0].message.starts_with("Up to 5 events"), "{}", second[0].message);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);

        let day = 24 * 3600;
        assert_eq!(kinds(&told(&second, false, day + 25)), ["EventsLost"]);
        assert!(told(&second, false, day + 30).is_empty());
        incidents.forget(&uid);
        assert_eq!(told(&second, true, day + 30), second, "unknown after a start: as it was");
    }
}

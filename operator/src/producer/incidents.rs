//! The conditions that tell for a day what happened to a Producer's stream.

use hookwright_core::nats::loss::is_told;
use hookwright_crds::{ConditionType, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cache::stream_incidents::StreamIncident;
use crate::status::conditions::{Judgement, dated, find};

/// The conditions that are made here.
const OF_STREAM: [ConditionType; 2] = [ConditionType::EventsLost, ConditionType::StreamReplaced];

/// Returns the conditions for an incident. If none is known yet, the conditions from before stay. Without `refresh`, a
/// condition that was there before keeps its count.
pub(super) fn conditions(
    incident: Option<&StreamIncident>,
    before: &[Condition],
    generation: i64,
    refresh: bool,
    now: Timestamp,
) -> Vec<Condition> {
    let Some(incident) = incident else {
        return OF_STREAM.into_iter().filter_map(|kind| find(before, kind).cloned()).collect();
    };
    let told = dated(judgements(incident, now), before, generation, now).into_iter();
    told.map(|new| {
        if refresh { None } else { before.iter().find(|old| old.type_ == new.type_).cloned() }.unwrap_or(new)
    })
    .collect()
}

fn judgements(incident: &StreamIncident, now: Timestamp) -> Vec<(ConditionType, Judgement)> {
    let lost = incident.loss.as_ref().filter(|loss| is_told(loss.last, now)).map(|loss| {
        let bound = if loss.exact { "" } else { "Up to " };
        let events = if loss.events == 1 { "1 event was".to_owned() } else { format!("{} events were", loss.events) };
        let message = format!(
            "{bound}{events} removed from the stream before a dispatcher had received them: by a limit of the stream, a \
             purge or a deletion. The last of them was noticed at {:.0}. This stays for a day.",
            loss.last
        );
        (ConditionType::EventsLost, Judgement::holds(Reason::EventsLost, message))
    });
    let replaced = incident.replaced.filter(|time| is_told(*time, now)).map(|time| {
        let message = format!(
            "At {time:.0} the stream was found to be another one of the same name. It is delivered from its first event \
             on. Events of the old stream that no dispatcher had received are lost. This stays for a day."
        );
        (ConditionType::StreamReplaced, Judgement::holds(Reason::StreamReplaced, message))
    });
    lost.into_iter().chain(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::stream_incidents::StreamIncidents;
    use hookwright_core::nats::ids::ProducerUid;
    use hookwright_core::nats::loss::Loss;
    use hookwright_core::record::Checkpoint;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_happened_to_a_stream_is_told_for_a_day() {
        let (incidents, uid) = (StreamIncidents::default(), ProducerUid::parse("p-1").unwrap());
        let told =
            |before: &[Condition], refresh, now| conditions(incidents.get(&uid).as_ref(), before, 1, refresh, t(now));
        let kinds = |list: &[Condition]| list.iter().map(|condition| condition.type_.clone()).collect::<Vec<_>>();
        let mut checkpoint = Checkpoint::new(t(1), 1, None);
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

//! The last ten events in the life of an endpoint. Dispatchers report the deliveries that were given up. Changes of
//! health are noted here, and the status itself remembers them.

use hookwright_core::delivery::health::{GivenUp, Summary};
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_crds::{Activity, ActivityKind, Health};
use jiff::Timestamp;

use super::summary::HealthPart;
use crate::status::conditions::seconds;

const LENGTH: usize = 10;

/// Returns the entries, the newest first, after health has become `health`.
pub(super) fn recent(before: &HealthPart, health: Option<Health>, summary: &Summary, now: Timestamp) -> Vec<Activity> {
    let mut entries = before.recent.clone();
    let same = |list: &[Activity], entry: &Activity| list.iter().filter(|other| *other == entry).count();
    let mut given_up: Vec<Activity> = Vec::new();
    for entry in summary.recent.iter().map(dead_letter) {
        given_up.push(entry.clone());
        // Two deliveries that were given up in the same second may look alike.
        if same(&given_up, &entry) > same(&entries, &entry) {
            entries.push(entry);
        }
    }
    let last = summary.last_attempt.as_ref();
    // An endpoint that has failed from the first attempt on was never healthy.
    let silent = before.health.is_none() && last.is_some_and(|last| last.outcome != OutcomeKind::Delivered);
    let turned = health.filter(|new| Some(*new) != before.health && !(silent && *new == Health::Healthy));
    if let Some(activity) = turned.map(turn) {
        entries.push(Activity {
            time: seconds(now),
            activity,
            outcome: last.map(|last| last.outcome.name().to_owned()),
            http_status: last.and_then(|last| last.http_status).map(i32::from),
            attempt: last.and_then(|last| i32::try_from(last.attempt).ok()),
        });
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.time.0));
    entries.truncate(LENGTH);
    entries
}

const fn turn(health: Health) -> ActivityKind {
    match health {
        Health::Healthy => ActivityKind::Healthy,
        Health::Unhealthy => ActivityKind::Unhealthy,
        Health::Inactive => ActivityKind::Inactive,
    }
}

fn dead_letter(given_up: &GivenUp) -> Activity {
    Activity {
        time: seconds(given_up.time),
        activity: ActivityKind::DeadLettered,
        outcome: given_up.outcome.map(OutcomeKind::name).map(str::to_owned),
        http_status: given_up.http_status.map(i32::from),
        attempt: i32::try_from(given_up.attempts).ok().filter(|attempts| *attempts > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(second: i64) -> GivenUp {
        let outcome = Some(OutcomeKind::Rejected);
        GivenUp { time: Timestamp::from_second(second).unwrap(), outcome, http_status: Some(500), attempts: 3 }
    }

    fn text(entries: &[Activity]) -> String {
        let text = |entry: &Activity| format!("{} {:?}", entry.time.0.as_second(), entry.activity);
        entries.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn turns_and_dead_letters_the_newest_first() {
        let summary =
            |seconds: &[i64]| Summary { recent: seconds.iter().copied().map(given_up).collect(), ..Summary::default() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut part = HealthPart::default();
        let mut step = |health, dead: &[i64], now| {
            part.recent = recent(&part, Some(health), &summary(dead), at(now));
            part.health = Some(health);
            text(&part.recent)
        };
        assert_eq!(step(Health::Healthy, &[], 1), "1 Healthy");
        assert_eq!(step(Health::Healthy, &[], 2), "1 Healthy", "nothing turned");
        let want = "9 Unhealthy, 5 DeadLettered, 5 DeadLettered, 1 Healthy";
        assert_eq!(step(Health::Unhealthy, &[5, 5], 9), want, "two in one second are two");
        assert_eq!(step(Health::Unhealthy, &[5, 5], 10), want, "and stay two");
        let twelve: Vec<i64> = (12..24).collect();
        assert_eq!(step(Health::Unhealthy, &twelve[2..], 24).matches("Dead").count(), LENGTH);
        assert!(step(Health::Inactive, &twelve[2..], 24).starts_with("24 Inactive, 23 DeadLettered"));
    }
}

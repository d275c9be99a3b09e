//! Sends the test delivery that an annotation asks for.
//!
//! The request is in the state bucket before a dispatcher learns of it, and the result is written there. So each value
//! is sent once, whenever the operator dies. A value has ended when status has its result. Until then each reconcile
//! looks at the request, and a dispatcher's answer triggers a reconcile.

use std::time::Duration;

use bytes::Bytes;
use hookwright_core::delivery::test_delivery::{Step, TestDelivery, TestRecord, TestResult, shown, step};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{PARKED_STREAM, STATE_BUCKET, test_due, test_key};
use hookwright_core::record::{self, RecordError, VERSION};
use hookwright_crds::{ConditionStatus, LastTest, Reason, SEND_TEST, Subscription};
use hookwright_runtime::logging;
use hookwright_runtime::mirror::Change;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tracing::warn;

use super::status::SubscriptionOutcome;
use crate::context::Context;
use crate::nats::jetstream::header_map;
use crate::reconcile::error::ReconcileError;
use crate::status::conditions::Judgement;

/// The outcome in status of a test that can't be sent now, or has no result yet.
const PENDING: &str = "Pending";
/// The highest number of characters in a message about a test.
const MESSAGE: usize = 1024;
/// How soon an open test is looked at again, in case its answer is missed.
const LOOK: Duration = Duration::from_secs(5);

/// How far the test has come.
#[derive(Debug, PartialEq)]
pub(super) struct Followed {
    /// The test as status should show it.
    pub(super) last: Option<LastTest>,
    /// When to look again at the latest; none if no result is awaited.
    pub(super) again: Option<Duration>,
}

/// Whether a test can be sent.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It can be sent by the record of this revision.
    Clear(u64),
    /// It can't be sent now, for the reason in the text.
    Shut(String),
    /// It is not known yet; a signal will tell.
    Unclear,
}

/// Requests the test that the annotation asks for, if it was not sent yet, and returns its result or progress.
pub(super) async fn follow(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    outcome: &SubscriptionOutcome,
    ready: &Judgement,
    ctx: &Context,
) -> Result<Followed, ReconcileError> {
    let Some(value) = open(subscription) else { return Ok(unchanged(subscription)) };
    let entry = ctx.js.get(STATE_BUCKET, &test_key(uid)).await?;
    let (known, at) = match entry {
        Some(entry) => match record::decode::<TestRecord>(&entry.value) {
            // It says of no test that it was sent.
            Err(RecordError::NoRecord(_)) => (None, entry.revision),
            known => (Some(known.map_err(ReconcileError::TestRequest)?), entry.revision),
        },
        None => (None, 0),
    };
    let now = Timestamp::now();
    let next = step(known.as_ref(), &value, now);
    match (&next, way(outcome, ready, ctx.leases.is_none_live())) {
        (Step::Ended(result), _) => return Ok(Followed { last: Some(ended(value, result)), again: None }),
        (Step::Wait(rest), _) => {
            let again = Some((*rest).try_into().unwrap_or(LOOK));
            return Ok(Followed { again, ..unchanged(subscription) });
        }
        // The signal that makes it Ready triggers a reconcile.
        (_, Way::Unclear) => return Ok(unchanged(subscription)),
        (_, Way::Shut(why)) => {
            let again = matches!(outcome, SubscriptionOutcome::Applied { .. }).then_some(LOOK);
            return Ok(Followed { last: Some(pending(value, &why)), again });
        }
        (Step::UnderWay, Way::Clear(revision)) => {
            // A request without a message was lost, or its message was never sent, unless a dispatcher has it.
            let underway = ctx.js.count_messages(PARKED_STREAM, &test_due(uid)).await? > 0;
            if let Some(test) = known.filter(|_| !underway) {
                tell(uid, revision, at, test, ctx).await?;
            }
        }
        (Step::Ask, Way::Clear(revision)) => {
            let (namespace, name) = (subscription.namespace().unwrap_or_default(), subscription.name_any());
            let test = TestRecord { version: VERSION, namespace, name, value, requested: now, result: None };
            let written = ctx.js.put_at(STATE_BUCKET, &test_key(uid), record::encode(&test)?, at).await?;
            // None means that another operator, or an answer, was faster.
            if let Some(request) = written {
                tell(uid, revision, request, test, ctx).await?;
            }
        }
    }
    Ok(Followed { again: Some(LOOK), ..unchanged(subscription) })
}

/// Returns the test as status shows it now. A pending test that is no longer asked for is left out.
pub(super) fn unchanged(subscription: &Subscription) -> Followed {
    let said = subscription.status.as_ref().and_then(|status| status.last_test.clone());
    let wanted = wanted(subscription).is_some();
    Followed { last: said.filter(|test| wanted || test.outcome != PENDING), again: None }
}

/// Returns the value of the annotation, or none if it is empty or absent.
fn wanted(subscription: &Subscription) -> Option<String> {
    let value = subscription.annotations().get(SEND_TEST)?;
    (!value.is_empty()).then(|| shown(value))
}

/// Returns the value whose result is not in status yet.
fn open(subscription: &Subscription) -> Option<String> {
    let value = wanted(subscription)?;
    let said = subscription.status.as_ref().and_then(|status| status.last_test.as_ref());
    let ended = said.is_some_and(|test| test.value == value && test.outcome != PENDING);
    (!ended).then_some(value)
}

fn way(outcome: &SubscriptionOutcome, ready: &Judgement, none_live: bool) -> Way {
    match (outcome, ready.status) {
        // Ready was True before the dispatchers went, and it stays True.
        (SubscriptionOutcome::Applied { .. }, ConditionStatus::True) if none_live => {
            Way::Shut("No dispatcher is alive.".into())
        }
        (SubscriptionOutcome::Applied { revision, .. }, ConditionStatus::True) => Way::Clear(*revision),
        (_, ConditionStatus::False) => Way::Shut(ready.message.clone()),
        (_, ConditionStatus::Unknown) if ready.reason == Reason::NoDispatchers => Way::Shut(ready.message.clone()),
        _ => Way::Unclear,
    }
}

/// Sends the request to the dispatchers.
async fn tell(
    uid: &SubscriptionUid,
    revision: u64,
    request: u64,
    test: TestRecord,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    let delivery = TestDelivery { version: VERSION, subscription: uid.clone(), revision, request, test };
    ctx.js.publish(test_due(uid), header_map(delivery.headers()?), Bytes::new()).await?;
    Ok(())
}

/// Takes a change of the state bucket. An answered request reconciles its Subscription.
pub(crate) fn answered(ctx: &Context, change: Change) {
    let Change::Put { key, value, .. } = change else { return };
    match record::decode::<TestRecord>(&value) {
        Ok(TestRecord { namespace, name, result: Some(_), .. }) => {
            ctx.triggers.subscriptions.reconcile(ObjectRef::new(&name).within(&namespace));
        }
        Ok(_) => {}
        Err(error) => warn!(key, error = logging::chain(&error), "can't read the result of a test delivery"),
    }
}

fn ended(value: String, result: &TestResult) -> LastTest {
    LastTest {
        value,
        time: Some(Time(Timestamp::from_second(result.time.as_second()).unwrap_or(result.time))),
        outcome: result.outcome.name().to_owned(),
        http_status: result.http_status.map(i32::from),
        duration: Some(format!("{}ms", result.duration_millis)),
        message: None,
    }
}

fn pending(value: String, why: &str) -> LastTest {
    LastTest {
        value,
        time: None,
        outcome: PENDING.to_owned(),
        http_status: None,
        duration: None,
        message: Some(why.chars().take(MESSAGE).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::subscription;
    use super::*;
    use crate::refusal::Refusal;
    use hookwright_core::delivery::outcome::OutcomeKind;
    use hookwright_crds::SubscriptionStatus;
    use serde_json::json;

    fn annotated(value: &str, said: Option<LastTest>) -> Subscription {
        let mut object = subscription(&json!({}));
        object.annotations_mut().insert(SEND_TEST.to_owned(), value.to_owned());
        object.status = Some(SubscriptionStatus { last_test: said, ..SubscriptionStatus::default() });
        object
    }

    fn delivered(value: &str) -> LastTest {
        let time = Timestamp::from_millisecond(1_700_000_000_900).unwrap();
        let outcome = OutcomeKind::Delivered;
        ended(value.to_owned(), &TestResult { time, outcome, http_status: Some(200), duration_millis: 12 })
    }

    #[test]
    fn a_value_is_open_until_status_says_what_came_of_it() {
        let open = |value: &str, said| open(&annotated(value, said));
        assert_eq!(open("1", None), Some("1".to_owned()));
        assert_eq!(open("1", Some(delivered("1"))), None);
        assert_eq!(open("2", Some(delivered("1"))), Some("2".to_owned()));
        assert_eq!(open("1", Some(pending("1".to_owned(), "x"))), Some("1".to_owned()));
        assert_eq!(open("", None), None);
        let long = "x".repeat(10 << 10);
        assert_eq!(open(&long, Some(delivered(&shown(&long)))), None);
        assert_eq!(super::open(&subscription(&json!({}))), None);
    }

    #[test]
    fn what_was_said_stays_unless_it_was_only_why_not() {
        let last = |value: &str, said| unchanged(&annotated(value, Some(said))).last;
        assert_eq!(last("", delivered("1")), Some(delivered("1")));
        assert_eq!(last("2", delivered("1")), Some(delivered("1")));
        let why = pending("1".to_owned(), &"x".repeat(5000));
        assert_eq!(why.message.as_ref().map(String::len), Some(MESSAGE));
        assert_eq!(last("1", why.clone()), Some(why.clone()));
        assert_eq!(last("", why), None);
    }

    #[test]
    fn a_test_is_sent_when_ready_and_somebody_is_there() {
        let applied = SubscriptionOutcome::Applied { rollout: None, fresh: false, revision: 7 };
        let ready = Judgement::holds(Reason::Ready, "");
        assert_eq!(way(&applied, &ready, false), Way::Clear(7));
        assert_eq!(way(&applied, &ready, true), Way::Shut("No dispatcher is alive.".to_owned()));
        let broken = Judgement::fails(&Refusal::new(Reason::SecretNotFound, "no Secret"));
        assert_eq!(way(&SubscriptionOutcome::Unavailable, &broken, false), Way::Shut("no Secret".to_owned()));
        let nobody = Judgement::unknown(Reason::NoDispatchers, "nobody");
        assert_eq!(way(&applied, &nobody, true), Way::Shut("nobody".to_owned()));
        assert_eq!(way(&applied, &Judgement::unknown(Reason::Pending, "soon"), false), Way::Unclear);
        assert_eq!(
            way(&SubscriptionOutcome::Unavailable, &ready, false),
            Way::Unclear,
            "nothing is known of the record"
        );
    }
}

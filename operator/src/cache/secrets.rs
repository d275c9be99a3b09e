//! The Secrets that Subscriptions use, as they were last read.
//!
//! Only the keys that are used are kept, and no more of a value than shows that it is too long. Each Secret is read again
//! and again in turn (`background::secrets`), so a reconcile needs no read of its own for a Secret that is known.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use hookwright_crds::Subscription;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::cache::shared::Shared;

/// The longest value that is kept. A longer one is cut off here, which is longer than any value may be.
const LONGEST: usize = 8 << 10;

/// Namespace and name of a Secret.
pub(crate) type Place = (String, String);

/// The answer to a read.
pub(crate) struct Answer {
    /// The Secret; none if it doesn't exist.
    pub(crate) secret: Option<Secret>,
    /// When the read began.
    pub(crate) began: Instant,
}

/// A Secret as it was last read.
struct Held {
    /// The Secret; none if it doesn't exist.
    secret: Option<Secret>,
    keys: BTreeSet<String>,
    users: HashSet<ObjectRef<Subscription>>,
    /// When the read began. The answer to an earlier one replaces it only for the keys that were not asked for.
    read: Instant,
    /// When it was read, or had its turn to be read, last. One that can't be read has its next turn as late as the others.
    tried: Instant,
}

#[derive(Default)]
struct State {
    held: HashMap<Place, Held>,
    /// The turns of the Secrets, each with the time of the read that it follows.
    turns: VecDeque<(Place, Instant)>,
}

/// The Secrets that Subscriptions use.
#[derive(Default)]
pub(crate) struct Secrets(Shared<State>);

/// What is to be read next.
pub(crate) enum Due {
    Now(Place, Vec<ObjectRef<Subscription>>),
    At(Instant),
    Nothing,
}

impl Secrets {
    /// Returns the Secret as it was last read, if these keys of it are known; none inside if it doesn't exist. From now
    /// on `user` is reconciled when the Secret changes.
    pub(crate) fn known(
        &self,
        place: &Place,
        keys: &BTreeSet<String>,
        user: &ObjectRef<Subscription>,
    ) -> Option<Option<Secret>> {
        let mut state = self.0.lock();
        let held = state.held.get_mut(place).filter(|held| keys.is_subset(&held.keys))?;
        held.users.insert(user.clone());
        Some(held.secret.clone())
    }

    /// Takes the answer to a read on behalf of `user`, which needs these keys.
    pub(crate) fn take(
        &self,
        place: &Place,
        keys: &BTreeSet<String>,
        user: &ObjectRef<Subscription>,
        Answer { secret, began }: &Answer,
    ) {
        let mut state = self.0.lock();
        let is_new = !state.held.contains_key(place);
        let fresh = || Held { secret: None, keys: BTreeSet::new(), users: HashSet::new(), read: *began, tried: *began };
        let held = state.held.entry(place.clone()).or_insert_with(fresh);
        held.users.insert(user.clone());
        if held.read > *began && keys.is_subset(&held.keys) {
            return;
        }
        held.keys.extend(keys.iter().cloned());
        held.secret = secret.as_ref().map(|secret| reduced(secret, &held.keys));
        held.read = *began;
        held.tried = held.tried.max(*began);
        if is_new {
            state.turns.push_back((place.clone(), *began));
        }
    }

    /// Takes the answer to one more read. Returns who uses the Secret, if it has changed.
    pub(crate) fn renew(&self, place: &Place, Answer { secret, began }: &Answer) -> Vec<ObjectRef<Subscription>> {
        let mut state = self.0.lock();
        let Some(held) = state.held.get_mut(place).filter(|held| held.read <= *began) else { return Vec::new() };
        let new = secret.as_ref().map(|secret| reduced(secret, &held.keys));
        (held.read, held.tried) = (*began, held.tried.max(*began));
        let changed = !is_same(&held.keys, held.secret.as_ref(), new.as_ref());
        held.secret = new;
        if changed { held.users.iter().cloned().collect() } else { Vec::new() }
    }

    /// Returns whether a Secret is still as it was used; none if it was not read since then, or not all of these keys.
    pub(crate) fn is_as_used(
        &self,
        place: &Place,
        keys: &BTreeSet<String>,
        used: Option<&Secret>,
        since: Instant,
    ) -> Option<bool> {
        let state = self.0.lock();
        let held = state.held.get(place).filter(|held| held.read >= since && keys.is_subset(&held.keys))?;
        Some(is_same(keys, used, held.secret.as_ref()))
    }

    /// Forgets what was read. Returns who uses the Secret.
    pub(crate) fn forget(&self, place: &Place) -> Vec<ObjectRef<Subscription>> {
        let mut state = self.0.lock();
        state.turns.retain(|(other, _)| other != place);
        let held = state.held.remove(place);
        held.map(|held| held.users.into_iter().collect()).unwrap_or_default()
    }

    /// Returns the Secret whose turn it is, with its users: one that was read `every` ago or earlier. It has its next turn
    /// as much later, whether it can be read or not.
    pub(crate) fn due(&self, every: Duration) -> Due {
        let (mut state, now) = (self.0.lock(), Instant::now());
        let State { held, turns } = &mut *state;
        while let Some((place, turn)) = turns.pop_front() {
            let Some(held) = held.get_mut(&place) else { continue };
            if held.tried + every <= now {
                held.tried = now;
                turns.push_back((place.clone(), now));
                return Due::Now(place, held.users.iter().cloned().collect());
            }
            if held.tried > turn {
                // It was read out of turn.
                turns.push_back((place, held.tried));
                continue;
            }
            turns.push_front((place, turn));
            return Due::At(held.tried + every);
        }
        Due::Nothing
    }

    /// Leaves only these users of a Secret. A Secret without a user is forgotten. Returns whether it is used.
    pub(crate) fn keep(&self, place: &Place, users: HashSet<ObjectRef<Subscription>>) -> bool {
        let mut state = self.0.lock();
        let is_used = !users.is_empty();
        if is_used {
            state.held.get_mut(place).into_iter().for_each(|held| held.users.retain(|user| users.contains(user)));
        } else {
            state.held.remove(place);
        }
        is_used
    }

    /// Returns how long ago the Secret was read that has waited longest.
    pub(crate) fn oldest(&self) -> Duration {
        self.0.lock().held.values().map(|held| held.read.elapsed()).max().unwrap_or_default()
    }
}

fn reduced(secret: &Secret, keys: &BTreeSet<String>) -> Secret {
    let mut secret = secret.clone();
    secret.metadata.annotations = None;
    if let Some(data) = &mut secret.data {
        data.retain(|key, value| {
            value.0.truncate(LONGEST);
            keys.contains(key)
        });
    }
    secret
}

/// Returns whether nothing has changed that matters to Subscriptions with these keys.
pub(crate) fn is_same(keys: &BTreeSet<String>, old: Option<&Secret>, new: Option<&Secret>) -> bool {
    let parts = |secret: &Secret| {
        let Secret { metadata, data, .. } = reduced(secret, keys);
        (metadata.uid, metadata.labels, metadata.owner_references, data)
    };
    old.map(parts) == new.map(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str, labels: &[(&str, &str)]) -> Secret {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let data = [("used", value), ("other", "x")];
        let data = data.map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        secret.metadata.labels = Some(labels);
        secret
    }

    /// The answer to a read that has just begun.
    fn now(secret: Option<Secret>) -> Answer {
        Answer { secret, began: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_secret_is_read_in_turn_and_its_users_learn_of_changes() {
        let (secrets, every) = (Secrets::default(), Duration::from_secs(20));
        let place = |name: &str| ("shop".to_owned(), name.to_owned());
        let user = |name: &str| ObjectRef::<Subscription>::new(name).within("shop");
        let keys = BTreeSet::from(["used".to_owned()]);
        assert!(matches!(secrets.due(every), Due::Nothing));
        assert!(secrets.known(&place("a"), &keys, &user("one")).is_none());
        secrets.take(&place("a"), &keys, &user("one"), &now(Some(secret("1", &[]))));
        let known = secrets.known(&place("a"), &keys, &user("two")).unwrap().unwrap();
        assert_eq!(known.data.unwrap().into_keys().collect::<Vec<_>>(), ["used"], "nothing else is kept");
        let more = BTreeSet::from(["used".to_owned(), "more".to_owned()]);
        assert!(secrets.known(&place("a"), &more, &user("one")).is_none());

        tokio::time::advance(Duration::from_secs(5)).await;
        secrets.take(&place("b"), &keys, &user("one"), &now(None));
        assert!(matches!(secrets.due(every), Due::At(at) if at == Instant::now() + Duration::from_secs(15)));
        tokio::time::advance(Duration::from_secs(15)).await;
        let Due::Now(due, users) = secrets.due(every) else { panic!("a is due") };
        assert_eq!((due, users.len(), secrets.oldest()), (place("a"), 2, every));
        assert!(secrets.renew(&place("a"), &now(Some(secret("1", &[])))).is_empty(), "it is as it was");
        assert_eq!(secrets.renew(&place("a"), &now(Some(secret("1", &[("use", "x")])))).len(), 2);
        assert_eq!(secrets.renew(&place("a"), &now(Some(secret("2", &[("use", "x")])))).len(), 2);
        assert_eq!(secrets.renew(&place("a"), &now(None)).len(), 2);

        assert!(matches!(secrets.due(every), Due::At(_)), "b is not due yet");
        assert!(secrets.keep(&place("a"), [user("one")].into()));
        assert_eq!(secrets.renew(&place("a"), &now(Some(secret("2", &[])))), [user("one")]);
        assert!(!secrets.keep(&place("b"), HashSet::new()));
        tokio::time::advance(every).await;
        assert!(matches!(secrets.due(every), Due::Now(due, _) if due == place("a")), "b is forgotten");
        assert_eq!(secrets.forget(&place("a")), [user("one")]);
        assert!(secrets.known(&place("a"), &keys, &user("one")).is_none() && secrets.forget(&place("a")).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_can_not_be_read_has_one_turn_as_the_others() {
        let (secrets, every) = (Secrets::default(), Duration::from_secs(20));
        let (place, user) = (("shop".to_owned(), "a".to_owned()), ObjectRef::<Subscription>::new("one").within("shop"));
        secrets.take(&place, &BTreeSet::from(["used".to_owned()]), &user, &now(Some(secret("1", &[]))));
        for turn in 1..4 {
            tokio::time::advance(every).await;
            assert!(matches!(secrets.due(every), Due::Now(due, _) if due == place));
            // Others that read look for their turn, too, while it is read and after that has failed.
            assert!(matches!(secrets.due(every), Due::At(at) if at == Instant::now() + every));
            assert_eq!(secrets.oldest(), every * turn);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_an_earlier_read_changes_nothing() {
        let (secrets, place) = (Secrets::default(), ("shop".to_owned(), "a".to_owned()));
        let (user, keys) = (ObjectRef::<Subscription>::new("one").within("shop"), BTreeSet::from(["used".to_owned()]));
        let more = BTreeSet::from(["used".to_owned(), "other".to_owned()]);
        let early = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let late = Instant::now();
        let (old, new) = (secret("1", &[]), secret("2", &[]));
        let same = |keys: &BTreeSet<String>, used: &Secret, since| secrets.is_as_used(&place, keys, Some(used), since);
        assert_eq!(same(&keys, &new, early), None, "it was never read");
        secrets.take(&place, &keys, &user, &now(Some(new.clone())));
        let before = Answer { secret: Some(old.clone()), began: early };
        assert!(secrets.renew(&place, &before).is_empty());
        secrets.take(&place, &keys, &user, &before);
        for (keys, used, since, want) in [
            (&keys, &new, late, Some(true)),
            (&keys, &old, late, Some(false)),
            (&keys, &new, late + Duration::from_secs(1), None),
            (&more, &new, late, None),
        ] {
            assert_eq!(same(keys, used, since), want);
        }
        assert_eq!(secrets.is_as_used(&place, &keys, None, late), Some(false));
        // Other keys are not known from the later one.
        secrets.take(&place, &more, &user, &before);
        assert_eq!((same(&more, &old, early), same(&more, &old, late)), (Some(true), None));
    }

    #[test]
    fn a_long_value_is_cut_off() {
        let long = reduced(&secret(&"x".repeat(1 << 20), &[]), &["used".to_owned()].into());
        assert_eq!(long.data.unwrap()["used"].0.len(), LONGEST);
    }
}

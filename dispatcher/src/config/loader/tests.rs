use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::event::event_type::EventTypeRule;
use hookwright_core::event::{Event, Message, Reading, attribute_value, parse};
use hookwright_core::expression::Variables;
use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid, SubscriptionUid};
use hookwright_core::position::Flow;
use hookwright_core::record::lease::BucketRevision;
use hookwright_core::record::{StreamRef, VERSION, Validation, encode};
use hookwright_core::schema::VersionedSchema;
use hookwright_core::schema::{SchemaVersion, Violation};
use hookwright_core::seal::SealingKey;
use hookwright_runtime::egress::{EgressFile, EgressRules};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::config::index::Producer;
use crate::metrics::Metrics;
use crate::validate::validator::Validator;

const KEY: &str = "schema.p-1.e-1";

fn loader() -> ConfigLoader {
    let key = SealingKey::parse("test", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    let sealing = SealingKeys::new(key, Vec::new()).unwrap();
    let (health, _) = Health::new();
    let (egress, index) = (EgressFile::open(None).unwrap().in_force(), Index::new());
    let (positions, tenants, judged) = (Arc::default(), Arc::default(), watch::Sender::default());
    ConfigLoader { index, health, positions, tenants, sealing, egress, judged }
}

/// A Subscription of everything that the Producer has.
fn subscription(loader: &ConfigLoader, uid: &str, producer: &ProducerUid, revision: u64) -> Subscription {
    let uid = SubscriptionUid::parse(uid).unwrap();
    Subscription {
        health: loader.health.cell(&uid),
        position: loader.positions.cell(&uid),
        tenant: loader.tenants.of("shop"),
        flow: Flow::default(),
        uid,
        producer: producer.clone(),
        generation: 1,
        revision,
        name: "shop/billing".into(),
        event_types: vec![">".to_owned().try_into().unwrap()],
        versions: Vec::new(),
        filters: Arc::default(),
        policy: DeliveryPolicy::default(),
        renderer: Arc::default(),
        endpoint: Err(Unusable::Unsignable),
    }
}

fn uid() -> ProducerUid {
    ProducerUid::parse("p-1").unwrap()
}

fn at(revision: u64) -> BucketRevision {
    BucketRevision { created: Timestamp::UNIX_EPOCH, revision }
}

fn producer(validation: Validation) -> ProducerRecord {
    ProducerRecord {
        version: VERSION,
        uid: uid(),
        generation: 1,
        namespace: "shop".into(),
        name: "orders".into(),
        stream: StreamRef { name: "shop_orders".into(), created: Timestamp::UNIX_EPOCH },
        consumer: "hookwright".into(),
        event_type: EventTypeRule::default(),
        validation,
    }
}

fn schema(json_schema: Value) -> Vec<u8> {
    let version = SchemaVersion::parse("1").unwrap();
    encode(&EventSchemaRecord {
        version: VERSION,
        uid: EventSchemaUid::parse("e-1").unwrap(),
        generation: 1,
        namespace: "shop".into(),
        name: "created".into(),
        producer: uid(),
        event_type: "created".into(),
        versions: vec![VersionedSchema { version, uri: None, json_schema, deprecated: false }],
    })
    .unwrap()
    .to_vec()
}

fn event(subject: &str) -> Event {
    let rule = EventTypeRule::default();
    let reading = Reading { rule: &rule, source: &attribute_value("/s"), known_type: None };
    let published = Timestamp::UNIX_EPOCH;
    parse(&Message { subject, headers: &[], body: &"{}".into(), stream: "s", sequence: 1, published }, reading).unwrap()
}

impl ConfigLoader {
    fn is_served(&self) -> bool {
        self.index.set_loaded(at(1));
        let served = self.index.serving().borrow().contains_key(&uid());
        assert_eq!(self.index.unserved().is_empty(), served);
        served
    }

    fn receive(&self, key: &str, value: &[u8]) {
        self.apply(Change::Put { key: key.to_owned(), value: value.to_vec().into(), revision: 1 });
    }
}

#[test]
fn each_change_makes_another_version() {
    let loader = loader();
    let record = encode(&producer(Validation::Ignore)).unwrap();
    let mut versions = vec![loader.index.version()];
    for _ in 0..2 {
        loader.receive("producer.p-1", &record);
        versions.push(loader.index.version());
    }
    assert_eq!(loader.index.matches(&uid(), &Variables::of(&event("created"))).unwrap().version, versions[2]);
    loader.apply(Change::Delete { key: "producer.p-1".into() });
    versions.push(loader.index.version());
    assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
    loader.index.set_loaded(at(2));
    assert_eq!(loader.index.version(), versions[3]);
}

#[test]
fn a_subscription_is_still_found_until_it_changes() {
    let loader = loader();
    let put = |revision| {
        loader.index.put_subscription(Arc::new(subscription(&loader, "s-1", &uid(), revision)));
        loader.index.subscription(&SubscriptionUid::parse("s-1").unwrap()).unwrap()
    };
    loader.index.put_producer(producer(Validation::Ignore));
    let (found, mut version) = (put(1), loader.index.version());
    loader.index.put_subscription(Arc::new(subscription(&loader, "s-2", &uid(), 1)));
    assert!(loader.index.still_finds(&found, &mut version), "another one has come");
    assert_eq!(version, loader.index.version());
    let edited = put(2);
    assert!(!loader.index.still_finds(&found, &mut version), "it was edited");
    assert!(loader.index.still_finds(&edited, &mut version));
    loader.apply(Change::Delete { key: "producer.p-1".into() });
    assert!(!loader.index.still_finds(&edited, &mut version), "its Producer isn't served");
}

#[test]
fn what_moves_to_another_producer_is_matched_there_alone() {
    let loader = loader();
    let other = ProducerUid::parse("p-2").unwrap();
    for uid in [&uid(), &other] {
        loader.index.put_producer(ProducerRecord { uid: uid.clone(), ..producer(Validation::Ignore) });
    }
    let event = event("created");
    let matched = |uid: &ProducerUid| loader.index.matches(uid, &Variables::of(&event)).unwrap().subscriptions.len();
    for (producer, revision, want) in [(&uid(), 1, (1, 0)), (&other, 2, (0, 1)), (&uid(), 1, (0, 1))] {
        loader.index.put_subscription(Arc::new(subscription(&loader, "s-1", producer, revision)));
        assert_eq!((matched(&uid()), matched(&other)), want);
    }
}

#[tokio::test]
async fn endpoints_are_judged_anew_when_the_rules_change() {
    let rules = |ports: &str| {
        let egress = serde_json::from_value(json!({ "allowedPorts": [ports] })).unwrap();
        Arc::new(EgressRules { egress, digest: ports.to_owned() })
    };
    let (sender, in_force) = watch::channel(rules("443"));
    let loader = Arc::new(ConfigLoader { egress: in_force, ..loader() });
    loader.index.put_producer(producer(Validation::Ignore));
    let destination = |url: &str| Destination {
        url: url.to_owned(),
        service: None,
        headers: Vec::new(),
        signing: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())],
    };
    for (name, url) in [("s-1", "https://example.com/"), ("s-2", "https://example.com:8443/")] {
        let endpoint = Endpoint::prepare(&destination(url), loader.rules().egress.of("shop"));
        let subscription = Subscription { endpoint, ..subscription(&loader, name, &uid(), 1) };
        loader.index.put_subscription(Arc::new(subscription));
    }
    let allowed = || {
        let mut matched = loader.index.matches(&uid(), &Variables::of(&event("created"))).unwrap().subscriptions;
        matched.sort_by_key(|subscription| subscription.uid.to_string());
        matched.iter().map(|subscription| subscription.destination().is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(allowed(), [true, false]);
    let (mut judged, following) = (loader.judged.subscribe(), Arc::clone(&loader));
    tokio::spawn(async move { following.follow_egress().await });
    for (ports, want) in [("8443", [false, true]), ("443-8443", [true, true]), ("443", [true, false])] {
        let version = loader.index.version();
        sender.send_replace(rules(ports));
        judged.wait_for(|digest| digest == ports).await.unwrap();
        assert_eq!(allowed(), want, "{ports}");
        assert!(version < loader.index.version(), "what was matched before is looked up again");
    }
    let key = ConfigKey::Subscription(uid(), SubscriptionUid::parse("s-1").unwrap());
    loader.index.put_unreadable(&key, "a newer record".to_owned());
    sender.send_replace(rules("8443"));
    judged.wait_for(|digest| digest == "8443").await.unwrap();
    assert_eq!(loader.index.unserved(), [uid()], "a judgement reads no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_comes_again_as_it_was_is_not_compiled_again() {
    let loader = loader();
    let of_created = || loader.index.schema(&uid(), "created").unwrap();
    loader.receive("producer.p-1", &encode(&producer(Validation::Enforce)).unwrap());
    loader.receive(KEY, &schema(json!({ "type": "object" })));
    let first = of_created();
    loader.receive(KEY, &schema(json!({ "type": "object" })));
    assert!(Arc::ptr_eq(&first, &of_created()));
    loader.receive(KEY, b"{}");
    assert!(!loader.is_served(), "a record that can't be read");
    loader.receive(KEY, &schema(json!({ "type": "object" })));
    assert!(loader.is_served() && Arc::ptr_eq(&first, &of_created()), "and back");
    loader.receive(KEY, &schema(json!({ "type": "string" })));
    assert!(!Arc::ptr_eq(&first, &of_created()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_can_not_be_compiled_stops_only_a_producer_that_enforces() {
    let loader = loader();
    let validator = Validator::new(Arc::clone(&loader.index), Metrics::register().0);
    let violation =
        async |validation, subject| validator.violation(&Producer::new(producer(validation)), &event(subject)).await;
    loader.receive(KEY, &schema(json!({ "type": "nothing" })));
    for (validation, served, violated) in [
        (Validation::Ignore, true, None),
        (Validation::Warn, true, Some(Violation::unusable_schema())),
        (Validation::Enforce, false, Some(Violation::unusable_schema())),
    ] {
        loader.receive("producer.p-1", &encode(&producer(validation)).unwrap());
        assert_eq!(loader.is_served(), served, "{validation:?}");
        assert_eq!(violation(validation, "created").await, Ok(violated), "{validation:?}");
    }
    assert_eq!(violation(Validation::Warn, "undeclared").await, Ok(Some(Violation::no_schema())));
    assert_eq!(loader.index.unreadable(), 1);
    loader.receive(KEY, &schema(json!({ "type": "object" })));
    assert!(loader.is_served() && loader.index.unreadable() == 0, "healed");
    loader.receive(KEY, &schema(json!({ "type": "nothing" })));
    assert!(!loader.is_served());
    loader.apply(Change::Delete { key: KEY.to_owned() });
    assert!(loader.is_served(), "removed");
}

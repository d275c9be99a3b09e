//! What the API server admits: the tables of `crds/tests/admission`, whose README says how to read them.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use hookwright_e2e::{wait_for, workspace};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::shop::{SOON, plane};

/// How many cases are under way at the same time.
const TOGETHER: usize = 8;

#[tokio::test]
async fn the_api_server_admits_what_it_should_and_says_why_not() {
    let (plane, _machine) = plane().await;
    let client = plane.client().await.unwrap();
    let mut wrong = Vec::new();
    for (file, plural) in
        [("producer", "producers"), ("event_schema", "eventschemas"), ("subscription", "subscriptions")]
    {
        let table = Table::read(file);
        let refused = table.cases.iter().filter(|case| case.refused.is_some()).count();
        assert!(refused > 10 && table.cases.len() > refused, "{file}: {refused} of {}", table.cases.len());
        let judged = stream::iter(&table.cases).map(|case| judge(&client, plural, &table.base, case));
        let judged: Vec<_> = judged.buffer_unordered(TOGETHER).collect().await;
        wrong.extend(judged.into_iter().filter_map(Result::err).map(|said| format!("{file}: {said}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn explain_reads_well() {
    let (plane, _machine) = plane().await;
    for (field, wanted) in [
        ("subscriptions.hookwright.dev", "DESCRIPTION"),
        ("subscriptions.hookwright.dev.spec.delivery.retry.backoff", "schedule"),
        ("subscriptions.hookwright.dev.spec.endpoint.url", "http"),
        ("producers.hookwright.dev.spec.stream", "deletionPolicy"),
        ("producers.hookwright.dev.spec.validation", "Enforce"),
        ("eventschemas.hookwright.dev.spec.versions", "jsonSchema"),
    ] {
        // The API server publishes the schemas a moment after it serves the resources.
        let explained = wait_for("an explanation", SOON, async || plane.kubectl(&["explain", field]).await);
        let text = explained.await.unwrap();
        assert!(text.contains(wanted) && !text.contains("Auto-generated"), "{field}: {text}");
    }
}

/// As two tools would that both take the object for theirs.
#[tokio::test]
async fn two_appliers_make_no_third_schema_of_theirs() {
    let (plane, _machine) = plane().await;
    let schema = |property: &str| json!({ "type": "object", "properties": { property: { "type": "string" } } });
    let apply = async |manager: &str, property: &str, more: &[&str]| {
        let version = json!({ "version": "1", "jsonSchema": schema(property) });
        let object = json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "EventSchema",
            "metadata": { "name": "two-appliers", "namespace": "default" },
            "spec": { "producerRef": { "name": "orders" }, "type": "order.created", "versions": [version] },
        });
        let command = [&["apply", "--server-side", "--field-manager", manager, "-f", "-"][..], more].concat();
        plane.kubectl_stdin(&command, &object.to_string()).await
    };
    let stored = async || {
        let object = plane.get("default", "eventschemas", "two-appliers").await.unwrap();
        object["spec"]["versions"][0]["jsonSchema"].clone()
    };
    apply("one", "a", &[]).await.unwrap();
    let refused = format!("{:#}", apply("two", "b", &[]).await.unwrap_err());
    assert!(refused.contains("conflict") && refused.contains("jsonSchema"), "{refused}");
    assert_eq!(stored().await, schema("a"));
    apply("two", "b", &["--force-conflicts"]).await.unwrap();
    assert_eq!(stored().await, schema("b"));
}

/// The cases of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// An object that is admitted, without a name.
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Values by their paths.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    edits: Vec<Edit>,
    refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    drop: Vec<String>,
}

impl Table {
    fn read(kind: &str) -> Self {
        let path = workspace().join("crds/tests/admission").join(format!("{kind}.yaml"));
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }
}

impl Case {
    /// What is sent: the object to create, and what it is replaced with, in turn.
    fn objects(&self, base: &Value) -> Vec<Value> {
        let mut object = base.clone();
        object["metadata"]["name"] = json!(self.name);
        change(&mut object, &self.set, &self.drop);
        let mut objects = vec![object];
        for edit in &self.edits {
            let mut object = objects[objects.len() - 1].clone();
            change(&mut object, &edit.set, &edit.drop);
            objects.push(object);
        }
        objects
    }
}

fn change(object: &mut Value, set: &BTreeMap<String, Value>, drop: &[String]) {
    for (path, value) in set {
        let place = path.split('.').fold(&mut *object, |place, part| &mut place[part]);
        *place = value.clone();
    }
    for path in drop {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let parents = parents.split('.').filter(|part| !part.is_empty());
        let parent = parents.fold(&mut *object, |place, part| &mut place[part]);
        assert!(parent.as_object_mut().unwrap().remove(last).is_some(), "nothing to drop at {path}");
    }
}

/// Sends a case's objects; the error says how the answers differ from what the table says.
async fn judge(client: &kube::Client, plural: &str, base: &Value, case: &Case) -> Result<(), String> {
    let name = &case.name;
    let objects = case.objects(base);
    let last = objects.len() - 1;
    let mut version = Value::Null;
    for (n, object) in objects.into_iter().enumerate() {
        match (put(client, plural, object, &version).await, &case.refused) {
            (Ok(_), Some(_)) if n == last => return Err(format!("{name} is admitted")),
            (Ok(stored), _) => version = stored["metadata"]["resourceVersion"].clone(),
            (Err(error), Some(expected)) if n == last && error.contains(expected) => {}
            (Err(error), Some(expected)) if n == last => {
                return Err(format!("{name}: expected {expected:?}, got {error}"));
            }
            (Err(error), _) => return Err(format!("{name} is refused: {error}")),
        }
    }
    Ok(())
}

/// Creates the object, or replaces the one of its name that has this version.
async fn put(client: &kube::Client, plural: &str, mut object: Value, version: &Value) -> Result<Value, String> {
    let path = format!("/apis/hookwright.dev/v1alpha1/namespaces/default/{plural}");
    let request = if version.is_null() {
        http::Request::post(format!("{path}?fieldValidation=Strict"))
    } else {
        object["metadata"]["resourceVersion"] = version.clone();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        http::Request::put(format!("{path}/{name}?fieldValidation=Strict"))
    };
    let request = request.header("content-type", "application/json").body(object.to_string().into_bytes());
    client.request(request.unwrap()).await.map_err(|error| error.to_string())
}

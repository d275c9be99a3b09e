//! The operator's rights in Kubernetes: those of `charts/hookwright/templates/operator-rbac.yaml`.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use futures::{StreamExt, stream};
use hookwright_e2e::{ControlPlane, chart, operator, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, condition, plane, shared};

/// A verb, and the resource of an API group to which it applies.
type Right = (String, String, String);

const VERBS: [&str; 9] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate"];

/// What the operator could do harm with, beside what it has rights to.
const OTHERS: [(&str, &str); 22] = [
    ("hookwright.dev", "producers/finalizers"),
    ("hookwright.dev", "subscriptions/finalizers"),
    ("", "configmaps"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "nodes"),
    ("", "nodes/proxy"),
    ("", "services/proxy"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "users"),
    ("", "groups"),
    ("", "events"),
    ("apps", "deployments"),
    ("apps", "deployments/scale"),
    ("batch", "jobs"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("certificates.k8s.io", "certificatesigningrequests"),
];

/// How many questions are under way at the same time.
const TOGETHER: usize = 16;

/// Returns what the chart grants.
fn granted() -> BTreeSet<Right> {
    let role = chart::object("ClusterRole", "hookwright-operator").unwrap();
    let texts = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap() };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let right = |verb| (verb, group.clone(), resource.clone());
                rights.extend(texts(&rule["verbs"]).into_iter().map(right));
            }
        }
    }
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

/// Returns what the API server says that operators have done.
fn used(plane: &ControlPlane) -> Result<BTreeSet<Right>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = plane.audited()?.into_iter();
    let allowed = events.filter(|event| event["annotations"]["authorization.k8s.io/decision"] == "allow");
    let right = |event: Value| {
        let (object, mut resource) = (&event["objectRef"], text(&event["objectRef"]["resource"]));
        if let Some(subresource) = object["subresource"].as_str() {
            resource = format!("{resource}/{subresource}");
        }
        (text(&event["verb"]), text(&object["apiGroup"]), resource)
    };
    Ok(allowed.map(right).collect())
}

#[tokio::test]
async fn the_operator_may_do_what_its_role_says_and_nothing_else() {
    let (plane, _machine) = plane().await;
    plane.operator_kubeconfig().await.unwrap();
    let (client, granted) = (plane.client().await.unwrap(), granted());
    let own = granted.iter().map(|(_, group, resource)| (group.as_str(), resource.as_str()));
    let resources: BTreeSet<(&str, &str)> = own.chain(OTHERS).collect();
    let asked = resources.into_iter().flat_map(|(group, resource)| VERBS.map(|verb| (verb, group, resource)));
    let judged = stream::iter(asked).map(|right| judge(&client, &granted, right));
    let wrong: Vec<Option<String>> = judged.buffer_unordered(TOGETHER).collect().await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns what the API server says, if that isn't what is granted.
async fn judge(
    client: &kube::Client,
    granted: &BTreeSet<Right>,
    (verb, group, resource): (&str, &str, &str),
) -> Option<String> {
    let right = (verb.to_owned(), group.to_owned(), resource.to_owned());
    let is_allowed = may(client, verb, group, resource).await.unwrap();
    (is_allowed != granted.contains(&right)).then(|| format!("{right:?}: {is_allowed}"))
}

/// Asks whether the operator may do something in a namespace, or to the one object for which it has a right.
async fn may(client: &kube::Client, verb: &str, group: &str, resource: &str) -> Result<bool> {
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let name = if plural == "customresourcedefinitions" { "subscriptions.hookwright.dev" } else { "" };
    let attributes = json!({
        "verb": verb, "group": group, "resource": plural, "subresource": subresource, "name": name, "namespace": "shop",
    });
    let groups = ["system:serviceaccounts", "system:authenticated"];
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": { "user": operator(), "groups": groups, "resourceAttributes": attributes },
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews");
    let request = request.header("content-type", "application/json").body(review.to_string().into_bytes())?;
    let answer: Value = client.request(request).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// So a right less breaks a test: the API server's audit log has each of them.
#[tokio::test]
async fn each_right_of_the_operator_is_used() {
    let (shop, _machine) = shared().await;
    let (plane, namespace) = (&shop.world.control_plane, &shop.namespace);
    let versions = json!([{ "version": "1.0", "jsonSchema": { "type": "object" } }]);
    let schema = json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "EventSchema",
        "metadata": { "name": "created", "namespace": namespace },
        "spec": { "producerRef": { "name": "orders" }, "type": "order.created", "versions": versions },
    });
    plane.apply_json(&schema).await.unwrap();
    shop.world.wait_ready(namespace, "eventschemas", "created").await.unwrap();

    // What is told twice is one Event, which is changed.
    let missing = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "SecretNotFound";
    let keys = json!({ "signing": { "keys": [{ "secretKeyRef": { "name": "mine", "key": "secret" } }] } });
    plane.apply_json(&shop.subscription("given", &[">"], keys)).await.unwrap();
    shop.status("given", "without its Secret", missing).await;
    shop.shared_key().await;
    shop.world.wait_ready(namespace, "subscriptions", "given").await.unwrap();
    plane.kubectl(&["delete", "secret", "mine", "-n", namespace]).await.unwrap();
    shop.status("given", "without its Secret again", missing).await;

    // A key that was replaced three times signs no more, and its Secret goes.
    shop.subscribe("generated", &[">"], json!({})).await;
    for number in 1..=3 {
        let value = format!("hookwright.dev/rotate-signing-key={number}");
        let annotate =
            ["annotate", "subscriptions.hookwright.dev", "generated", "-n", namespace, "--overwrite", &value];
        plane.kubectl(&annotate).await.unwrap();
        shop.status("generated", "rotated", |status| status["signing"]["rotation"]["number"] == number).await;
    }
    wait_for("the first key to go", SOON, async || match plane.get(namespace, "secrets", "generated-signing").await {
        Err(error) if format!("{error:#}").contains("not found") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => bail!("it is there"),
    })
    .await
    .unwrap();

    wait_for("each right to be used", SOON, async || {
        let used = used(plane)?;
        let idle: Vec<Right> = granted().difference(&used).cloned().collect();
        ensure!(idle.is_empty(), "these are not: {idle:?}");
        Ok(())
    })
    .await
    .unwrap();
}

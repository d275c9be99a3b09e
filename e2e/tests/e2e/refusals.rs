//! What the API server, or a policy or a webhook in it, refuses to the operator: it is shown, it is tried again, and it is
//! done once it is allowed.

use anyhow::{Result, bail, ensure};
use hookwright_e2e::{ControlPlane, operator, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, condition, metric, shared};

/// What the policies of this test say.
const SAID: &str = "not on a Sunday";
const FAILING: &str = r#"hookwright_operator_failing_objects{kind="Subscription",reason="ApiRefused"}"#;

/// Something that refuses the operator a write in one namespace.
struct Obstacle<'w> {
    plane: &'w ControlPlane,
    kinds: &'static str,
    name: String,
}

impl<'w> Obstacle<'w> {
    /// A policy. `probe` are the arguments for kubectl with which it is seen that the policy is in force.
    async fn policy(shop: &Shop<'w>, rule: Value, expression: &str, probe: (&[&str], &str)) -> Self {
        let plane: &ControlPlane = &shop.world.control_plane;
        let (policy, binding) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding");
        let this = Self { plane, kinds: "validatingadmissionpolicies,validatingadmissionpolicybindings", name: name() };
        let spec = json!({
            "failurePolicy": "Fail",
            "matchConstraints": { "namespaceSelector": selector(shop), "resourceRules": [rule] },
            "matchConditions": by_the_operator(),
            "validations": [{ "expression": expression, "message": SAID }],
        });
        let binds = json!({ "policyName": this.name, "validationActions": ["Deny"] });
        for (kind, spec) in [(policy, spec), (binding, binds)] {
            let metadata = json!({ "name": this.name });
            let object = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec,
            });
            plane.apply_json(&object).await.unwrap();
        }
        this.in_force(probe, SAID).await;
        this
    }

    /// A webhook that nobody answers for: the API server says 500.
    async fn webhook(shop: &Shop<'w>, rule: Value, probe: (&[&str], &str)) -> Self {
        let plane: &ControlPlane = &shop.world.control_plane;
        let this = Self { plane, kinds: "validatingwebhookconfigurations", name: name() };
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": this.name },
            "webhooks": [{
                "name": "refusals.hookwright.test",
                "clientConfig": { "url": "https://127.0.0.1:1/" },
                "rules": [rule],
                "namespaceSelector": selector(shop),
                "matchConditions": by_the_operator(),
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }],
        });
        plane.apply_json(&object).await.unwrap();
        this.in_force(probe, "failed calling webhook").await;
        this
    }

    async fn in_force(&self, (arguments, input): (&[&str], &str), says: &str) {
        let operator = operator();
        let arguments = [arguments, &["--dry-run=server", "--as", &operator]].concat();
        wait_for("the API server to refuse", SOON, async || match self.plane.kubectl_stdin(&arguments, input).await {
            Err(error) if error.to_string().contains(says) => Ok(()),
            Err(error) => Err(error),
            Ok(said) => bail!("it says {said}"),
        })
        .await
        .unwrap();
    }

    /// Takes it away.
    async fn lift(self) {
        self.plane.kubectl(&["delete", self.kinds, &self.name]).await.unwrap();
    }
}

fn name() -> String {
    format!("refusal-{:08x}", rand::random::<u32>())
}

fn selector(shop: &Shop<'_>) -> Value {
    json!({ "matchLabels": { "kubernetes.io/metadata.name": shop.namespace } })
}

fn by_the_operator() -> Value {
    json!([{ "name": "by-the-operator", "expression": format!("request.userInfo.username == {:?}", operator()) }])
}

fn rule(group: &str, version: &str, operation: &str, resource: &str) -> Value {
    json!({ "apiGroups": [group], "apiVersions": [version], "operations": [operation], "resources": [resource] })
}

/// Waits until a Warning Event says so of a Subscription.
async fn told(shop: &Shop<'_>, name: &str, action: &str, says: &str) {
    let client = shop.world.control_plane.client().await.unwrap();
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", shop.namespace);
    wait_for(&format!("an Event of {name} that says {says}"), SOON, async || {
        let events: Value = client.request(http::Request::get(&path).body(Vec::new())?).await?;
        let ours = |event: &&Value| {
            event["regarding"]["name"] == name && event["reason"] == "ApiRefused" && event["action"] == action
        };
        let found: Vec<&Value> = events["items"].as_array().into_iter().flatten().filter(ours).collect();
        let says_so = |event: &&Value| event["note"].as_str().is_some_and(|note| note.contains(says));
        ensure!(found.iter().any(|event| event["type"] == "Warning" && says_so(event)), "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn failing(shop: &Shop<'_>, is_any: bool) {
    wait_for(&format!("failing objects: {is_any}"), SOON, async || {
        let metrics = shop.world.operator.metrics().await?;
        ensure!((metric(&metrics, FAILING) > 0) == is_any, "{}", metric(&metrics, FAILING));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_the_api_server_refuses_is_shown_and_done_once_it_is_allowed() {
    let (shop, _machine) = shared().await;
    let (plane, namespace) = (&shop.world.control_plane, &shop.namespace);

    // The Secret with the key that is to be generated.
    let owner = json!({ "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription", "name": "x", "uid": "x" });
    let labels = json!({ "hookwright.dev/use": "signing" });
    let metadata = json!({ "name": "probe", "namespace": namespace, "labels": labels, "ownerReferences": [owner] });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata }).to_string();
    let probe: (&[&str], &str) = (&["create", "-f", "-"], &secret);
    let policy = Obstacle::policy(&shop, rule("", "v1", "CREATE", "secrets"), "false", probe).await;
    plane.apply_json(&shop.subscription("first", &[">"], json!({}))).await.unwrap();
    let refused = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "ApiRefused";
    let status = shop.status("first", "refused", refused).await;
    let (refs, ready) = (condition(&status, "ResolvedRefs"), condition(&status, "Ready"));
    assert!(refs["status"] == "False" && refs["message"].as_str().unwrap().contains(SAID), "{refs}");
    assert!(ready["status"] == "False" && ready["reason"] == "ApiRefused", "{ready}");
    told(&shop, "first", "Reconcile", SAID).await;
    policy.lift().await;
    shop.world.wait_ready(namespace, "subscriptions", "first").await.unwrap();
    shop.subscribe("second", &[">"], json!({})).await;

    // The status: nothing can show it but an Event.
    let status = || rule("hookwright.dev", "v1alpha1", "UPDATE", "subscriptions/status");
    let edited = json!({ "delivery": { "timeout": "7s" } });
    // `kubectl patch` reads the object, which the operator may not do by its status.
    let host = json!({
        "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription",
        "metadata": { "name": "first", "namespace": namespace }, "status": { "endpointHost": "probe" },
    });
    let host = host.to_string();
    let apply = ["apply", "--server-side", "--force-conflicts", "--subresource=status", "-f", "-"];
    let probe: (&[&str], &str) = (&apply, &host);
    let policy = Obstacle::policy(&shop, status(), "false", probe).await;
    plane.apply_json(&shop.subscription("first", &[">"], edited.clone())).await.unwrap();
    told(&shop, "first", "WriteStatus", SAID).await;
    failing(&shop, true).await;
    policy.lift().await;
    shop.world.wait_ready(namespace, "subscriptions", "first").await.unwrap();
    failing(&shop, false).await;
    let webhook = Obstacle::webhook(&shop, status(), probe).await;
    plane.apply_json(&shop.subscription("second", &[">"], edited)).await.unwrap();
    told(&shop, "second", "WriteStatus", "failed calling webhook").await;
    webhook.lift().await;
    shop.world.wait_ready(namespace, "subscriptions", "second").await.unwrap();

    // The finalizer: the object hangs, and says why.
    let finalizers = rule("hookwright.dev", "v1alpha1", "UPDATE", "subscriptions");
    let bare = r#"{"metadata":{"finalizers":null}}"#;
    let probe = ["patch", "subscriptions.hookwright.dev", "first", "-n", namespace, "--type=merge", "-p", bare];
    let kept = "has(object.metadata.finalizers)";
    let policy = Obstacle::policy(&shop, finalizers, kept, (&probe[..], "")).await;
    let delete = ["delete", "subscriptions.hookwright.dev", "first", "-n", namespace, "--wait=false"];
    plane.kubectl(&delete).await.unwrap();
    told(&shop, "first", "LetGo", SAID).await;
    let object = plane.get(namespace, "subscriptions", "first").await.unwrap();
    assert!(object["metadata"]["deletionTimestamp"].is_string(), "{object}");
    failing(&shop, true).await;
    policy.lift().await;
    wait_for("the object to go", SOON, async || is_gone(plane, namespace, "first").await).await.unwrap();
    failing(&shop, false).await;
}

async fn is_gone(plane: &ControlPlane, namespace: &str, name: &str) -> Result<()> {
    match plane.get(namespace, "subscriptions", name).await {
        Err(error) if format!("{error:#}").contains("not found") => Ok(()),
        Err(error) => Err(error),
        Ok(object) => bail!("it is there: {}", object["metadata"]),
    }
}

//! The chart on a real API server: what it renders is accepted, its rights are enough and not more, and what it runs at
//! installation and removal does what it should. There is no node, so the tests run the Jobs' commands.

mod nats_values;
mod quickstart;
mod settings;

use std::path::Path;
use std::process::Output;

use hookwright_e2e::chart::{self, NAMESPACE};
use hookwright_e2e::{ControlPlane, Options, Scratch, World, wait_for, workspace, workspace_binary};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::hostile::nest;
use crate::shop::{SOON, beside, plane};

/// The namespaces of `ci/namespaced-values.yaml`.
const NAMESPACED: [&str; 2] = ["shop", "billing"];

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// Stands in for the CRD of the Prometheus operator.
fn pod_monitors() -> Value {
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "names": { "kind": "PodMonitor", "plural": "podmonitors" },
            "scope": "Namespaced",
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }],
        },
    })
}

#[tokio::test]
async fn every_rendered_object_is_accepted() {
    let (plane, _machine) = plane().await;
    plane.operator_kubeconfig().await.unwrap();
    plane.apply_json(&pod_monitors()).await.unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "crd/podmonitors.monitoring.coreos.com"]).await.unwrap();
    for name in NAMESPACED.into_iter().chain(["argocd"]) {
        plane.apply_json(&namespace(name)).await.unwrap();
    }
    let folder = |name: &str| workspace().join("manifests").join(name).to_string_lossy().into_owned();
    for render in chart::renders().unwrap() {
        plane.kubectl(&["apply", "--dry-run=server", "-f", &render.to_string_lossy()]).await.unwrap();
    }
    plane.kubectl(&["apply", "--dry-run=server", "-k", &folder("")]).await.unwrap();
    for file in ["uninstall/release.yaml", "argo-cd/health.yaml"] {
        plane.kubectl(&["apply", "--dry-run=server", "-f", &folder(file)]).await.unwrap();
    }
}

/// The folder of the Deployment's container that has the files of this ConfigMap.
fn mounted(deployment: &Value, map: &str) -> String {
    let pod = &deployment["spec"]["template"]["spec"];
    let (volumes, mounts) = (&pod["volumes"], &pod["containers"][0]["volumeMounts"]);
    let volume = volumes.as_array().unwrap().iter().find(|volume| volume["configMap"]["name"] == map).unwrap();
    let mount = mounts.as_array().unwrap().iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    mount["mountPath"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_binaries_read_the_settings_that_the_chart_renders() {
    let scratch = Scratch::new().unwrap();
    let key = scratch.path().join("sealing.key");
    std::fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    for render in chart::renders().unwrap() {
        let objects = chart::objects(&render).unwrap();
        let object = |kind: &str, name: &str| {
            let name = format!("hookwright-{name}");
            objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
        };
        let text = |name: &str| object("ConfigMap", name)["data"][format!("{name}.yaml")].as_str().unwrap();
        let write = |name: &str| {
            let text = text(name);
            let file = scratch.path().join(format!("{name}.yaml"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let egress = write("egress");
        for component in ["operator", "dispatcher"] {
            let settings: Value = serde_saphyr::from_str(text(component)).unwrap();
            let mounted = mounted(object("Deployment", component), "hookwright-egress");
            assert_eq!(settings["egressFile"], format!("{mounted}/egress.yaml"), "{component} {}", render.display());
            let file = write(component);
            let binary = workspace_binary(&format!("hookwright-{component}")).unwrap();
            let mut command = Command::new(binary);
            command.arg("--config").arg(&file).arg("--check-config");
            command.env("HOOKWRIGHT__SEALING__KEY_FILE", &key).env("HOOKWRIGHT__EGRESS_FILE", &egress);
            let output = command.output().await.unwrap();
            assert!(output.status.success(), "{}: {}", render.display(), String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[tokio::test]
async fn the_operator_may_create_secrets_of_its_own_only() {
    let (plane, _machine) = plane().await;
    let kubeconfig = plane.operator_kubeconfig().await.unwrap();
    let owner =
        json!([{ "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription", "name": "billing", "uid": "1" }]);
    let good = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": "billing-signing",
            "namespace": "default",
            "labels": { "hookwright.dev/use": "subscriptions" },
            "ownerReferences": owner,
        },
    });
    let create = async |patch: &Value| {
        let mut secret = good.clone();
        json_patch(&mut secret, patch);
        let kubeconfig = kubeconfig.to_string_lossy();
        let arguments = ["--kubeconfig", &kubeconfig, "create", "--dry-run=server", "-f", "-"];
        plane.kubectl_stdin(&arguments, &secret.to_string()).await.map_err(|error| error.to_string())
    };
    let token = json!({
        "type": "kubernetes.io/service-account-token",
        "metadata": { "annotations": { "kubernetes.io/service-account.name": "default" } },
    });
    let stranger = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1" }]);
    for (patch, said) in [
        (token, "of type Opaque only"),
        (json!({ "metadata": { "labels": null } }), "the label hookwright.dev/use only"),
        (json!({ "metadata": { "ownerReferences": null } }), "one of Hookwright's objects owns only"),
        (json!({ "metadata": { "ownerReferences": stranger } }), "one of Hookwright's objects owns only"),
    ] {
        // The API server looks for new policies now and then.
        wait_for(said, SOON, async || match create(&patch).await {
            Err(error) if error.contains(said) => Ok(()),
            other => anyhow::bail!("{other:?}"),
        })
        .await
        .unwrap();
    }
    create(&json!({})).await.unwrap();
}

/// A JSON merge patch (RFC 7396) of objects.
fn json_patch(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else { return *target = patch.clone() };
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            json_patch(&mut target[name], value);
        }
    }
}

#[tokio::test]
async fn users_who_may_view_or_edit_a_namespace_may_do_so_with_our_kinds() {
    let (plane, _machine) = plane().await;
    plane.operator_kubeconfig().await.unwrap();
    for role in ["view", "edit", "admin"] {
        let (role_flag, user) = (format!("--clusterrole={role}"), format!("{role}-user"));
        plane.kubectl(&["create", "rolebinding", &user, &role_flag, &format!("--user={user}")]).await.unwrap();
        let may = async |verb: &str, more: &[&str]| {
            let question = ["auth", "can-i", verb, "subscriptions.hookwright.dev", "--as", &user];
            plane.kubectl(&[&question, more].concat()).await.is_ok()
        };
        // The controller that gathers the roles takes a moment.
        wait_for(&format!("{role} to be aggregated"), SOON, async || {
            let (list, create) = (may("list", &[]).await, may("create", &[]).await);
            anyhow::ensure!(list && create == (role != "view"), "list {list}, create {create}");
            Ok(())
        })
        .await
        .unwrap();
        assert!(!may("update", &["--subresource=status"]).await, "{role}");
    }
}

#[tokio::test]
async fn an_operator_for_listed_namespaces_serves_these_and_reads_no_other_secrets() {
    let _machine = beside().await;
    let operator = json!({ "namespaces": NAMESPACED });
    let world = World::start(Options { operator, ..Options::default() }).await.unwrap();
    let plane = &world.control_plane;
    for name in NAMESPACED.into_iter().chain(["other"]) {
        plane.apply_json(&namespace(name)).await.unwrap();
    }
    let render = workspace().join("charts/hookwright/renders/namespaced.yaml");
    let rights = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let is_operators = |object: &Value| {
        rights.iter().any(|kind| object["kind"] == *kind) && object["metadata"]["name"] == "hookwright-operator"
    };
    for object in chart::objects(&render).unwrap().into_iter().filter(is_operators) {
        plane.apply_json(&object).await.unwrap();
    }
    let kubeconfig = plane.kubeconfig_of("hookwright-operator").await.unwrap();
    let may_read = async |namespace: &str| {
        let file = kubeconfig.to_string_lossy();
        plane.kubectl(&["--kubeconfig", &file, "auth", "can-i", "get", "secrets", "-n", namespace]).await.is_ok()
    };
    wait_for("the rights in the listed namespaces alone", SOON, async || {
        let rights = [may_read("shop").await, may_read("billing").await, may_read("other").await];
        anyhow::ensure!(rights == [true, true, false], "{rights:?}");
        Ok(())
    })
    .await
    .unwrap();
    for name in ["other", "shop"] {
        for file in ["producer", "subscription"] {
            let mut object: Value =
                serde_saphyr::from_str(&example(&format!("examples/quickstart/{file}.yaml"))).unwrap();
            object["metadata"]["namespace"] = json!(name);
            plane.apply_json(&object).await.unwrap();
        }
    }
    // It has a generated Secret by then.
    world.wait_ready("shop", "subscriptions", "billing").await.unwrap();
    for (plural, name) in [("producers", "orders"), ("subscriptions", "billing")] {
        let untouched = plane.get("other", plural, name).await.unwrap();
        assert_eq!(untouched["status"]["observedGeneration"].as_i64().unwrap_or(-1), -1, "{untouched}");
        assert!(untouched["metadata"]["finalizers"].is_null(), "{untouched}");
    }
}

#[tokio::test]
async fn the_operator_may_change_nothing_outside_of_the_listed_namespaces() {
    let (plane, _machine) = plane().await;
    let kubeconfig = plane.operator_kubeconfig().await.unwrap();
    let elsewhere = format!("elsewhere-{:08x}", rand::random::<u32>());
    let render = workspace().join("charts/hookwright/renders/namespaced.yaml");
    for object in chart::objects(&render).unwrap() {
        if object["metadata"]["name"] == "hookwright-operator-namespaces" {
            plane.apply_json(&object).await.unwrap();
        }
    }
    for name in [NAMESPACED[0], &elsewhere] {
        plane.apply_json(&namespace(name)).await.unwrap();
        let mut producer: Value = serde_saphyr::from_str(&example("examples/quickstart/producer.yaml")).unwrap();
        producer["metadata"]["namespace"] = json!(name);
        plane.apply_json(&producer).await.unwrap();
    }
    let file = kubeconfig.to_string_lossy();
    let change = async |namespace: &str| {
        let patch = r#"{"metadata": {"labels": {"x": "y"}}}"#;
        let arguments = ["--kubeconfig", &file, "patch", "hprod/orders", "-n", namespace, "--type=merge", "-p", patch];
        plane.kubectl(&arguments).await.map_err(|error| error.to_string())
    };
    // The API server looks for new policies now and then.
    wait_for("a refusal", SOON, async || match change(&elsewhere).await {
        Err(error) if error.contains("in the namespaces that it serves only") => Ok(()),
        other => anyhow::bail!("{other:?}"),
    })
    .await
    .unwrap();
    change(NAMESPACED[0]).await.unwrap();
}

/// Runs the command of a Job of the chart, as its ServiceAccount.
async fn run(plane: &ControlPlane, account: &str, more: &[&str]) -> Output {
    let is_it = |job: &&Value| job["kind"] == "Job" && job["spec"]["template"]["spec"]["serviceAccountName"] == account;
    let objects = chart::installed().unwrap();
    let job = objects.iter().find(is_it).unwrap();
    let arguments = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let mut command = Command::new(workspace_binary("hookwright-operator").unwrap());
    command.args(arguments.iter().map(|argument| argument.as_str().unwrap())).args(more);
    command.env("KUBECONFIG", plane.kubeconfig_of(account).await.unwrap()).output().await.unwrap()
}

#[tokio::test]
async fn secrets_are_made_once_and_kept() {
    let (plane, _machine) = plane().await;
    plane.operator_kubeconfig().await.unwrap();
    let read = async || {
        let mut data = Vec::new();
        for name in ["hookwright-sealing-key", "hookwright-nats-passwords"] {
            data.push(plane.get(NAMESPACE, "secrets", name).await.unwrap()["data"].clone());
        }
        data
    };
    let output = run(plane, "hookwright-make-secrets", &[]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = read().await;
    let keys: Vec<&String> = made.iter().flat_map(|data| data.as_object().unwrap().keys()).collect();
    assert_eq!(keys, ["sealing.key", "app", "dispatcher", "operator", "reader", "sys"]);
    assert!(run(plane, "hookwright-make-secrets", &[]).await.status.success());
    assert_eq!(read().await, made, "an upgrade keeps them");

    let remove = r#"[{"op": "remove", "path": "/data/app"}]"#;
    let secret = "hookwright-nats-passwords";
    plane.kubectl(&["patch", "secret", "-n", NAMESPACE, secret, "--type=json", "-p", remove]).await.unwrap();
    let output = run(plane, "hookwright-make-secrets", &[]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("exists and has no key \"app\""), "{said}");
    plane.kubectl(&["delete", "secret", "-n", NAMESPACE, secret]).await.unwrap();
}

#[tokio::test]
async fn what_is_uninstalled_holds_no_object_and_no_namespace() {
    let (plane, _machine) = plane().await;
    plane.operator_kubeconfig().await.unwrap();
    let deployment = chart::object("Deployment", "hookwright-operator").unwrap();
    plane.apply_json(&deployment).await.unwrap();
    let namespace = format!("let-go-{:08x}", rand::random::<u32>());
    plane.kubectl(&["create", "namespace", &namespace]).await.unwrap();
    for (name, finalizers) in
        [("ours", json!(["hookwright.dev/nats"])), ("both", json!(["example.com/x", "hookwright.dev/nats"]))]
    {
        let yaml = example("examples/quickstart/producer.yaml");
        let mut producer: Value = serde_saphyr::from_str(&yaml).unwrap();
        producer["metadata"] = json!({ "name": name, "namespace": namespace, "finalizers": finalizers });
        plane.apply_json(&producer).await.unwrap();
    }
    // One whose list can't be read as a whole.
    let deep = format!("deep-{:08x}", rand::random::<u32>());
    plane.kubectl(&["create", "namespace", &deep]).await.unwrap();
    let mut producer: Value = serde_saphyr::from_str(&example("examples/quickstart/producer.yaml")).unwrap();
    producer["metadata"] = json!({ "name": "deep", "namespace": deep, "finalizers": ["hookwright.dev/nats"] });
    plane.apply_json(&producer).await.unwrap();
    nest(plane, &format!("/apis/hookwright.dev/v1alpha1/namespaces/{deep}/producers/deep")).await;
    // It hangs: nobody removes the finalizer.
    plane.kubectl(&["delete", "producers.hookwright.dev", "-n", &namespace, "ours", "--wait=false"]).await.unwrap();
    let finalizers =
        async || plane.get(&namespace, "producers", "ours").await.unwrap()["metadata"]["finalizers"].clone();
    // With another installation in the cluster, objects of namespaces that are not listed may be the other one's.
    let other = format!("other-{:08x}", rand::random::<u32>());
    plane.kubectl(&["create", "namespace", &other]).await.unwrap();
    let mut operator = deployment.clone();
    operator["metadata"]["namespace"] = json!(other);
    plane.apply_json(&operator).await.unwrap();
    assert!(run(plane, "hookwright-release", &["--namespaces=elsewhere"]).await.status.success());
    assert_eq!(finalizers().await, json!(["hookwright.dev/nats"]), "it is another operator's");
    plane.kubectl(&["delete", "deployment", "-n", &other, "hookwright-operator"]).await.unwrap();
    let output = run(plane, "hookwright-release", &["--namespaces=elsewhere"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replicas = plane.kubectl(&[
        "get",
        "deployment",
        "-n",
        NAMESPACE,
        "hookwright-operator",
        "-o",
        "jsonpath={.spec.replicas}",
    ]);
    assert_eq!(replicas.await.unwrap(), "0");
    let left = ["get", "hprod", "-n", &namespace, "-o", "jsonpath={.items[*].metadata}"];
    let left = plane.kubectl(&left);
    let left: Value = serde_json::from_str(&left.await.unwrap()).unwrap();
    assert_eq!((&left["name"], &left["finalizers"]), (&json!("both"), &json!(["example.com/x"])));

    let free = r#"{"metadata": {"finalizers": null}}"#;
    plane.kubectl(&["patch", "hprod", "-n", &namespace, "both", "--type=merge", "-p", free]).await.unwrap();
    for namespace in [&namespace, &deep] {
        plane.kubectl(&["delete", "namespace", namespace, "--timeout=120s"]).await.unwrap();
    }
    assert!(run(plane, "hookwright-release", &[]).await.status.success(), "once more does no harm");
}

fn example(path: &str) -> String {
    std::fs::read_to_string(Path::new(workspace()).join(path)).unwrap()
}

//! A Kubernetes control plane without nodes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::chart::{self, NAMESPACE};
use crate::{Process, Tools, wait_for, workspace};

/// The kinds with which the chart says who may do what.
const RIGHTS: [&str; 7] = [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// The operator's user, for the API server.
pub fn operator() -> String {
    format!("system:serviceaccount:{NAMESPACE}:hookwright-operator")
}

/// Gets an object through the API client, which is much cheaper than kubectl when it is repeated often.
async fn get(client: &kube::Client, namespace: &str, plural: &str, name: &str) -> Result<Value> {
    let api = match plural {
        "producers" | "subscriptions" | "eventschemas" => "apis/hookwright.dev/v1alpha1",
        _ => "api/v1",
    };
    let request = http::Request::get(format!("/{api}/namespaces/{namespace}/{plural}/{name}")).body(Vec::new())?;
    client.request(request).await.with_context(|| format!("get {plural} {namespace}/{name}"))
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"] == object["metadata"]["generation"]
    })
}

/// etcd, kube-apiserver and, if the tools have it, kube-controller-manager, with the CRDs of `crds/yaml` established.
pub struct ControlPlane {
    process: Process,
    folder: PathBuf,
    kubectl: PathBuf,
}

impl ControlPlane {
    /// Starts a control plane whose keys, data and logs are in `folder`. The log of the start itself is beside the
    /// folder.
    pub async fn start(tools: &Tools, folder: &Path) -> Result<Self> {
        for server in ["etcd", "kube-apiserver"] {
            tools.tool(server)?;
        }
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new(workspace().join("tools/controlplane.sh"));
        command.arg("--bin").arg(tools.bin()).arg("--state").arg(folder).arg("--until-stdin-closes");
        command.arg("--crds").arg(workspace().join("crds/yaml")).arg("--audit").arg(operator());
        if tools.has_controllers() {
            tools.tool("kube-controller-manager")?;
        } else {
            command.arg("--no-controllers");
        }
        let process = Process::spawn("the control plane", &command, &folder.with_extension("log"))?;
        let plane = Self { process, folder: folder.to_owned(), kubectl: tools.tool("kubectl")? };
        // The script checks that its servers run. Only if the script itself runs does its line with `KUBECONFIG=`
        // count.
        wait_for("the control plane to be ready", Duration::from_secs(300), async || {
            if let Err(error) = plane.process.check_running() {
                return Ok(Err(error));
            }
            let logs = plane.process.logs();
            if logs.contains("KUBECONFIG=") { Ok(Ok(())) } else { bail!("it said: {logs}") }
        })
        .await??;
        Ok(plane)
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Runs kubectl as administrator and returns what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_stdin(args, "").await
    }

    /// `kubectl apply` of YAML text, as administrator.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_stdin(&["apply", "-f", "-"], yaml).await
    }

    /// Applies one object, given as JSON, as `kubectl apply --server-side` does, at a tenth of its cost.
    pub async fn apply_json(&self, object: &Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let types = object.types.as_ref().context("the object has no kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let client = self.client().await?;
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let name = object.metadata.name.as_deref().context("the object has no name")?;
        let params = PatchParams::apply("e2e").force().validation_strict();
        api.patch(name, &params, &Patch::Apply(&object)).await.with_context(|| format!("apply {}", types.kind))?;
        Ok(())
    }

    /// An object of the core API or of `hookwright.dev`, by its plural: `get("shop", "subscriptions", "billing")`.
    pub async fn get(&self, namespace: &str, plural: &str, name: &str) -> Result<Value> {
        get(&self.client().await?, namespace, plural, name).await
    }

    /// Waits until an object's Ready condition is true for its current generation.
    pub async fn wait_ready(&self, namespace: &str, plural: &str, name: &str, deadline: Duration) -> Result<Value> {
        self.wait_until(namespace, plural, name, "Ready", deadline, is_ready).await
    }

    /// Waits until `check` returns true for an object, and returns the object. A failure shows the object's status.
    pub async fn wait_until(
        &self,
        namespace: &str,
        plural: &str,
        name: &str,
        what: &str,
        deadline: Duration,
        check: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let client = self.client().await?;
        wait_for(&format!("{plural} {namespace}/{name} to be {what}"), deadline, async || {
            let object = get(&client, namespace, plural, name).await?;
            if check(&object) { Ok(object) } else { bail!("status {}", object["status"]) }
        })
        .await
    }

    /// Pauses the API server without its knowledge (SIGSTOP). To its clients it is as if the network to it were cut.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets the API server go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = std::fs::read_to_string(self.folder.join("kube-apiserver.pid"))?;
        let id = Pid::from_raw(id.trim().parse()?).context("the id of kube-apiserver")?;
        Ok(kill_process(id, signal)?)
    }

    /// What the operators have asked of this control plane until now, an event of the audit log for each request.
    pub fn audited(&self) -> Result<Vec<Value>> {
        let log = std::fs::read_to_string(self.folder.join("audit.log"))?;
        // The last line may not be complete.
        let lines = log.lines().filter(|line| line.ends_with('}'));
        Ok(lines.filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Applies the rights that the chart gives, those of its hooks included, and returns a kubeconfig file for the
    /// operator's ServiceAccount.
    pub async fn operator_kubeconfig(&self) -> Result<PathBuf> {
        self.apply_json(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })).await?;
        let right = |object: &Value| object["kind"].as_str().is_some_and(|kind| RIGHTS.contains(&kind));
        for object in chart::installed()?.into_iter().filter(right) {
            self.apply_json(&object).await?;
        }
        let kubeconfig = self.kubeconfig_of("hookwright-operator").await?;
        // The API server sees new rights a moment later.
        let file = kubeconfig.to_string_lossy();
        wait_for("the operator's rights", Duration::from_secs(120), async || {
            self.kubectl(&["--kubeconfig", &file, "auth", "can-i", "create", "secrets", "-A"]).await.map(drop)
        })
        .await?;
        Ok(kubeconfig)
    }

    /// Writes a kubeconfig file with the token of a ServiceAccount of the chart.
    pub async fn kubeconfig_of(&self, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", account, "-n", NAMESPACE, "--duration=24h"]).await?;
        let mut config: Value = serde_json::from_str(&self.kubectl(&["config", "view", "--raw", "-o", "json"]).await?)?;
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let path = self.folder.join(format!("{account}.kubeconfig"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Runs kubectl as administrator with `input` on its standard input.
    pub async fn kubectl_stdin(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = tokio::process::Command::new(&self.kubectl)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.folder.join("kubectl"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // kubectl may end without reading its input; its exit status then shows the failure.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

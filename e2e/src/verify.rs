//! Verifies requests with the official libraries, and reads them with the CloudEvents SDKs: those of Python, JavaScript, Go
//! and Java.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Received, Tools, workspace};

/// A request together with the secret (`whsec_...`) that should verify it.
#[derive(Clone, Debug)]
pub struct Signed {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    secret: String,
}

impl Signed {
    /// Takes a request that a receiver recorded.
    pub fn new(request: &Received, secret: &str) -> Self {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { headers, body: request.body.to_vec(), secret: secret.to_owned() }
    }

    /// Makes a request from its parts.
    pub fn from_parts(headers: &[(&str, &str)], body: &[u8], secret: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { headers, body: body.to_vec(), secret: secret.to_owned() }
    }
}

/// The verdict of a library on one request.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// Whether the signature is good.
    pub ok: bool,
    /// Why the signature is not good.
    pub error: Option<String>,
    /// The CloudEvent in the request.
    pub event: Option<ParsedEvent>,
    /// Why the request has no CloudEvent.
    pub event_error: Option<String>,
}

/// A CloudEvent as its SDK reads it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ParsedEvent {
    /// The attribute `id`.
    pub id: String,
    /// The attribute `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The attribute `source`.
    pub source: String,
    /// The attribute `time`, in seconds since 1970.
    pub time: Option<i64>,
    /// The attribute `datacontenttype`.
    #[serde(rename = "datacontenttype")]
    pub content_type: Option<String>,
    /// The extension `tenantid`.
    #[serde(rename = "tenantid")]
    pub tenant: Option<String>,
    /// The data, by its type: JSON, a text, or anything else in base64.
    pub data: serde_json::Value,
}

/// A language whose libraries judge requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript, on Node.js.
    JavaScript,
    /// Go.
    Go,
    /// Java.
    Java,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Python, Self::JavaScript, Self::Go, Self::Java];
}

/// Verifies with the Standard Webhooks library of a language, and reads with its CloudEvents SDK. Returns a verdict for
/// each request, in order.
pub async fn verify(tools: &Tools, language: Language, requests: &[Signed]) -> Result<Vec<Verdict>> {
    let script = |name: &str| workspace().join("tools/receivers").join(name);
    let mut command;
    match language {
        Language::Python => {
            command = Command::new(tools.python());
            command.arg(script("verify.py"));
        }
        Language::JavaScript => {
            command = Command::new("node");
            command.env("NODE_PATH", &tools.receivers()?.node_modules).arg(script("verify.mjs"));
        }
        Language::Go => command = Command::new(&tools.receivers()?.go),
        Language::Java => {
            command = Command::new("java");
            // It runs for a moment only.
            command.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(&tools.receivers()?.java).arg("Verify");
        }
    }
    run(&mut command, requests).await.with_context(|| format!("{language:?}"))
}

/// Verifies with Python's libraries.
pub async fn verify_python(tools: &Tools, requests: &[Signed]) -> Result<Vec<Verdict>> {
    verify(tools, Language::Python, requests).await
}

/// Verifies with JavaScript's libraries.
pub async fn verify_javascript(tools: &Tools, requests: &[Signed]) -> Result<Vec<Verdict>> {
    verify(tools, Language::JavaScript, requests).await
}

/// Verifies a request with the code that docs/reference/webhook.md shows for bodies of any bytes, in Python and in
/// JavaScript. Returns whether each finds the signature good.
pub async fn verify_documented(tools: &Tools, request: &Signed) -> Result<[bool; 2]> {
    let docs = std::fs::read_to_string(workspace().join("docs/reference/webhook.md"))?;
    let code = |fence: &str, mark: &str| {
        let blocks = docs.split(fence).skip(1).filter_map(|rest| rest.split("```").next());
        blocks.into_iter().find(|block| block.contains(mark)).map(str::to_owned).context("the documented code")
    };
    let python = format!(
        "{}\nimport json, sys\nfor line in sys.stdin:\n  r = json.loads(line)\n  \
         ok = verify(r['secret'], base64.b64decode(r['body_base64']), r['headers'])\n  \
         print(json.dumps({{'ok': ok, 'error': None}}))\n",
        code("```python", "hmac.digest")?
    );
    let javascript = format!(
        "{}\nimport {{ readFileSync }} from 'node:fs';\nconst r = JSON.parse(readFileSync(0, 'utf8'));\n\
         const ok = verify(r.secret, Buffer.from(r.body_base64, 'base64'), r.headers);\n\
         console.log(JSON.stringify({{ ok, error: null }}));\n",
        code("```js", "createHmac")?
    );
    let request = std::slice::from_ref(request);
    let python = run(Command::new(tools.python()).arg("-c").arg(python), request).await?;
    let javascript = run(Command::new("node").args(["--input-type=module", "-e"]).arg(javascript), request).await?;
    Ok([python[0].ok, javascript[0].ok])
}

async fn run(command: &mut Command, requests: &[Signed]) -> Result<Vec<Verdict>> {
    let mut lines = String::new();
    for Signed { headers, body, secret } in requests {
        let line = json!({ "headers": headers, "body_base64": BASE64_STANDARD.encode(body), "secret": secret });
        lines.push_str(&format!("{line}\n"));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the verifier")?;
    let stdin = child.stdin.take().context("the verifier's standard input")?;
    let feed = async move {
        let mut stdin = stdin;
        // A verifier that ends early reports the reason by its status.
        let _ = stdin.write_all(lines.as_bytes()).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output?;
    if !output.status.success() {
        bail!("the verifier failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8(output.stdout)?;
    let verdicts: Vec<Verdict> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if verdicts.len() != requests.len() {
        bail!("{} verdicts for {} requests", verdicts.len(), requests.len());
    }
    Ok(verdicts)
}

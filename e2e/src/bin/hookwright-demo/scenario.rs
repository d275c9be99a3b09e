//! Does what a person would do: applies the example, waits, publishes and looks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hookwright_e2e::{User, World, wait_for, workspace};
use tokio::process::Command;

use crate::done;
use crate::receiver::PythonReceiver;

/// The address in `examples/quickstart/subscription.yaml`.
const EXAMPLE_URL: &str = "http://127.0.0.1:8099/webhooks";

/// A message for the `nats` CLI, and whether the Subscription of the example selects it.
pub(crate) struct Publication {
    subject: &'static str,
    headers: &'static [&'static str],
    pub(crate) body: &'static str,
    pub(crate) selected: bool,
}

/// CloudEvents in binary mode, a plain message, and a message that no Subscription wants.
const PUBLICATIONS: [Publication; 4] = [
    Publication {
        subject: "shop.events.order.created",
        headers: &["ce-specversion:1.0", "ce-id:evt-1", "ce-type:order.created", "ce-source:/shop/web"],
        body: r#"{"order":1}"#,
        selected: true,
    },
    Publication {
        subject: "shop.events.order.paid",
        headers: &["ce-specversion:1.0", "ce-id:evt-2", "ce-type:order.paid", "ce-source:/shop/web"],
        body: r#"{"order":2}"#,
        selected: true,
    },
    Publication { subject: "shop.events.order.shipped", headers: &[], body: r#"{"order":3}"#, selected: true },
    Publication { subject: "shop.events.stock.low", headers: &[], body: r#"{"item":7}"#, selected: false },
];

/// Applies the example, publishes, and waits for the webhooks that should arrive.
pub(crate) async fn play(world: &World, receiver: &PythonReceiver) -> Result<[Publication; 4]> {
    println!("==> Applying examples/quickstart");
    let start = Instant::now();
    apply_example(world, &receiver.url()).await?;
    done("applied", start.elapsed());

    let start = Instant::now();
    world.wait_ready("shop", "producers", "orders").await?;
    world.wait_ready("shop", "subscriptions", "billing").await?;
    done("Producer orders and Subscription billing Ready", start.elapsed());
    receiver.give_secret(&world.signing_secret("shop", "billing").await?)?;

    println!("==> Publishing with the nats CLI");
    let start = Instant::now();
    for publication in &PUBLICATIONS {
        publish(world, publication).await?;
        println!("    {} {}", publication.subject, publication.body);
    }
    let wanted = PUBLICATIONS.iter().filter(|publication| publication.selected).count();
    wait_for("the webhooks to arrive", Duration::from_secs(30), async || {
        let arrived = receiver.arrivals()?.len();
        if arrived >= wanted { Ok(()) } else { bail!("{arrived} of {wanted}") }
    })
    .await?;
    done("published and arrived", start.elapsed());
    Ok(PUBLICATIONS)
}

/// Prints the webhooks that arrived, and the output of `kubectl get`.
pub(crate) async fn print_outcome(world: &World, receiver: &PythonReceiver) -> Result<()> {
    println!("==> What arrived");
    for arrival in receiver.arrivals()? {
        let verdict = arrival.problem.map_or("signature ok".to_owned(), |problem| format!("BAD SIGNATURE: {problem}"));
        let (id, kind) = (arrival.id.unwrap_or_default(), arrival.kind.unwrap_or_default());
        println!("    {verdict}  {id}  {kind}  {}", arrival.body);
    }
    println!("==> kubectl get subscriptions.hookwright.dev -A");
    print!("{}", world.control_plane.kubectl(&["get", "subscriptions.hookwright.dev", "-A"]).await?);
    Ok(())
}

/// Prints the end of each log after a failure.
pub(crate) fn print_logs(world: &World) {
    let logs = world.dispatchers.iter().map(|dispatcher| dispatcher.logs());
    for (name, log) in std::iter::once(world.operator.logs()).chain(logs).enumerate() {
        let name = if name == 0 { "operator".to_owned() } else { format!("dispatcher {name}") };
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("\n--- the end of the {name}'s log\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
    }
    eprintln!("\nHOOKWRIGHT_KEEP=1 keeps all logs; they were in {}", world.folder().display());
}

async fn apply_example(world: &World, url: &str) -> Result<()> {
    let folder = workspace().join("examples/quickstart");
    for name in ["namespace.yaml", "producer.yaml", "subscription.yaml"] {
        let yaml = std::fs::read_to_string(folder.join(name)).with_context(|| format!("examples/quickstart/{name}"))?;
        if name == "subscription.yaml" && !yaml.contains(EXAMPLE_URL) {
            bail!("examples/quickstart/{name} no longer sends to {EXAMPLE_URL}");
        }
        world.control_plane.apply(&yaml.replace(EXAMPLE_URL, url)).await?;
    }
    Ok(())
}

async fn publish(world: &World, publication: &Publication) -> Result<()> {
    let mut command = Command::new(world.tools.tool("nats")?);
    // A context that the user selected for other work must not take effect here.
    command.env("XDG_CONFIG_HOME", world.folder());
    command.args(["--server", &world.nats.url_of(User::App), "--inbox-prefix", User::App.inbox_prefix()]);
    command.args(["publish", "--jetstream"]);
    for header in publication.headers {
        command.args(["--header", header]);
    }
    let output = command.args([publication.subject, publication.body]).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("nats publish {}: {}", publication.subject, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

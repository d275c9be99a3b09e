//! Scenario P: what the forms of a payload cost. One endpoint drains events, in each form in turn.

use anyhow::Result;
use serde_json::{Value, json};

use super::drain::{KIND, drain, fill, ratio};
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, Topic};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::Behaviour;
use crate::tally::median;

/// Ten fields, by JMESPath.
const JMESPATH: &str = "{n: data.n, at: data.at, sum: data.sum, text: data.text, type: type, id: id, source: source, \
                        time: time, specversion: specversion, subject: subject}";
/// The bytes of the template.
const TEMPLATE: usize = 1024;

/// A form: its name, the most that it may cost by Binary, and the Subscription's payload.
type Form = (&'static str, Option<f64>, Value);

fn forms() -> [Form; 4] {
    [
        ("Binary", None, json!({ "mode": "Binary" })),
        ("Structured", Some(1.25), json!({ "mode": "Structured" })),
        ("ten fields by JMESPath", Some(1.6), json!({ "transform": { "jmespath": JMESPATH } })),
        ("a template of 1 KiB", None, json!({ "transform": { "template": template() } })),
    ]
}

fn template() -> String {
    let fields = ["n", "at", "sum", "text"].map(|name| format!("\"{name}\":{{{{ data.{name} }}}}")).join(",");
    let [start, end] = [format!("{{{fields},\"type\":\"{{{{ type }}}}\",\"static\":\""), "\"}".to_owned()];
    let filling = "x".repeat(TEMPLATE - start.len() - end.len());
    format!("{start}{filling}{end}")
}

pub(super) async fn forms_of_payloads(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    lab.dispatch_ready(1).await?;
    let mut topics: Vec<(Topic, Endpoint)> = Vec::new();
    for (_, _, payload) in forms() {
        let (topic, endpoint) = (lab.topic().await?, lab.endpoint(Behaviour::Ok));
        let subscription = topic.subscription(KIND, &endpoint, &json!({ "payload": payload }));
        lab.create(&topic, vec![subscription]).await?;
        topics.push((topic, endpoint));
    }
    lab.wait_subscribed(topics.len()).await?;
    let mut cpu: [Vec<f64>; 4] = Default::default();
    for round in 1..=scale.rounds {
        for (cpu, (topic, endpoint)) in cpu.iter_mut().zip(&topics) {
            let (_, wanted) = fill(lab, topic, scale.deliveries, SIZE, std::slice::from_ref(endpoint)).await?;
            let run = drain(lab, 1, &wanted).await?;
            run.tally.clone().exact()?;
            cpu.push(run.cpu_per_delivery(HOOKWRIGHT));
        }
        report.progress(&format!("round {round} of {}", scale.rounds));
    }
    for ((name, most, _), runs) in forms().into_iter().zip(&cpu) {
        report.add([Figure::new(format!("CPU per delivery, {name}"), median(runs.clone()), "us").spread(runs)]);
        let dearer = ratio(runs, &cpu[0]);
        let figure = Figure::new(format!("{name} / Binary"), median(dearer.clone()), "x").spread(&dearer);
        report.add((name != "Binary").then(|| match most {
            Some(most) => figure.at_most(most),
            None => figure,
        }));
    }
    lab.dispatch_ready(1).await?;
    for (topic, _) in topics {
        lab.delete(topic).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_its_size() {
        assert_eq!(template().len(), TEMPLATE);
    }
}

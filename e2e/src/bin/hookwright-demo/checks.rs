//! Checks that everything happened as it should.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hookwright_e2e::World;

use crate::done;
use crate::receiver::PythonReceiver;
use crate::scenario::Publication;

/// Checks that each selected event arrived exactly once, that no other event arrived, that each signature is good, and
/// that the status counts the deliveries.
pub(crate) async fn check(world: &World, receiver: &PythonReceiver, published: &[Publication]) -> Result<()> {
    let start = Instant::now();
    let wanted = published.iter().filter(|publication| publication.selected).count();
    // The counts reach the status a while after the deliveries. A second delivery would have arrived by then.
    world
        .wait_status("shop", "billing", &format!("{wanted} delivered"), Duration::from_secs(60), |status| {
            status["delivery"]["delivered"] == wanted
        })
        .await?;
    done("status shows the deliveries", start.elapsed());

    let arrivals = receiver.arrivals()?;
    let mut problems = Vec::new();
    for publication in published {
        let times = arrivals.iter().filter(|arrival| arrival.body == publication.body).count();
        if times != usize::from(publication.selected) {
            problems.push(format!("{} arrived {times} times", publication.body));
        }
    }
    for arrival in arrivals.iter().filter(|arrival| !arrival.verified) {
        let problem = arrival.problem.as_deref().unwrap_or("for no reason given");
        problems.push(format!("the signature of {} was refused: {problem}", arrival.body));
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("; ")) }
}

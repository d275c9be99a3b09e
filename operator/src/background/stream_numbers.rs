//! Grants room in the budget of status writes to the Producers that wait for it, for the numbers of their streams.

use std::convert::Infallible;

use crate::context::Context;

/// Grants room as it becomes free.
pub(crate) async fn grant(ctx: &Context) -> Infallible {
    loop {
        ctx.stream_numbers.wanted().await;
        let permit = ctx.status.budget.permit().await;
        if let Some(producer) = ctx.stream_numbers.grant() {
            permit.spend();
            ctx.triggers.producers.reconcile(producer);
        }
    }
}

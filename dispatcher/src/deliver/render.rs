//! Makes webhooks that may take long to make.

use std::sync::Arc;

use hookwright_core::event::Event;
use hookwright_core::payload::{RenderFailure, Rendered};
use tokio::task::block_in_place;

use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;

impl Deliverer {
    /// Makes the webhook of an event when its turn has come. A tenant's template must not keep the lease from being
    /// renewed, nor the deliveries of other Producers waiting.
    pub(crate) async fn render_in_turn(
        &self,
        subscription: &Subscription,
        event: &Arc<Event>,
    ) -> Result<Rendered, RenderFailure> {
        let _turn = self.renders.take(&subscription.producer).await;
        block_in_place(|| subscription.renderer.render(event))
    }
}

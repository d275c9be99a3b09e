//! Reads each Secret that a Subscription uses again and again, as Secrets are not watched. What is no longer allowed, or
//! has another value, is noticed within the setting `secretRefresh`, unless there are more Secrets than can be read in
//! that time.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use hookwright_runtime::logging;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tracing::debug;

use crate::cache::secrets::{Due, Place};
use crate::context::Context;
use crate::kubernetes::answer::ApiError;
use crate::secrets;
use crate::subscription::uses_secret;

/// How many reads may be under way at the same time.
const AT_ONCE: usize = 8;
/// How soon it is looked again for a Secret, when none is used.
const IDLE: Duration = Duration::from_secs(1);

/// Reads Secrets for as long as the process runs.
pub(crate) async fn follow(ctx: &Context) -> Infallible {
    join_all((0..AT_ONCE).map(|_| turns(ctx))).await;
    std::future::pending().await
}

async fn turns(ctx: &Context) {
    loop {
        match ctx.secrets.known.due(ctx.settings.secret_refresh) {
            Due::Now(place, users) => {
                let users: HashSet<_> = users.into_iter().filter(|user| uses(ctx, user, &place)).collect();
                if ctx.secrets.known.keep(&place, users) {
                    read(ctx, &place).await;
                }
            }
            Due::At(at) => tokio::time::sleep_until(at).await,
            Due::Nothing => tokio::time::sleep(IDLE).await,
        }
    }
}

/// Returns whether the Subscription exists and refers to the Secret.
fn uses(ctx: &Context, user: &ObjectRef<hookwright_crds::Subscription>, (_, secret): &Place) -> bool {
    let subscription = ctx.subscriptions.store.get(user);
    let subscription = subscription.filter(|object| object.meta().deletion_timestamp.is_none());
    subscription.is_some_and(|subscription| uses_secret(&subscription, secret, ctx.settings.signing_key_overlap))
}

async fn read(ctx: &Context, place: &Place) {
    match secrets::read(&ctx.secrets, &place.0, &place.1).await {
        Ok(answer) => {
            for user in ctx.secrets.known.renew(place, &answer) {
                ctx.triggers.subscriptions.reconcile(user);
            }
        }
        // Whether it may still be used is not known. Who uses it says so.
        Err(error) if error.api().is_some_and(ApiError::is_forbidden) => {
            for user in ctx.secrets.known.forget(place) {
                ctx.triggers.subscriptions.reconcile(user);
            }
        }
        Err(error) => debug!(error = logging::chain(&error), "can't read a Secret again"),
    }
}

//! The Subscriptions and EventSchemas that refer to a Producer.

use hookwright_crds::{FINALIZER, Producer, Subscription};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::cache::references::RefersToProducer;
use crate::context::Context;

/// Reconciles the Subscriptions and EventSchemas that refer to the Producer.
pub(super) fn trigger(ctx: &Context, producer: &Producer) {
    let this = ObjectRef::from_obj(producer);
    for schema in ctx.schemas.of_producer(&this) {
        ctx.triggers.schemas.reconcile(ObjectRef::from_obj(&*schema));
    }
    // A Subscription without the finalizer is reconciled as soon as the watch brings the finalizer. A reconcile before
    // that would add it once more.
    let has_finalizer = |s: &Subscription| s.finalizers().iter().any(|name| name == FINALIZER);
    for subscription in ctx.subscriptions.store.state_filter(|s| s.producer_ref() == this && has_finalizer(s)) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
    }
}

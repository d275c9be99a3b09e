//! Control planes that worlds use one after the other: to start one costs more than the rest of a world.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{ControlPlane, Scratch, Tools, wait_for};

/// The control planes that were given back, with their folders.
static SPARE: Mutex<Vec<(ControlPlane, Scratch)>> = Mutex::new(Vec::new());

const KINDS: [&str; 3] = ["Subscription", "EventSchema", "Producer"];

/// How long the objects of the world before may take to go.
const GONE: Duration = Duration::from_secs(60);

/// A control plane that is given back when it is dropped. It has none of our objects when it is lent; namespaces, and
/// what else other worlds left in them, stay.
pub struct LentPlane {
    plane: Option<(ControlPlane, Scratch)>,
}

impl LentPlane {
    /// Lends one that was given back, or starts one.
    pub(crate) async fn take(tools: &Tools) -> Result<Self> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some((plane, scratch)) = spare
            && clear(&plane).await.is_ok()
        {
            return Ok(Self { plane: Some((plane, scratch)) });
        }
        let scratch = Scratch::new()?;
        let plane = ControlPlane::start(tools, &scratch.path().join("kube")).await?;
        Ok(Self { plane: Some((plane, scratch)) })
    }
}

impl Deref for LentPlane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        let Some((plane, _)) = &self.plane else { unreachable!("it is there until it is dropped") };
        plane
    }
}

impl Drop for LentPlane {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(plane);
        }
    }
}

/// Removes all objects of ours, whose operator is gone.
async fn clear(plane: &ControlPlane) -> Result<()> {
    let client = plane.client().await?;
    for kind in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("hookwright.dev", "v1alpha1", kind));
        wait_for(&format!("each {kind} of the world before to go"), GONE, async || {
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let left = all.list_metadata(&ListParams::default()).await?.items;
            try_join_all(left.iter().map(|object| remove(&client, &resource, object))).await?;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn remove(client: &Client, resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> Result<()> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, resource);
    let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch_metadata(&object.name_any(), &PatchParams::default(), &bare).await?;
    api.delete(&object.name_any(), &DeleteParams::default()).await?;
    Ok(())
}

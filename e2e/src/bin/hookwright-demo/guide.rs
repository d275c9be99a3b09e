//! Prints how to go on by hand.

use hookwright_e2e::{User, World};

pub(crate) fn print(world: &World) {
    println!(
        r#"
Everything stays up until Ctrl-C. To go on, in another terminal:

  export PATH={bin}:$PATH
  export KUBECONFIG={kubeconfig}
  export NATS_URL={nats}

  nats --inbox-prefix {inbox} publish --jetstream shop.events.order.created '{{"order":4}}'
  kubectl get subscriptions.hookwright.dev -A -o wide
  kubectl describe -n shop subscriptions.hookwright.dev billing
  kubectl explain subscriptions.hookwright.dev.spec

Logs and data: {folder}
What arrives at the receiver from now on:
"#,
        bin = world.tools.bin().display(),
        kubeconfig = world.control_plane.kubeconfig().display(),
        nats = world.nats.url_of(User::App),
        inbox = User::App.inbox_prefix(),
        folder = world.folder().display(),
    );
}

//! The routes between the servers of a cluster.

use anyhow::Result;

use crate::{Mode, Proxy};

/// A route from one server to another.
struct Route {
    from: usize,
    to: usize,
    address: String,
    /// With it, the route can be cut.
    proxy: Option<Proxy>,
}

/// The routes between servers, a route for each pair and each direction.
pub(super) struct Routes(Vec<Route>);

impl Routes {
    /// Routes between servers whose ports for each other these are.
    pub(super) fn direct(ports: &[u16]) -> Self {
        let pairs = (0..ports.len()).flat_map(|from| ports.iter().enumerate().map(move |(to, port)| (from, to, port)));
        let routes = pairs.filter(|(from, to, _)| from != to);
        Self(
            routes
                .map(|(from, to, port)| Route { from, to, address: format!("127.0.0.1:{port}"), proxy: None })
                .collect(),
        )
    }

    /// The same, each through a proxy of its own.
    pub(super) async fn through_proxies(ports: &[u16]) -> Result<Self> {
        let mut routes = Self::direct(ports);
        for route in &mut routes.0 {
            let proxy = Proxy::start(route.address.clone()).await?;
            route.address = proxy.address.to_string();
            route.proxy = Some(proxy);
        }
        Ok(routes)
    }

    /// The addresses by which the `n`th server comes to the others, as its command line takes them.
    pub(super) fn of(&self, n: usize) -> String {
        let own = self.0.iter().filter(|route| route.from == n);
        own.map(|route| format!("nats://{}", route.address)).collect::<Vec<_>>().join(",")
    }

    /// Cuts the routes from and to the `n`th server, or lets them pass again.
    pub(super) fn isolate(&self, n: usize, isolated: bool) {
        for proxy in
            self.0.iter().filter(|route| route.from == n || route.to == n).filter_map(|route| route.proxy.as_ref())
        {
            proxy.set(if isolated { Mode::Cut } else { Mode::Pass });
        }
    }
}

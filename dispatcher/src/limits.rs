//! How many attempts are under way: for each Subscription (`lane`), and for the dispatcher (`attempts`). This room knows nothing of deliveries.

pub(crate) mod attempts;
pub(crate) mod lane;

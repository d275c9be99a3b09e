//! What each side may do: it has the rights that it needs, each of them is needed, and nothing else is allowed.

mod kubernetes;
mod nats;

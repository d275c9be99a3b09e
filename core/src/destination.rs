//! Where deliveries go: which URLs and addresses may be dialled.

pub mod egress;

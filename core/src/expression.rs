//! Expressions that tenants write, in any dialect: what they may look at, how errors in them are told, and how they are
//! kept cheap.
//!
//! An expression is hostile input. Its text is bounded before it is parsed, its tree before it is kept, and its cost,
//! which follows from the tree and the size of the event, before each evaluation. An error says where it is, and never
//! contains a value of an event.

mod attribute;
mod attribute_name;
pub mod bounds;
mod cel;
mod cel_context;
mod cost;
mod error;
mod given;
mod jmespath;
mod jmespath_object;
mod made;
mod parsed;
mod variables;

pub use attribute::Attribute;
pub use attribute_name::is_attribute;
pub(crate) use attribute_name::not_an_attribute;
pub use cel::Cel;
pub use cost::{Cost, Costs, Size};
pub use error::{CompileError, RunError};
pub use given::{Given, GivenData};
pub use jmespath::Jmespath;
pub use made::Made;
pub use parsed::Parsed;
pub use variables::Variables;

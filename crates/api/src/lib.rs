//! Floor 1: what people wrote, as slim types of our own.
//!
//! Kubernetes and Istio objects with exactly the fields a mesh reads, named as in their schemas (in
//! snake case). Every complaint about a document comes at once, each with file, line, field path,
//! what was found and what is allowed.
//!
//! What this deliberately is not: a client of Kubernetes, a reader of files (it gets bytes), a judge
//! of how objects fit together (that is `analyze`); it looks at one object at a time.

mod chunk;
pub mod complaint;
mod decode;
pub mod destination_rule;
mod document;
pub mod gateway;
mod hosts;
mod json;
pub mod kubernetes;
pub mod mesh_config;
pub mod object;
mod parse;
mod scalar;
mod schema;
pub mod service_entry;
pub mod similar;
mod text;
mod tree;
mod unenforced;
mod validate;
mod value;
pub mod virtual_service;
pub mod volume;
pub mod workload;
mod yaml;

pub use complaint::{Complaint, Severity};
pub use object::{Kind, Meta, Object, ObjectKey, Origin, Other, Spec, Timestamp};
pub use parse::{Parsed, parse_file, parse_mesh_config};
pub use unenforced::unenforced;
pub use value::{parse_objects, parse_value};

//! What becomes of each field of Envoy's messages in our proxy: the messages are walked, each field is set alone in an
//! example that is taken without it, and the engine is asked.
//!
//! What it is: an interrogation. Nothing here knows a fate; [`examples`] only knows what messages need to be whole. What it
//! is not: a test of what a field does. A field counts as read if what the engine makes of the resource is not the same
//! with it, for any of a few values.
//!
//! A message is visited once below each root, where it comes first; another place may treat it otherwise.

mod examples;
mod render;
mod roots;
mod walk;

pub use render::render;
pub use roots::ROOTS;
pub use walk::{Fate, MessageFates, walk};

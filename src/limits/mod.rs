//! Who may do how much: allow, or say when to come back. What is counted over all nodes is counted by the broker;
//! here is what a node needs to know not to ask it each time, and what it counts alone.
//!
//! - [`messages`]: messages of a user, over all nodes
//! - [`window`]: requests of a connection, and of a user over HTTP

pub mod messages;
pub mod window;

//! Who may do how much: allow, or say when to come back. What is counted over all nodes is counted by the broker;
//! here is what a node needs to know not to ask it each time, and what it counts alone.
//!
//! - [`admission`]: who gets a connection; [`address`]: by which address a client counts; `connects`: how often it
//!   came; `held`: how many connections it has; `entering`: one who comes;
//!   `calls`: how the others are asked
//! - [`messages`]: messages of a user, over all nodes
//! - [`window`]: requests of a connection, and of a user over HTTP

pub mod address;
pub mod admission;
mod calls;
mod connects;
mod entering;
mod held;
pub mod messages;
pub mod window;

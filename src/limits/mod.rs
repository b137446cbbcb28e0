//! What one user, one address may have: allowed, or refused with a time after which to try again.
//!
//! - [`admission`]: who gets a connection; [`address`]: by which address a client counts; `connects`: how often it
//!   came; `held`: how many connections it has; `entering`: how the others are asked

pub mod address;
pub mod admission;
mod connects;
mod entering;
mod held;

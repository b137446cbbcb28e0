//! piazza
pub mod id;

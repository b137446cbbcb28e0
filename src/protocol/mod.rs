//! What goes over the wire: bytes to requests ([`request`]), events to bytes ([`event`]), the form of a
//! stored message ([`message`]), WebSocket frames ([`frame`]) and why a connection ends ([`close`]).
//! Nothing in here knows of sockets, rooms or brokers.

pub mod close;
pub mod event;
pub mod frame;
pub mod message;
pub mod request;

/// What a node counts and times, with this protocol's enums as labels.
pub type Metrics = crate::metrics::Metrics<request::ErrorCode, close::Close>;

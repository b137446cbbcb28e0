//! Why a connection ends: the code and sentence its close frame carries, and the word the log has for it.

use crate::metrics::Label;

/// Why a connection ends. Where [`Close::code`] is `None`, no close frame is sent: there is nobody to read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// The client closed, with a close frame or by ending the stream.
    ByPeer,
    /// The client's socket failed.
    Broken,
    /// No sign of life for a heartbeat interval after a ping.
    Silent,
    /// The node is shutting down.
    Leaving,
    /// The client broke RFC 6455.
    Protocol,
    /// A text that isn't UTF-8.
    NotUtf8,
    /// A frame or a put-together message over `MAX_FRAME_BYTES`.
    TooBig,
    /// The server can't go on with this connection: it can't say any more whether a message was stored.
    Internal,
    /// The token expired.
    Expired,
    /// An operator ended it.
    Operator,
    /// The socket took no byte for `SLOW_CLIENT_TIMEOUT` though there was something to send.
    Slow,
    /// The client went on asking though it was refused again and again for asking too often.
    Flood,
}

impl Label for Close {
    const ALL: &'static [Close] = &[
        Close::ByPeer,
        Close::Broken,
        Close::Silent,
        Close::Leaving,
        Close::Protocol,
        Close::NotUtf8,
        Close::TooBig,
        Close::Internal,
        Close::Expired,
        Close::Operator,
        Close::Slow,
        Close::Flood,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        self.label()
    }
}

impl Close {
    /// The close frame's code.
    pub fn code(self) -> Option<u16> {
        match self {
            Close::ByPeer | Close::Broken | Close::Silent => None,
            Close::Leaving => Some(1001),
            Close::Protocol => Some(1002),
            Close::NotUtf8 => Some(1007),
            Close::TooBig => Some(1009),
            Close::Internal => Some(1011),
            Close::Expired => Some(4001),
            Close::Operator => Some(4002),
            Close::Slow => Some(4008),
            Close::Flood => Some(4029),
        }
    }

    /// The close frame's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Close::ByPeer => "closed by the client",
            Close::Broken => "the connection broke",
            Close::Silent => "no answer to a ping",
            Close::Leaving => "the server is shutting down",
            Close::Protocol => "protocol error",
            Close::NotUtf8 => "text must be UTF-8",
            Close::TooBig => "message too big",
            Close::Internal => "internal error",
            Close::Expired => "the token has expired",
            Close::Operator => "disconnected by an operator",
            Close::Slow => "the client reads too slowly",
            Close::Flood => "too many requests",
        }
    }

    /// The word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Close::ByPeer => "by_peer",
            Close::Broken => "broken",
            Close::Silent => "silent",
            Close::Leaving => "leaving",
            Close::Protocol => "protocol",
            Close::NotUtf8 => "not_utf8",
            Close::TooBig => "too_big",
            Close::Internal => "internal",
            Close::Expired => "expired",
            Close::Operator => "operator",
            Close::Slow => "slow",
            Close::Flood => "flood",
        }
    }
}

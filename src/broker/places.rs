//! What nodes tell each other of connects and connections, so that limits hold over all of them.
//!
//! - A **window** counts the connects from one source: begun by the first, and gone when its time is over.
//! - A **place** (a user, an address) holds a number per incarnation: how many connections that node has there,
//!   set absolutely. A number with an older version than the one that is held changes nothing.
//! - To **enter** counts a connect, and sets the own numbers if the sums with all others stay within what is
//!   allowed; else nothing is set. It is one atomic step per name, and one call for all where one broker holds
//!   them. As the sum is looked at before it is written, no two that enter at the same time can exceed it. Those who
//!   go in one call are judged one after another, each by what those before it left.
//!
//! The broker doesn't judge who lives: numbers of the dead count until somebody strikes them, or until they have
//! not been told again for 25 minutes.

use std::time::Duration;

use crate::id::Incarnation;

/// Newer than any version that is drawn, and still exact in Redis' Lua.
const FINAL: u64 = (1 << 53) - 1;

/// One who wants to enter.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The connect to be counted.
    pub connect: Option<Connect<'a>>,
    /// The places to be taken, all for the same node.
    pub claims: &'a [Claim<'a>],
}

/// A connect.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// Where it comes from.
    pub source: &'a str,
    /// How many a window takes.
    pub most: u32,
    /// How long a window is.
    pub window: Duration,
}

/// A place to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The node.
    pub own: Incarnation,
    /// Its name.
    pub place: &'a str,
    /// The version of the number.
    pub version: u64,
    /// The own number, with the one who enters.
    pub held: u32,
    /// What the sum may be.
    pub most: u32,
    /// Who is dead: their numbers are removed first.
    pub strike: &'a [Incarnation],
}

/// What came of an [`Ask`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When the window of the connect ends, where one was counted.
    pub left: Option<Duration>,
    /// Whether it was let in.
    pub verdict: Verdict,
}

impl Entry {
    /// Of a node that meets no other.
    pub const ALONE: Entry = Entry {
        left: None,
        verdict: Verdict::In,
    };
}

/// Whether one was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was.
    In,
    /// There were too many connects.
    TooFast,
    /// That claim, by its number, would exceed what is allowed. These hold some of it.
    Full(usize, Vec<Incarnation>),
}

/// A node's number at a place.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    /// The name of the place.
    pub place: &'a str,
    /// Whose it is.
    pub of: Incarnation,
    /// Its version.
    pub version: u64,
    /// How many; 0 removes it.
    pub held: u32,
}

impl Number<'_> {
    /// Removes what the dead left.
    pub fn strike(place: &str, dead: Incarnation) -> Number<'_> {
        Number {
            place,
            of: dead,
            version: FINAL,
            held: 0,
        }
    }
}

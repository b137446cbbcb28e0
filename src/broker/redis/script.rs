//! The scripts that run in Redis, and the names it knows them by.

/// One script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    /// Appends to a room's log.
    Append,
    /// Reads a run of it.
    Read,
    /// Changes a room's roster.
    Roster,
    /// Renews a node's lease.
    Beat,
    /// Lets one in at the door.
    Enter,
    /// Sets how many connections a node has where.
    Places,
}

impl Script {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Script; 6] = [
        Script::Append,
        Script::Read,
        Script::Roster,
        Script::Beat,
        Script::Enter,
        Script::Places,
    ];

    /// Its text.
    pub(super) fn text(self) -> &'static str {
        match self {
            Script::Append => concat!(include_str!("toll.lua"), include_str!("append.lua")),
            Script::Read => include_str!("read.lua"),
            Script::Roster => include_str!("roster.lua"),
            Script::Beat => include_str!("beat.lua"),
            Script::Enter => include_str!("enter.lua"),
            Script::Places => include_str!("places.lua"),
        }
    }
}

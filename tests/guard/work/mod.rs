//! What is counted, in groups; each group is a process of its own. Everything is done through what the crate
//! shows to anybody, in one thread.

pub(crate) mod meter;

mod appends;
mod connections;
mod members;
mod node;
mod parts;
mod presence;
mod rooms;

/// The groups by name.
pub(crate) const GROUPS: [(&str, fn()); 7] = [
    ("members", members::work),
    ("presence", presence::work),
    ("appends", appends::work),
    ("rooms", rooms::work),
    ("connections", connections::work),
    ("resumes", members::resume),
    ("parts", parts::work),
];

/// Does the work of that group.
pub(crate) fn run(group: &str) {
    let known = GROUPS.iter().find(|(name, _)| *name == group);
    let (_, work) = known.unwrap_or_else(|| panic!("no group is called {group}"));
    work();
}

//! How a connected user stands in a list that is kept in order: `"<user>","<name>"`, both as JSON strings, so
//! that no two users share a beginning, and a page goes on after any user.

use std::sync::Arc;

use crate::id::UserId;

/// A user in the list.
pub(super) fn member(user: &UserId, name: &str) -> Vec<u8> {
    let mut member = json(user.as_str());
    member.push(b',');
    member.extend_from_slice(&json(name));
    member
}

/// What lies behind all entries of a user, and before those of any other that follows.
pub(super) fn after(user: &UserId) -> Vec<u8> {
    let mut after = json(user.as_str());
    after.extend_from_slice(b",\xff");
    after
}

fn json(text: &str) -> Vec<u8> {
    // A string always has a JSON form.
    serde_json::to_vec(text).unwrap_or_default()
}

/// One page of several lists' members, each user once.
pub(super) fn page(mut members: Vec<Vec<u8>>, max: usize) -> Vec<(UserId, Arc<str>)> {
    members.sort();
    let users = members.iter().filter_map(|member| {
        let mut strings = serde_json::Deserializer::from_slice(member).into_iter::<String>();
        let user = strings.next()?.ok()?;
        let name = member.get(strings.byte_offset() + 1..)?;
        Some((
            UserId::parse(&user).ok()?,
            serde_json::from_slice(name).ok()?,
        ))
    });
    let mut users: Vec<(UserId, Arc<str>)> = users.collect();
    users.dedup_by(|(one, _), (other, _)| one == other);
    users.truncate(max);
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_where_the_last_ended() {
        let user = |id: &str| UserId::parse(id).unwrap();
        let ids = ["a", "a!", "a\"", "a,b", "b\n", "ß"];
        let all: Vec<Vec<u8>> = ids.iter().map(|id| member(&user(id), "N,\"")).collect();
        let mut seen = Vec::new();
        let mut from = Vec::new();
        loop {
            let rest = all.iter().chain(&all).filter(|member| **member > from);
            let found = page(rest.cloned().collect(), 2);
            let Some((last, name)) = found.last() else {
                break;
            };
            assert_eq!(&**name, "N,\"");
            from = after(last);
            seen.extend(found.into_iter().map(|(user, _)| user));
        }
        assert_eq!(seen.len(), ids.len());
        assert!(ids.iter().all(|id| seen.contains(&user(id))));
    }
}

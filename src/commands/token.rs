//! `piazza token`: prints a JWT that nodes of the same configuration accept.

use std::time::SystemTime;

use super::{Failure, print, read_config};
use crate::auth::{Issuer, NewToken, check_username};
use crate::config::{Config, TOKEN_LIFE, parse_duration};
use crate::id::{RoomId, UserId};

/// What the token is to say.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Whose it is: 1 to 128 bytes
    #[arg(long)]
    pub user_id: String,
    /// What the user is called: 1 to 128 bytes; "user_" and the id where it is missing
    #[arg(long)]
    pub username: Option<String>,
    /// The rooms the user may join, with * for any characters, as in `general,team-*` [default: all]
    #[arg(long, value_delimiter = ',')]
    pub rooms: Option<Vec<String>>,
    /// How long it is valid, as in 30m, 1h, 7d [default: JWT_EXPIRES_IN]
    #[arg(long)]
    pub ttl: Option<String>,
}

/// Prints the token.
///
/// # Errors
/// A bad configuration, or an argument that no token can hold.
pub fn run(args: &Args) -> Result<u8, Failure> {
    // `--dev` plays no part: no node has the secret that it would draw.
    let token = issue(args, &read_config(false)?, SystemTime::now()).map_err(Failure::usage)?;
    print(&format!("{token}\n"))?;
    Ok(0)
}

fn issue(args: &Args, config: &Config, now: SystemTime) -> Result<String, String> {
    let user = UserId::parse(&args.user_id).map_err(|why| format!("--user-id {why}"))?;
    if let Some(username) = &args.username {
        check_username(username).map_err(|why| format!("--username: {why}"))?;
    }
    for room in args.rooms.iter().flatten() {
        // `*` may stand in a room id, so a pattern obeys the same rules.
        RoomId::parse(room).map_err(|why| format!("--rooms: a room {why}, not {room:?}"))?;
    }
    let life = match &args.ttl {
        Some(ttl) => parse_duration(ttl, &TOKEN_LIFE)
            .map_err(|takes| format!("--ttl holds {ttl:?}; {takes}"))?,
        None => config.jwt.expires_in,
    };
    let token = NewToken {
        user: &user,
        username: args.username.as_deref(),
        rooms: args.rooms.as_deref(),
        life,
    };
    Issuer::new(&config.jwt)?.issue(&token, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;

    fn args() -> Args {
        Args {
            user_id: "u1".into(),
            username: None,
            rooms: Some(vec!["a".into(), "b-*".into()]),
            ttl: Some("1h30m".into()),
        }
    }

    #[test]
    fn the_token_is_accepted() {
        let config = Config::dev(&|_| None).unwrap();
        let now = SystemTime::now();
        let token = issue(&args(), &config, now).unwrap();
        let identity = Verifier::new(&config.jwt).judge(&token, now);
        let identity = identity.known().unwrap();
        assert_eq!(&*identity.username, "user_u1");
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert_eq!(identity.expires_at, seconds + 5400);
    }

    #[test]
    fn bad_arguments_are_named() {
        let config = Config::dev(&|_| None).unwrap();
        let some = |text: &str| Some(text.to_owned());
        for (bad, name) in [
            (
                Args {
                    user_id: String::new(),
                    ..args()
                },
                "--user-id",
            ),
            (
                Args {
                    username: some("a\nb"),
                    ..args()
                },
                "--username",
            ),
            (
                Args {
                    rooms: Some(vec!["a b".into()]),
                    ..args()
                },
                "--rooms",
            ),
            (
                Args {
                    ttl: some("soon"),
                    ..args()
                },
                "--ttl",
            ),
            (
                Args {
                    ttl: some("0s"),
                    ..args()
                },
                "--ttl",
            ),
        ] {
            let line = issue(&bad, &config, SystemTime::now()).unwrap_err();
            assert!(line.starts_with(name), "{line}");
        }
    }
}

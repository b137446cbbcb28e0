//! `piazza serve`: one node, until it is told to stop. With `--dev` it also prints two people's tokens
//! and the commands with which they talk to each other.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Failure, block_on, print, read_config};
use crate::auth::{Issuer, NewToken};
use crate::config::JwtConfig;
use crate::id::UserId;
use crate::{server, telemetry};

/// Life of the tokens that `--dev` prints.
const DEV_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Who they are for: user id and username.
const PEOPLE: [(&str, &str); 2] = [("alice", "Alice"), ("bob", "Bob")];

/// Serves until the node is told to stop; gives the exit status. `program` is what the user typed
/// to start this.
///
/// # Errors
/// A bad configuration, or an address that can't be listened on.
pub fn run(dev: bool, program: &str) -> Result<u8, Failure> {
    let config = read_config(dev)?;
    let tokens = if dev {
        dev_tokens(&config.jwt)?
    } else {
        Vec::new()
    };
    let tls = config.tls.is_some();
    let place = SocketAddr::new(config.host, config.port);
    let _guard = telemetry::init(config.log_level, config.log_format, &config.node_id);
    let on_listen = move |address: SocketAddr| {
        if dev {
            // Where nobody can read it, it still serves.
            let _ = print(&banner(address, tls, program, &tokens));
        }
    };
    block_on(
        tokio::runtime::Builder::new_multi_thread(),
        server::serve(config, on_listen),
    )?
    .map_err(|error| Failure::fault(format_args!("can't serve on {place}: {error}")))
}

fn dev_tokens(config: &JwtConfig) -> Result<Vec<(&'static str, String)>, Failure> {
    let issuer = Issuer::new(config).map_err(Failure::usage)?;
    PEOPLE
        .into_iter()
        .map(|(id, username)| {
            let user = UserId::parse(id).map_err(Failure::fault)?;
            let token = NewToken {
                user: &user,
                username: Some(username),
                rooms: None,
                life: DEV_TOKEN_LIFE,
            };
            let text = issuer
                .issue(&token, SystemTime::now())
                .map_err(Failure::fault)?;
            Ok((username, text))
        })
        .collect()
}

fn banner(address: SocketAddr, tls: bool, program: &str, tokens: &[(&str, String)]) -> String {
    let s = if tls { "s" } else { "" };
    let mut text = format!(
        "\npiazza listens on http{s}://{address} (a node to try: 127.0.0.1 alone, tokens for 24 hours)\n"
    );
    // Writing to a String never fails.
    for (name, token) in tokens {
        let _ = write!(text, "\n{name}'s token:\n\n{token}\n");
    }
    text.push_str("\nTo talk to each other, run each of these in a terminal of its own:\n");
    let program = quoted(program);
    for (_, token) in tokens {
        let _ = write!(
            text,
            "\n{program} chat --room general --url ws{s}://{address} --token {token}\n"
        );
    }
    text.push('\n');
    text
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;
    use crate::config::Config;

    #[test]
    fn the_banner_holds_two_commands_that_work() {
        let config = Config::dev(&|_| None).unwrap();
        let tokens = dev_tokens(&config.jwt).unwrap();
        let text = banner(([127, 0, 0, 1], 4000).into(), false, "a b/piazza", &tokens);
        let commands: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("'a b/piazza' chat --room general"))
            .collect();
        assert_eq!(commands.len(), 2);
        for (command, (id, name)) in commands.iter().zip(PEOPLE) {
            assert!(command.contains(" --url ws://127.0.0.1:4000 "));
            let token = command.rsplit(' ').next().unwrap();
            let identity = Verifier::new(&config.jwt).judge(token, SystemTime::now());
            let identity = identity.known().unwrap();
            assert_eq!((identity.user.as_str(), &*identity.username), (id, name));
        }
    }

    #[test]
    fn a_program_is_quoted_for_the_shell() {
        assert_eq!(quoted("target/release/piazza"), "target/release/piazza");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}

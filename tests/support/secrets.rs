//! What no log may hold: every token, secret, password and message text that the tests of this process
//! use is noted here, and every node's log, at debug level, is searched for all of them when it is dropped.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use aho_corasick::AhoCorasick;
use serde_json::Value;

/// Shorter ones may stand in a log by chance: `hello`, or a text that is also a room's name.
const SHORTEST: usize = 12;
/// So much of the beginning is looked for: a log may cut off the end.
const LOOKED_FOR: usize = 40;
/// Load tests say more than needs to be looked for.
const MOST: usize = 20_000;
/// What every JWT begins with: `{"alg":` or `{"typ":`.
const ANY_JWT: [&str; 2] = ["eyJhbGci", "eyJ0eXAi"];

static USED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Notes that it is used, and must not be logged.
pub fn note(secret: &str) {
    let mut used = USED.lock().expect("no panic");
    if secret.len() >= SHORTEST && used.len() < MOST {
        used.insert(secret.chars().take(LOOKED_FOR).collect());
    }
}

/// Notes the text of a message, if that is what a client sends.
pub fn note_text_of(frame: &str) {
    if USED.lock().expect("no panic").len() < MOST
        && let Ok(envelope) = serde_json::from_str::<Value>(frame)
        && let Some(text) = envelope["payload"]["text"].as_str()
    {
        note(text);
    }
}

/// Notes the value of a variable of the environment, if it is a secret's.
pub fn note_variable(name: &str, value: &str) {
    let secret = ["SECRET", "PASSWORD", "_KEY", "METRICS_TOKEN"];
    if secret.iter().any(|end| name.ends_with(end)) {
        note(value);
    }
}

/// Panics where one of them stands in one of these lines.
pub fn assert_none_in<'a>(lines: impl IntoIterator<Item = &'a String>) {
    let used = USED.lock().expect("no panic").clone();
    let patterns: Vec<&str> = used.iter().map(String::as_str).chain(ANY_JWT).collect();
    let search = AhoCorasick::new(&patterns).expect("some strings");
    for line in lines {
        if let Some(found) = search.find(line) {
            panic!(
                "`{}` is logged in {line}",
                patterns[found.pattern().as_usize()]
            );
        }
    }
}

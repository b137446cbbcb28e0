//! The configuration as an operator meets it: `.env.example` names what the program reads, and every
//! bad value is refused in one line that says which, what it held, and what it takes.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use piazza::config::{BrokerConfig, Config, ConfigError, LogLevel, Origins, VARIABLES};

const SECRET: &str = "an-example-secret-of-some-length!";

/// Reads a configuration of a good secret and these variables.
fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut values = BTreeMap::from([("JWT_SECRET", SECRET)]);
    values.extend(pairs.iter().copied());
    Config::read(&|name: &str| values.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn env_example_has_every_variable_once_with_its_default_and_no_other() {
    let file = include_str!("../.env.example");
    let mut named = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty()) {
        let rest = line.strip_prefix('#');
        let rest = rest.unwrap_or_else(|| panic!("not commented out: {line}"));
        // `# ` begins a sentence, `#NAME=` a variable.
        if !rest.starts_with(' ') {
            named.push(rest.split_once('=').expect("NAME=default"));
        }
    }
    let known: Vec<_> = VARIABLES.iter().map(|v| (v.name, v.default)).collect();
    assert_eq!(named, known);
}

#[test]
fn env_example_says_what_each_is_for() {
    let file = include_str!("../.env.example");
    for variable in VARIABLES {
        let entry = format!("# {}\n#{}=", variable.meaning, variable.name);
        assert!(file.contains(&entry), "missing or different:\n{entry}");
    }
}

#[test]
fn the_readme_has_every_variable_with_its_default() {
    let file = include_str!("../README.md");
    let table: Vec<&str> = file
        .lines()
        .filter(|line| line.starts_with("| `") && line.ends_with(". |"))
        .collect();
    let row = |variable: &piazza::config::Variable| {
        let default = match variable.default {
            "" => "–".to_owned(),
            default => format!("`{default}`"),
        };
        format!(
            "| `{}` | {default} | {}. |",
            variable.name, variable.meaning
        )
    };
    assert_eq!(table, VARIABLES.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn a_secret_is_enough_and_the_rest_has_the_documented_defaults() {
    let config = read(&[]).unwrap();
    assert_eq!(
        (config.host.to_string().as_str(), config.port),
        ("0.0.0.0", 8080)
    );
    assert_eq!(config.broker, BrokerConfig::Embedded);
    assert_eq!(config.history_limit, 100);
    assert_eq!(config.history_ttl, Duration::from_secs(7 * 86_400));
    assert_eq!((config.max_text, config.max_frame), (2000, 16 * 1024));
    assert_eq!(config.heartbeat, Duration::from_secs(30));
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.shutdown_grace, Duration::from_secs(10));
    assert_eq!(config.drain_spread, Duration::from_secs(5));
    assert_eq!(config.slow_client_timeout, Duration::from_secs(30));
    assert_eq!(config.presence_events_max, 500);
    assert_eq!(config.max_connections, 100_000);
    assert_eq!(config.max_rooms_per_connection, 200);
    let at_the_door = &config.admission;
    assert_eq!((at_the_door.connects, at_the_door.per_user), (600, 20));
    assert_eq!(at_the_door.window, Duration::from_secs(10));
    assert_eq!(at_the_door.per_address, 0);
    assert!(at_the_door.trusted_proxies.is_empty());
    assert_eq!(config.api_key, None);
    assert_eq!((config.allowed_origins, config.tls), (Origins::Same, None));
    assert_eq!(config.jwt.expires_in, Duration::from_secs(86_400));
    assert_eq!(config.log_level, LogLevel::Info);
}

#[test]
fn an_empty_value_counts_as_unset() {
    let empty: Vec<_> = VARIABLES
        .iter()
        .filter(|variable| variable.name != "JWT_SECRET")
        .map(|variable| (variable.name, ""))
        .collect();
    assert_eq!(read(&empty).unwrap().port, 8080);
    assert!(read(&[("JWT_SECRET", "")]).is_err());
}

#[test]
fn redis_may_be_named_twice() {
    let pairs = [
        ("REDIS_URL", "redis://127.0.0.1:7001/"),
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", "7001"),
    ];
    match read(&pairs).unwrap().broker {
        BrokerConfig::Redis(redis) => assert_eq!(redis.address(), "127.0.0.1:7001/0"),
        BrokerConfig::Embedded => panic!("Redis is set"),
    }
}

/// What somebody puts where a path should be.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIA";

#[test]
fn a_bad_value_is_named_with_what_it_held_and_what_is_taken() {
    let long = "x".repeat(300);
    for (name, value, held, takes) in [
        ("JWT_SECRET", "", "is not set", "at least 32 bytes"),
        ("JWT_SECRET", "too-short", "9 bytes", "at least 32 bytes"),
        (
            "JWT_PREVIOUS_SECRET",
            "too-short",
            "9 bytes",
            "at least 32 bytes",
        ),
        (
            "JWT_PUBLIC_KEY_FILE",
            "/nowhere/keys.pem",
            "\"/nowhere/keys.pem\"",
            "No such file",
        ),
        ("JWT_JWKS_URL", "too-short", "not shown", "https://"),
        ("JWT_PUBLIC_KEY_FILE", PRIVATE, "not shown", "the path"),
        ("TLS_KEY_FILE", PRIVATE, "not shown", "the path"),
        (
            "API_KEY",
            "0123456789abcdef\n",
            "not shown",
            "visible ASCII",
        ),
        ("JWT_ISSUER", long.as_str(), "\"xxx", "at most 256 bytes"),
        ("JWT_AUDIENCE", "a\nb", r#""a\nb""#, "control characters"),
        ("JWT_EXPIRES_IN", "0s", "\"0s\"", "a duration"),
        ("HOST", "localhost", "\"localhost\"", "address"),
        ("PORT", "http", "\"http\"", "0 to 65535"),
        ("PORT", "65536", "\"65536\"", "0 to 65535"),
        ("PORT", " 80", "\" 80\"", "0 to 65535"),
        ("REDIS_URL", "localhost", "without redis://", "redis://"),
        (
            "REDIS_URL",
            "redisss://h",
            "another scheme",
            "rediss:// for TLS",
        ),
        ("REDIS_HOST", "a b", "\"a b\"", "host name"),
        ("REDIS_PORT", "0", "\"0\"", "1 to 65535"),
        (
            "REDIS_USERNAME",
            "me",
            "without a password",
            "REDIS_PASSWORD",
        ),
        ("REDIS_DB", "-1", "\"-1\"", "whole number"),
        ("REDIS_PREFIX", "{x}", "\"{x}\"", "1 to 64 bytes"),
        ("MESSAGE_HISTORY_LIMIT", "0", "\"0\"", "1 to 10000"),
        ("HISTORY_TTL", "30", "\"30\"", "a duration"),
        ("RATE_LIMIT_CONNECTS", "-1", "\"-1\"", "0 to 1000000"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "10", "\"10\"", "a duration"),
        ("RATE_LIMIT_CONNECTS_WINDOW", "1ms", "\"1ms\"", "a duration"),
        ("MAX_CONNECTIONS_PER_USER", "x", "\"x\"", "0 to 1000000"),
        ("MAX_CONNECTIONS_PER_IP", "1000001", "", "0 to 1000000"),
        ("TRUSTED_PROXIES", "nginx", "\"nginx\"", "networks such as"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "/33", "networks such as"),
        ("MAX_TEXT_LENGTH", "100001", "\"100001\"", "1 to 100000"),
        ("MAX_TEXT_LENGTH", "20000", "\"20000\"", "MAX_FRAME_BYTES"),
        ("MAX_FRAME_BYTES", "1KB", "\"1KB\"", "a size"),
        ("MAX_FRAME_BYTES", "17MiB", "\"17MiB\"", "16777216 bytes"),
        ("HEARTBEAT_INTERVAL", "1e3", "\"1e3\"", "a duration"),
        ("HANDSHAKE_TIMEOUT", "2h", "\"2h\"", "to 1h"),
        ("SHUTDOWN_GRACE", "-1s", "\"-1s\"", "from 100ms"),
        ("DRAIN_SPREAD", "2h", "\"2h\"", "to 1h"),
        ("PRESENCE_EVENTS_MAX", "many", "\"many\"", "whole number"),
        ("SLOW_CLIENT_TIMEOUT", "never", "\"never\"", "a duration"),
        ("MAX_CONNECTIONS", "1e6", "\"1e6\"", "whole number"),
        ("MAX_ROOMS_PER_CONNECTION", "-2", "\"-2\"", "whole number"),
        ("ALLOWED_ORIGINS", "a.b", "\"a.b\"", "comma list of origins"),
        ("API_KEY", "too-short", "9 bytes", "16 to 256 visible"),
        ("METRICS_TOKEN", "too-short ", "10 bytes", "visible ASCII"),
        ("NODE_ID", "node 1", "\"node 1\"", "1 to 64 letters"),
        (
            "LOG_LEVEL",
            "loud",
            "\"loud\"",
            "error, warn, info, debug or trace",
        ),
        ("LOG_FORMAT", "xml", "\"xml\"", "json or pretty"),
    ] {
        let error = read(&[(name, value)]).expect_err(name);
        let line = error.to_string();
        assert_eq!(error.subject(), name, "{line}");
        assert!(line.starts_with(name), "{line}");
        assert!(line.contains(held) && line.contains(takes), "{line}");
        assert!(
            !line.contains('\n') && !line.contains("too-short"),
            "{line}"
        );
        assert!(line.len() < 300, "{line}");
    }
}

#[test]
fn what_is_not_there_yet_is_refused_where_ignoring_it_would_be_unsafe() {
    for name in [
        "REDIS_CLUSTER_URLS",
        "REDIS_SENTINEL_URLS",
        "REDIS_SENTINEL_MASTER",
    ] {
        let line = read(&[(name, "hunter2")]).expect_err(name).to_string();
        assert!(line.starts_with(name), "{line}");
        assert!(line.contains("is not supported by this version"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
        assert!(read(&[(name, "")]).is_ok());
    }
}

/// Runs the program with these variables alone, where there is no `.env`.
fn piazza(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_piazza"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_TARGET_TMPDIR"));
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("the program doesn't start: {error}"),
    }
}

#[test]
fn a_bad_configuration_ends_the_program_with_status_2_and_one_line() {
    for (arguments, variables, begins) in [
        (&[][..], &[][..], "piazza: JWT_SECRET is not set"),
        (
            &["serve"],
            &[("JWT_SECRET", "x")],
            "piazza: JWT_SECRET holds 1 bytes",
        ),
        (&["--dev"], &[("PORT", "80a")], "piazza: PORT holds \"80a\""),
        (
            &["check"],
            &[("JWT_SECRET", SECRET), ("LOG_LEVEL", "a\nb")],
            "piazza: LOG_LEVEL holds",
        ),
        (
            &["token", "--user-id", ""],
            &[("JWT_SECRET", SECRET)],
            "piazza: --user-id",
        ),
        (&["chat", "--room", "r"], &[], "piazza: a token is needed"),
        (
            &["chat", "--room", "a b", "--token", "t"],
            &[],
            "piazza: --room",
        ),
    ] {
        let output = piazza(arguments, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with(begins), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_program_prints_a_token() {
    let arguments = ["token", "--user-id", "7", "--rooms", "a,b-*", "--ttl", "1h"];
    let output = piazza(&arguments, &[("JWT_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(0));
    let token = String::from_utf8_lossy(&output.stdout);
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    assert_eq!(token.lines().count(), 1, "{token}");
}

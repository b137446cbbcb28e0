//! Every variable that this version reads, once: its name, its default, what it means. The reader
//! takes the defaults from here, and a test compares `.env.example` with it.

/// One variable of the environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What counts where it is unset or empty; empty: nothing does.
    pub default: &'static str,
    /// What it is for and what it takes, in one line.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($name:ident = $default:literal, $meaning:literal;)*) => {
        $(pub(super) const $name: Variable = Variable {
            name: stringify!($name),
            default: $default,
            meaning: $meaning,
        };)*

        /// All of them, in the order of the documentation.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    HOST = "0.0.0.0", "IP address it listens on";
    PORT = "8080", "TCP port it listens on; 0 takes any free one";
    JWT_SECRET = "", "HS256 secret that tokens are verified with, at least 32 bytes; required unless a public key or JWKS is set, or --dev";
    JWT_PREVIOUS_SECRET = "", "secret that is still accepted, for rotation, at least 32 bytes";
    JWT_PUBLIC_KEY_FILE = "", "file of public keys that tokens are verified with: PEM, RS256, ES256 or EdDSA as the key says";
    JWT_JWKS_URL = "", "http:// or https:// address of a JWK set that tokens are verified with";
    JWT_ISSUER = "", "the `iss` that every token must have, where set";
    JWT_AUDIENCE = "", "the `aud` that every token must have, where set";
    JWT_EXPIRES_IN = "24h", "life of the tokens that piazza itself issues";
    REDIS_URL = "", "redis://[[user]:password@]host[:port][/db], rediss:// for TLS, where nodes meet; without any REDIS_ variable one node serves alone";
    REDIS_HOST = "", "host of Redis, where REDIS_URL names none (127.0.0.1 if another of these is set)";
    REDIS_PORT = "", "port of Redis, where REDIS_URL names none (6379)";
    REDIS_PASSWORD = "", "password of Redis, where REDIS_URL holds none";
    REDIS_USERNAME = "", "user of Redis, where REDIS_URL holds none; needs a password";
    REDIS_DB = "", "number of the Redis database, where REDIS_URL names none (0)";
    REDIS_PREFIX = "chat:", "in front of every Redis key and channel";
    MESSAGE_HISTORY_LIMIT = "100", "messages kept per room";
    HISTORY_TTL = "7d", "an idle room's history goes after that long, from Redis two minutes later at most";
    MAX_TEXT_LENGTH = "2000", "longest text of a message in UTF-16 units";
    MAX_FRAME_BYTES = "16KiB", "largest WebSocket frame, and message put together";
    HEARTBEAT_INTERVAL = "30s", "time between pings; a peer that answers none in that time is dropped";
    HANDSHAKE_TIMEOUT = "10s", "a TLS handshake and a request head must be complete after that long";
    SHUTDOWN_GRACE = "10s", "then a stopping node ends whatever is still open";
    DRAIN_SPREAD = "5s", "longest time over which a stopping node lets its clients go; at most half of SHUTDOWN_GRACE";
    PRESENCE_EVENTS_MAX = "500", "rooms of more users get no user_joined and user_left";
    SLOW_CLIENT_TIMEOUT = "30s", "a client that takes no byte for so long is closed with 4008";
    MAX_CONNECTIONS = "100000", "connections of this node at once; 0 is off";
    MAX_CONNECTIONS_PER_USER = "20", "connections of one user at once, over all nodes; 0 is off";
    MAX_CONNECTIONS_PER_IP = "0", "connections from one address (of IPv6: one /64) at once, over all nodes; 0 is off";
    MAX_ROOMS_PER_CONNECTION = "200", "rooms that one connection may be in; 0 is off";
    ALLOWED_ORIGINS = "", "comma list of the web origins that browsers may come from, * for any; where unset, the same origin as the Host header";
    TLS_CERT_FILE = "", "PEM file of a certificate and those above it: the port speaks TLS; read again on SIGHUP";
    TLS_KEY_FILE = "", "PEM file of its private key";
    RATE_LIMIT_CONNECTS = "600", "connects from one address (of IPv6: one /64) in a window, over all nodes; 0 is off";
    RATE_LIMIT_CONNECTS_WINDOW = "10s", "the window of RATE_LIMIT_CONNECTS, begun by its first connect";
    TRUSTED_PROXIES = "", "proxies, as addresses or networks with commas between them, whose X-Forwarded-For or X-Real-IP names the client";
    RATE_LIMIT_MESSAGES = "60", "messages that a user may send in one window, over all nodes; 0 is off";
    RATE_LIMIT_WINDOW = "10s", "the window that messages and other requests are counted in";
    RATE_LIMIT_REQUESTS = "600", "other requests of one connection in one window, and of one user over HTTP; 0 is off";
    API_KEY = "", "key of the operator's HTTP routes, 16 to 256 visible ASCII characters; they answer 404 where unset";
    METRICS_TOKEN = "", "what a reader of /metrics must bring as `Authorization: Bearer`; anyone may read it where unset";
    NODE_ID = "", "name of this node in logs and /health; random where unset";
    LOG_LEVEL = "info", "error, warn, info, debug or trace";
    LOG_FORMAT = "json", "json or pretty; pretty where unset on a terminal";
}

/// Variables of the documentation that ask for something this version can't do. Ignoring one would
/// leave the operator with less safety than was asked for, or with another broker, so it is refused.
pub(super) const NOT_YET: &[&str] = &[
    "REDIS_CLUSTER_URLS",
    "REDIS_SENTINEL_URLS",
    "REDIS_SENTINEL_MASTER",
];

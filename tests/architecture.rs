//! Reminders that hold themselves: who may import whom, which outside crate has which door, and how
//! long a file may be.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

/// Lowest first: a module imports from its own row and from rows above alone.
const LAYERS: [&[&str]; 12] = [
    &[
        "clock",
        "id",
        "maps",
        "metrics",
        "shutdown",
        "telemetry",
        "tls",
    ],
    &["protocol", "config", "keys"],
    &["history"],
    &["auth", "presence"],
    &["broker"],
    &["hub", "limits"],
    &["cluster"],
    &["connection", "drain"],
    &["http"],
    &["server"],
    &["commands"],
    &["main"],
];

/// Outside crates, and where alone they are used.
const DOORS: [(&str, &[&str]); 11] = [
    ("redis::", &["broker/redis/"]),
    ("axum::", &["http/", "server.rs"]),
    ("jsonwebtoken::", &["auth/"]),
    ("hyper_rustls::", &["auth/fetch.rs"]),
    ("rsa::", &["keys/"]),
    ("p256::", &["keys/"]),
    ("ed25519_dalek::", &["keys/"]),
    ("prometheus::", &["metrics.rs", "metrics/"]),
    (
        "tokio_rustls::",
        &["tls.rs", "connection/stream.rs", "http/upgrade.rs"],
    ),
    ("tikv_jemallocator::", &["main.rs"]),
    ("std::env::", &["config/", "commands/", "main.rs"]),
];

const LONGEST: usize = 500;

/// Every source file: its path below `src/`, and its text without tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    files
        .iter()
        .map(|path| (name(path), std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn imports_point_upward() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let module = name.split(['/', '.']).next().unwrap();
        if module == "lib" || name.contains("tests") {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{name} has no layer"));
        for line in code(&text) {
            for part in line.split("crate::").skip(1) {
                let end = part
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(part.len());
                let imported = &part[..end];
                if imported != module && layer(imported).is_some_and(|other| other > own) {
                    wrong.push(format!("{name} imports {imported}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_outside_crate_has_one_door() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        for (outside, doors) in DOORS {
            if doors.iter().any(|door| name.starts_with(door)) || name.contains("tests") {
                continue;
            }
            let uses = |line: &&str| {
                line.match_indices(outside).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                })
            };
            // `redis` is also a module of the broker's and of the configuration's, named by its parent.
            let parents = ["broker/mod.rs", "config/mod.rs"];
            let inside = outside == "redis::" && parents.contains(&name.as_str());
            wrong.extend(
                code(&text)
                    .filter(uses)
                    .filter(|_| !inside)
                    .map(|line| format!("{name}: {}", line.trim())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_longer_than_a_head_holds() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

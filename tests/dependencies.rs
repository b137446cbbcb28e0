//! What the program is made of besides its own code: where each crate comes from, under which licence it may be
//! passed on, and that there is one version of each. Advisories aren't looked up here, as their database isn't part
//! of the registry: `cargo audit` does that where the network allows it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// The one place that crates come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that ask for nothing but that they are named.
const LICENCES: [&str; 8] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Unicode-3.0",
    "Zlib",
];

/// Crates of which other crates need two versions, and which ones. A name that isn't needed here any more is an error.
const TWICE: [(&str, &str); 5] = [
    ("getrandom", "0.2 by rand_core 0.6, 0.3 by rand_core 0.9"),
    (
        "rand",
        "0.8 by rsa's number generation, 0.9 by nanoid and tungstenite",
    ),
    ("rand_chacha", "as rand"),
    ("rand_core", "0.6 by the signature traits, 0.9 by rand 0.9"),
    (
        "syn",
        "2 by most derive macros, 3 by the newest; at build time alone",
    ),
];

/// Everything that goes into the program on this machine, its tests' own crates among it.
fn packages() -> Vec<Value> {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc");
    let about = String::from_utf8(rustc.stdout).expect("UTF-8");
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", host.expect("a host")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let why = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "{why}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    assert!(packages.len() > 50, "only {}", packages.len());
    packages
}

fn text<'a>(package: &'a Value, name: &str) -> &'a str {
    package[name].as_str().unwrap_or_default()
}

#[test]
fn every_crate_comes_from_the_registry() {
    for package in packages() {
        let own = text(&package, "name") == env!("CARGO_PKG_NAME");
        assert!(own || text(&package, "source") == REGISTRY, "{package}");
    }
}

#[test]
fn every_licence_lets_the_program_be_passed_on() {
    for package in packages() {
        let (name, licence) = (text(&package, "name"), text(&package, "license"));
        let read = Expression::parse_mode(licence, ParseMode::LAX);
        let read = read.unwrap_or_else(|why| panic!("{name}: {licence}: {why}"));
        let allowed = read.evaluate(|one| {
            let id = one.license.id();
            id.is_some_and(|id| LICENCES.contains(&id.name))
        });
        assert!(allowed, "{name}: {licence}");
    }
}

#[test]
fn there_is_one_version_of_each() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let of = versions.entry(text(&package, "name").to_owned());
        of.or_default().insert(text(&package, "version").to_owned());
    }
    versions.retain(|_, versions| versions.len() > 1);
    let twice: BTreeSet<&str> = versions.keys().map(String::as_str).collect();
    let known = BTreeSet::from(TWICE.map(|(name, _)| name));
    assert_eq!(twice, known, "{versions:#?}");
}

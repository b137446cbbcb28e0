//! Bytes that are made to hurt, on a stable toolchain: what is kept below `tests/corpus` is replayed as
//! it is, and then mutated with a seed. `FUZZ_SECONDS` (2) bounds each target, `FUZZ_SEED` begins it.
//! An input that was found once is put into the corpus and stays.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutate;
mod payload;
mod regressions;
mod request;
mod resume;

fn fuzz(name: &str, judge: impl Fn(&[u8])) {
    mutate::fuzz(name, 0, judge);
}

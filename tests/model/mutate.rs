//! A corpus, and inputs made of it: bytes changed, dropped, doubled, moved, and pieces of one input put
//! into another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest input, in bytes.
const LONGEST: usize = 4_096;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Inputs that are tried at least, however slow the machine.
const AT_LEAST: u64 = 250;

/// Replays a corpus and mutates it, as one of several that may do so side by side; how many inputs it tried.
/// `judge` panics where something doesn't hold; the input is printed as a Rust byte string then.
pub(crate) fn fuzz(name: &str, nth: u64, judge: impl Fn(&[u8])) -> u64 {
    let corpus = corpus(name);
    let judged = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| judge(input))) {
            eprintln!("{name}: b\"{}\"", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| judged(input));
    let mut random = Random(variable("FUZZ_SEED", 1) ^ (nth << 32));
    let until = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS", 2));
    let mut count = 0_u64;
    while Instant::now() < until || count < AT_LEAST {
        for _ in 0..250 {
            let mut input = corpus[random.below(corpus.len())].clone();
            mutate(&mut input, &corpus, &mut random);
            judged(&input);
            count += 1;
        }
    }
    count
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    const ALPHABET: &[u8] = b"{}[]\",:\\u0d8e-+.1nt \n\x00\x7f\xc3\xff";
    for _ in 0..1 + random.below(5) {
        if input.is_empty() {
            input.push(b'm');
        }
        let (at, other) = (random.below(input.len()), random.below(input.len()));
        let byte = ALPHABET[random.below(ALPHABET.len())];
        match random.below(8) {
            0 => input[at] = byte,
            1 => input.insert(at, byte),
            2 => drop(input.remove(at)),
            3 => input.swap(at, other),
            4 => input[at] ^= 1 << random.below(8),
            5 => input.truncate(at + 1),
            6 => {
                let piece = input[at.min(other)..at.max(other)].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let from = &corpus[random.below(corpus.len())];
                let begin = random.below(from.len() + 1);
                let end = begin + random.below(from.len() - begin + 1);
                input.splice(at..at, from[begin..end].iter().copied());
            }
        }
    }
    input.truncate(LONGEST);
}

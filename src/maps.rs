//! Maps that give memory back: a map never does so by itself, and what a crowd left behind would stay until the
//! node ends, and be walked through whenever somebody looks at all of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// Entries that a map may have room for, whatever is in it.
const SPARE: usize = 64;

/// Shrinks a map of which less than a quarter is used, after something was taken out: to twice of what it has,
/// so that it costs little for each that goes, and whoever comes next finds room.
pub fn fit<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.capacity() > SPARE && map.capacity() / 4 > map.len() {
        map.shrink_to(2 * map.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_was_large_gives_back_and_one_that_is_used_keeps() {
        let mut map: HashMap<usize, usize> = (0..10_000).map(|n| (n, n)).collect();
        let full = map.capacity();
        fit(&mut map);
        assert_eq!(map.capacity(), full);
        let mut shrunk = 0;
        for n in 0..10_000 {
            map.remove(&n);
            let before = map.capacity();
            fit(&mut map);
            shrunk += usize::from(map.capacity() < before);
            assert!(map.capacity() <= 4 * map.len() + 2 * SPARE);
        }
        assert!((1..20).contains(&shrunk), "{shrunk} times");
    }
}

//! What the broker has is compared with what is true, whatever overtakes what.

use std::collections::HashMap;

use super::*;

fn place(name: &str) -> Place {
    Place::from(name)
}

/// The broker's side: takes a number unless it has a newer one.
#[derive(Default)]
struct Kept(HashMap<Place, Count>);

impl Kept {
    fn set(&mut self, place: &Place, count: Count) {
        let newest = self.0.get(place).map_or(0, |kept| kept.version);
        if count.version >= newest {
            self.0.insert(place.clone(), count);
        }
    }

    fn held(&self, place: &Place) -> u32 {
        self.0.get(place).map_or(0, |kept| kept.held)
    }
}

fn tell_all(held: &Held, kept: &mut Kept) {
    for (place, count) in held.next(usize::MAX) {
        kept.set(&place, count);
        held.answered(&place, count, Fate::Written);
    }
}

#[test]
fn one_who_was_let_in_and_goes_leaves_nothing() {
    let (held, mut kept, ann) = (Held::new(true), Kept::default(), place("ann"));
    let count = held.take(&ann, 1).unwrap();
    assert_eq!(held.take(&ann, 1), None);
    kept.set(&ann, count);
    held.answered(&ann, count, Fate::Written);
    assert!(held.is_quiet() && held.is_settled());
    held.release(&ann);
    assert!(!held.is_quiet());
    tell_all(&held, &mut kept);
    assert_eq!((kept.held(&ann), held.len()), (0, 0));
    assert!(held.is_quiet());
}

#[test]
fn one_who_was_refused_leaves_nothing_and_nothing_to_tell() {
    let (held, ann) = (Held::new(true), place("ann"));
    let count = held.take(&ann, 5).unwrap();
    held.release(&ann);
    held.answered(&ann, count, Fate::Refused);
    assert!(held.is_quiet());
    assert_eq!(held.len(), 0);
}

#[test]
fn what_overtakes_doesnt_make_the_number_smaller_than_it_is() {
    let (held, mut kept, ann) = (Held::new(true), Kept::default(), place("ann"));
    let (one, two) = (held.take(&ann, 9).unwrap(), held.take(&ann, 9).unwrap());
    for (count, of) in [(two, 2), (one, 2)] {
        kept.set(&ann, count);
        held.answered(&ann, count, Fate::Written);
        assert_eq!(kept.held(&ann), of);
    }
    assert!(held.is_quiet() && held.is_settled());
}

#[test]
fn what_is_unknown_is_told_again() {
    let (held, mut kept, ann) = (Held::new(true), Kept::default(), place("ann"));
    let count = held.take(&ann, 9).unwrap();
    // Its answer was lost; it may have been carried out.
    held.answered(&ann, count, Fate::Unknown);
    kept.set(&ann, count);
    held.release(&ann);
    tell_all(&held, &mut kept);
    assert_eq!((kept.held(&ann), held.len()), (0, 0));
}

#[test]
fn one_who_leaves_while_a_call_is_on_its_way_is_told_of_after_it() {
    let (held, mut kept, ann) = (Held::new(true), Kept::default(), place("ann"));
    let one = held.take(&ann, 9).unwrap();
    held.answered(&ann, one, Fate::Written);
    let two = held.take(&ann, 9).unwrap();
    held.release(&ann);
    assert!(held.is_quiet());
    kept.set(&ann, two);
    held.answered(&ann, two, Fate::Written);
    tell_all(&held, &mut kept);
    assert_eq!(kept.held(&ann), 1);
    held.release(&ann);
    tell_all(&held, &mut kept);
    assert_eq!((kept.held(&ann), held.len()), (0, 0));
}

#[test]
fn after_a_loss_all_is_told_again_and_older_answers_prove_nothing() {
    let (held, mut kept, ann, bob) = (Held::new(true), Kept::default(), place("a"), place("b"));
    let count = held.take(&bob, 9).unwrap();
    held.answered(&bob, count, Fate::Written);
    let on_its_way = held.take(&ann, 9).unwrap();
    held.all_anew();
    // The old broker had it; the new one hasn't.
    held.answered(&ann, on_its_way, Fate::Written);
    tell_all(&held, &mut kept);
    assert_eq!((kept.held(&ann), kept.held(&bob)), (1, 1));
    assert!(held.is_quiet() && held.is_settled());
}

#[test]
fn alone_there_is_nobody_to_tell() {
    let (held, ann) = (Held::new(false), place("ann"));
    let count = held.take(&ann, 1).unwrap();
    held.answered(&ann, count, Fate::Refused);
    held.all_anew();
    assert_eq!(held.take(&ann, 1), None);
    assert!(held.is_quiet());
    held.release(&ann);
    assert_eq!(held.len(), 0);
}

/// Many come, go, are refused and lost at random; the broker's number is never below those that were let in, and in
/// the end nothing is left anywhere.
#[test]
fn the_brokers_number_is_never_too_low() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let (held, mut kept, ann) = (Held::new(true), Kept::default(), place("ann"));
        let (mut flying, mut telling, mut inside) = (Vec::new(), Vec::new(), 0_u32);
        for _ in 0..200 {
            match random(5) {
                0 | 1 => flying.extend(held.take(&ann, 8)),
                2 if !flying.is_empty() => {
                    let count: Count = flying.swap_remove(random(flying.len() as u64) as usize);
                    if random(3) == 0 {
                        held.release(&ann);
                        held.answered(&ann, count, Fate::Refused);
                    } else {
                        kept.set(&ann, count);
                        inside += 1;
                        held.answered(&ann, count, Fate::Written);
                    }
                }
                3 if inside > 0 => {
                    inside -= 1;
                    held.release(&ann);
                }
                4 if telling.is_empty() => telling = held.next(1),
                _ => {
                    for (place, count) in telling.drain(..) {
                        let fate = [Fate::Written, Fate::Unknown][random(2) as usize];
                        if fate == Fate::Written || random(2) == 0 {
                            kept.set(&place, count);
                        }
                        held.answered(&place, count, fate);
                    }
                }
            }
            assert!(kept.held(&ann) >= inside);
        }
        for (place, count) in telling {
            held.answered(&place, count, Fate::Unknown);
        }
        for count in flying {
            held.release(&ann);
            held.answered(&ann, count, Fate::Refused);
        }
        (0..inside).for_each(|_| held.release(&ann));
        tell_all(&held, &mut kept);
        assert_eq!((kept.held(&ann), held.len()), (0, 0));
        assert!(held.is_quiet());
    }
}

//! The checker is checked: a good history passes, and each that is forged is found out, for what it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]
// What only the run itself needs of these modules.
#![allow(dead_code)]

mod checker;
mod history;
mod sight;
mod sight_tests;
mod verdict;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use checker::{Run, Taken, check};
use history::{Entry, Event, Id, Mark, Said, What};
use verdict::{KINDS, Kind, Verdict};

const CLIENTS: u16 = 3;
const MESSAGES: u32 = 6;

/// A run of one room: client 0 sends, all are members, nothing is wrong.
#[derive(Clone)]
struct Forgery {
    events: Vec<Event>,
    stored: Vec<Entry>,
    taken: Vec<Taken>,
}

fn entry(seq: u64, number: u32) -> Entry {
    let said = Said { author: 0, number };
    Entry {
        mark: Mark {
            seq,
            id: Id::parse(&format!("id-{number:09}")).unwrap(),
        },
        said: Some(said),
    }
}

fn history(continues: bool, messages: Vec<Entry>, seq: u64) -> What {
    What::History {
        continues,
        seq,
        messages,
    }
}

impl Forgery {
    fn good() -> Forgery {
        let mut forgery = Forgery {
            events: Vec::new(),
            stored: Vec::new(),
            taken: Vec::new(),
        };
        (0..CLIENTS).for_each(|client| forgery.add(client, history(false, vec![], 0)));
        (1..=MESSAGES).for_each(|number| forgery.say(number));
        forgery
    }

    fn add(&mut self, client: u16, what: What) {
        let at = Duration::from_millis(self.events.len() as u64);
        self.events.push(Event {
            at,
            client,
            room: 0,
            what,
        });
    }

    /// Client 0 says something; it is stored, acked and given to all.
    fn say(&mut self, number: u32) {
        let entry = entry(self.stored.len() as u64 + 1, number);
        self.add(0, What::Sent(entry.said.unwrap()));
        self.stored.push(entry);
        (0..CLIENTS).for_each(|client| self.add(client, What::Message(entry)));
        self.add(0, What::Acked(entry.said.unwrap(), entry.mark));
    }

    /// Where a client was given the message at that place.
    fn delivery(&self, client: u16, seq: u64) -> usize {
        let is_it = |event: &Event| match &event.what {
            What::Message(entry) => event.client == client && entry.mark.seq == seq,
            _ => false,
        };
        self.events.iter().position(is_it).unwrap()
    }

    fn check(&self) -> Verdict {
        check(&Run {
            events: &self.events,
            taken: &self.taken,
            stored: &BTreeMap::from([(0, self.stored.clone())]),
            limit: 100,
        })
    }

    #[track_caller]
    fn is_found_to_be(&self, kind: Kind) {
        let verdict = self.check();
        assert!(
            verdict.count(kind) > 0,
            "{kind:?} isn't found: {verdict:#?}"
        );
    }

    #[track_caller]
    fn is_clean(&self) -> Verdict {
        let verdict = self.check();
        assert!(verdict.is_clean(), "{verdict:#?}");
        verdict
    }
}

#[test]
fn a_good_history_passes() {
    let verdict = Forgery::good().is_clean();
    assert_eq!(verdict.acked, MESSAGES as usize);
    assert_eq!(verdict.deliveries, MESSAGES as usize * CLIENTS as usize);
    assert_eq!((verdict.told, verdict.gone, verdict.refused), (0, 0, 0));
    assert!(KINDS.iter().all(|kind| verdict.count(*kind) == 0));
}

#[test]
fn a_lost_message_is_found() {
    for seq in 1..=u64::from(MESSAGES) {
        let mut forgery = Forgery::good();
        forgery.events.remove(forgery.delivery(1, seq));
        forgery.is_found_to_be(Kind::Lost);
    }
}

#[test]
fn an_acked_message_that_is_nowhere_is_found() {
    let mut forgery = Forgery::good();
    let lost = Said {
        author: 0,
        number: 99,
    };
    forgery.add(0, What::Sent(lost));
    forgery.add(0, What::Acked(lost, entry(7, 99).mark));
    forgery.is_found_to_be(Kind::Lost);
}

#[test]
fn a_doubled_message_is_found() {
    let mut forgery = Forgery::good();
    let at = forgery.delivery(2, 3);
    let again = forgery.events[at].clone();
    forgery.events.insert(at + 1, again);
    forgery.is_found_to_be(Kind::Doubled);
}

#[test]
fn a_text_that_was_stored_twice_is_found() {
    let mut forgery = Forgery::good();
    let mut again = entry(7, 3);
    again.mark.id = Id::parse("another-id-1").unwrap();
    forgery.stored.push(again);
    (0..CLIENTS).for_each(|client| forgery.add(client, What::Message(again)));
    forgery.is_found_to_be(Kind::Doubled);
}

#[test]
fn two_swapped_messages_are_found() {
    let mut forgery = Forgery::good();
    let (one, two) = (forgery.delivery(1, 3), forgery.delivery(1, 4));
    forgery.events.swap(one, two);
    forgery.is_found_to_be(Kind::Reordered);
}

/// Both have places without holes, but not the same messages at them.
#[test]
fn another_order_for_one_member_is_found() {
    let mut forgery = Forgery::good();
    for (seq, number) in [(3, 4), (4, 3)] {
        let at = forgery.delivery(1, seq);
        forgery.events[at].what = What::Message(entry(seq, number));
    }
    forgery.is_found_to_be(Kind::Reordered);
}

#[test]
fn an_invented_message_is_found() {
    let mut forgery = Forgery::good();
    let invented = entry(7, 99);
    forgery.stored.push(invented);
    (0..CLIENTS).for_each(|client| forgery.add(client, What::Message(invented)));
    forgery.is_found_to_be(Kind::Invented);
}

#[test]
fn a_changed_text_is_found() {
    let mut forgery = Forgery::good();
    let at = forgery.delivery(1, 3);
    forgery.events[at].what = What::Message(Entry {
        said: None,
        ..entry(3, 3)
    });
    forgery.is_found_to_be(Kind::Invented);
}

#[test]
fn a_message_that_got_error_and_yet_appears_is_found() {
    let mut forgery = Forgery::good();
    for event in &mut forgery.events {
        if let What::Acked(said, mark) = event.what
            && mark.seq == 3
        {
            event.what = What::Refused(said);
        }
    }
    forgery.is_found_to_be(Kind::Refused);
    // With another try, whose answer never came, it may be there.
    let said = entry(3, 3).said.unwrap();
    forgery.events.insert(3, forgery.events[0].clone());
    forgery.events[3].what = What::Sent(said);
    forgery.is_clean();
}

#[test]
fn a_message_that_got_error_and_stays_away_is_right() {
    let mut forgery = Forgery::good();
    let refused = Said {
        author: 1,
        number: 1,
    };
    forgery.add(1, What::Sent(refused));
    forgery.add(1, What::Refused(refused));
    assert_eq!(forgery.is_clean().refused, 1);
}

#[test]
fn who_comes_back_goes_on_where_it_was() {
    let mut forgery = Forgery::good();
    let missed = vec![entry(4, 4), entry(5, 5), entry(6, 6)];
    for seq in 4..=6 {
        forgery.events.remove(forgery.delivery(1, seq));
    }
    forgery.add(1, What::Cut);
    forgery.add(1, history(true, missed.clone(), 6));
    forgery.is_clean();
    // A resume that skips one, or repeats one, doesn't.
    let last = forgery.events.len() - 1;
    forgery.events[last].what = history(true, missed[1..].to_vec(), 6);
    forgery.is_found_to_be(Kind::Lost);
    let repeated = [vec![entry(3, 3)], missed].concat();
    forgery.events[last].what = history(true, repeated, 6);
    forgery.is_found_to_be(Kind::Doubled);
}

#[test]
fn who_was_told_has_lost_nothing_but_has_to_have_been_told_for_a_reason() {
    let mut forgery = Forgery::good();
    for seq in 3..=6 {
        forgery.events.remove(forgery.delivery(1, seq));
    }
    forgery.is_found_to_be(Kind::Lost);
    forgery.add(1, history(false, vec![entry(5, 5), entry(6, 6)], 6));
    let verdict = forgery.check();
    assert_eq!((verdict.count(Kind::Lost), verdict.told), (0, 1));
    // The history still had what it needed.
    assert_eq!(verdict.count(Kind::Needless), 1);
    let trimmed = check(&Run {
        events: &forgery.events,
        taken: &[],
        stored: &BTreeMap::from([(0, forgery.stored[2..].to_vec())]),
        limit: 4,
    });
    assert!(trimmed.is_clean(), "{trimmed:#?}");
}

#[test]
fn what_a_fault_took_is_gone_for_all_or_found() {
    let mut forgery = Forgery::good();
    let now = forgery.events.last().unwrap().at;
    forgery.taken.push(Taken {
        from: now,
        to: now,
        room: None,
    });
    let anew = entry(1, 50);
    forgery.stored = vec![anew];
    forgery.add(0, What::Sent(anew.said.unwrap()));
    forgery.add(0, What::Acked(anew.said.unwrap(), anew.mark));
    (0..CLIENTS).for_each(|client| forgery.add(client, history(false, vec![anew], 1)));
    assert_eq!(forgery.is_clean().gone, MESSAGES as usize);
    // One that wasn't told still has the old ones.
    forgery.events.pop();
    assert!(!forgery.check().is_clean());
}

/// What was said after everything was taken has the places of what was there before. When it is trimmed
/// and all were told, nobody is left with it; but it was there, and another at its place is wrong.
#[test]
fn a_place_may_have_been_anothers_before_a_fault() {
    let mut forgery = Forgery::good();
    let now = forgery.events.last().unwrap().at;
    forgery.taken.push(Taken {
        from: now,
        to: now,
        room: None,
    });
    let said = |forgery: &mut Forgery, entry: Entry| {
        forgery.add(0, What::Sent(entry.said.unwrap()));
        forgery.add(0, What::Acked(entry.said.unwrap(), entry.mark));
        entry
    };
    said(&mut forgery, entry(3, 50));
    forgery.stored = (60..64)
        .map(|number| said(&mut forgery, entry(u64::from(number) - 20, number)))
        .collect();
    let seen = history(false, forgery.stored.clone(), 43);
    (0..CLIENTS).for_each(|client| forgery.add(client, seen.clone()));
    forgery.is_clean();
    // One member had another message there, which is as new.
    let (told, other) = (
        forgery.events.split_off(forgery.events.len() - 3),
        entry(3, 51),
    );
    forgery.add(0, What::Sent(other.said.unwrap()));
    forgery.add(1, history(false, vec![other], 3));
    forgery.events.extend(told);
    forgery.is_found_to_be(Kind::Lost);
}

/// Before everything was taken, one member had two messages in another order.
#[test]
fn another_order_in_what_was_replaced_is_found() {
    let mut forgery = Forgery::good();
    for (seq, number) in [(3, 4), (4, 3)] {
        let at = forgery.delivery(1, seq);
        forgery.events[at].what = What::Message(entry(seq, number));
    }
    let now = forgery.events.last().unwrap().at;
    forgery.taken.push(Taken {
        from: now,
        to: now,
        room: None,
    });
    forgery.stored.clear();
    (0..CLIENTS).for_each(|client| forgery.add(client, history(false, vec![], 0)));
    forgery.is_found_to_be(Kind::Reordered);
}

#[test]
fn a_fault_does_not_excuse_what_was_sent_after_it() {
    let mut forgery = Forgery::good();
    forgery.taken.push(Taken {
        from: Duration::ZERO,
        to: Duration::from_millis(1),
        room: None,
    });
    forgery.is_clean();
    let said = Said {
        author: 0,
        number: 99,
    };
    forgery.add(0, What::Sent(said));
    forgery.add(0, What::Acked(said, entry(7, 99).mark));
    forgery.is_found_to_be(Kind::Lost);
}

#[test]
fn texts_say_who_said_them() {
    for number in [0, 1, 7, 23, 4_000_000] {
        let said = Said { author: 3, number };
        assert_eq!(Said::parse(&said.text()), Some(said));
        assert_eq!(Said::parse(&(said.text() + "~")), None);
    }
    assert_eq!(Said::parse("hello"), None);
}

//! The resume decision over any tail and any read, fitting or not: it never panics, a page lies within
//! what is known, all of it is at hand, and "recovered" is said only of a mark that is there.

use bytes::Bytes;
use piazza::history::{Decision, Joined, Page, Slice, View, Want, decide};
use piazza::hub::tail::Tail;
use piazza::id::{Mark, MessageId, Seq};
use piazza::protocol::request::Since;

use crate::fuzz;

/// Reads choices from bytes; zeros when they end.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.0.next().copied().unwrap_or_default()) % end
    }

    /// Of lineage 0 to 2: two lineages share their first places, a third shares none.
    fn mark(&mut self, lineage: u64, seq: u64) -> Mark {
        let lineage = if lineage == 1 && seq <= 6 { 0 } else { lineage };
        let id = format!("{lineage}-{seq:0>10}");
        Mark {
            seq: Seq(seq),
            id: MessageId::parse(id.as_bytes()).unwrap(),
        }
    }

    fn tail(&mut self) -> Tail {
        let (lineage, oldest) = (self.below(3), 1 + self.below(8));
        let count = self.below(20);
        let mut tail = Tail::new(1 + self.below(30) as usize);
        // Large ones fall out of the bytes, and the index reaches further back.
        let len = if self.below(4) == 0 { 70_000 } else { 10 };
        let message = vec![b'x'; len];
        for seq in (oldest..).take(count as usize) {
            tail.push_message(self.mark(lineage, seq), &message);
        }
        if self.below(3) == 0 {
            // Events push all messages out of the bytes.
            for _ in 0..2 {
                tail.push_event(&[&b"\x81\x7f\0\0\0\0\0\x02\0\0"[..], &[b'e'; 0x20000]].concat());
            }
        }
        let from_index = tail.oldest();
        tail.set_oldest(from_index.max(Seq(oldest)));
        tail
    }

    fn slice(&mut self) -> Slice {
        let (lineage, oldest) = (self.below(3), 1 + self.below(12));
        let (count, skip) = (self.below(25), self.below(6));
        let messages: Vec<_> = (oldest..oldest + count)
            .skip(skip as usize)
            .map(|seq| (self.mark(lineage, seq), Bytes::new()))
            .collect();
        Slice {
            messages,
            head: (count > 0).then(|| self.mark(lineage, oldest + count - 1)),
            oldest: Seq(oldest),
        }
    }

    fn want(&mut self) -> Want {
        let limit = 1 + self.below(20) as usize;
        match self.below(6) {
            0 => Want::Newest(limit),
            1 => Want::Before(Seq(self.below(40)), limit),
            2 => Want::Since(Since::Nothing, limit),
            3 => Want::Since(Since::Unknown, limit),
            _ => {
                let (lineage, seq) = (self.below(3), 1 + self.below(30));
                Want::Since(Since::After(self.mark(lineage, seq)), limit)
            }
        }
    }
}

fn holds(view: &impl View, want: Want, page: Page) {
    let end = view.head().map_or(Seq(1), |head| head.seq.next());
    assert!(page.from <= page.to && page.to <= end, "{page:?}");
    let mut at = page.from;
    while at < page.to {
        assert_eq!(
            view.mark_at(at).map(|mark| mark.seq),
            Some(at),
            "{page:?}: not at hand"
        );
        at = at.next();
    }
    match want {
        Want::Newest(limit) | Want::Before(_, limit) => {
            assert!(page.recovered.is_none() && page.to.0 - page.from.0 <= limit as u64);
        }
        Want::Since(since, limit) => {
            let recovered = page.recovered.expect("it says whether it is recovered");
            assert_eq!(page.to, end);
            match since {
                _ if !recovered => assert!(page.to.0 - page.from.0 <= limit as u64),
                Since::After(mark) => {
                    assert_eq!(
                        (view.mark_at(mark.seq), page.from),
                        (Some(mark), mark.seq.next())
                    );
                }
                Since::Nothing => assert_eq!(page.from, Seq(1)),
                Since::Unknown => panic!("recovered from nowhere"),
            }
        }
    }
}

#[test]
fn any_view_answers_any_want() {
    fuzz("resume", |bytes| {
        let mut choices = Choices(bytes.iter());
        let (tail, past, want) = (choices.tail(), choices.slice(), choices.want());
        if let Decision::Answer(page) = decide(&tail, want) {
            holds(&tail, want, page);
        }
        let joined = Joined {
            past: &past,
            tail: &tail,
        };
        if let Decision::Answer(page) = decide(&joined, want) {
            holds(&joined, want, page);
            one_lineage(&joined, page);
        }
    });
}

/// The messages of a page are of the lineage of the head that the client is told.
fn one_lineage(joined: &Joined<'_, Tail>, page: Page) {
    let lineage = |mark: Mark| mark.id.as_str().as_bytes()[0];
    let Some(head) = joined.head() else { return };
    let mut at = page.from;
    while at < page.to {
        let mark = joined.mark_at(at).expect("it is at hand");
        // The second lineage shares the first one's beginning.
        let same = lineage(mark) == lineage(head)
            || (mark.seq <= Seq(6) && lineage(head) == b'1' && lineage(mark) == b'0');
        assert!(same, "{mark:?} in a page that ends at {head:?}");
        at = at.next();
    }
}

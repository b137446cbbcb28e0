//! What the model found in the cursors, each as the story that it was.

use super::link::Link;
use super::node::Node;
use super::random::Random;
use crate::history::Want;

/// A connection in as many rooms, each of which has a few messages for it.
fn joined(rooms: usize) -> (Vec<Node>, Link, Random) {
    let mut random = Random(1);
    let mut nodes: Vec<_> = (0..rooms).map(|number| Node::new(number, 100)).collect();
    let mut link = Link::new(0, rooms);
    for (number, node) in nodes.iter_mut().enumerate() {
        (0..3).for_each(|_| node.load(false).expect("it opens"));
        link.question(number, node, Want::Newest(5));
    }
    link.turn(&mut nodes, 1 << 16, |len| len).expect("it joins");
    for (number, node) in nodes.iter_mut().enumerate() {
        for _ in 0..3 {
            let payload = node.broker.append(1, 40, number, &mut random);
            node.deliver(payload).expect("it is delivered");
        }
    }
    (nodes, link, random)
}

/// A socket that is full in the middle of what several rooms gave: nothing comes twice, wherever it
/// was cut, also where nothing was taken at all.
#[test]
fn a_write_that_is_cut_anywhere_gives_every_message_once() {
    let mut whole = 0;
    let mut cut = 0;
    while cut == 0 || cut < whole {
        let (mut nodes, mut link, _) = joined(3);
        link.turn(&mut nodes, 1 << 16, |len| {
            whole = len;
            cut
        })
        .unwrap_or_else(|why| panic!("cut at {cut} of {whole}: {why}"));
        for _ in 0..3 {
            link.turn(&mut nodes, 1 << 16, |len| len)
                .unwrap_or_else(|why| panic!("cut at {cut} of {whole}: {why}"));
        }
        assert_eq!(link.client.messages, 9, "cut at {cut} of {whole}");
        cut += 1;
    }
}

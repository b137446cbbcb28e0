//! One case: rooms, connections, and steps that a seed chooses. Each step is one word that holds all of
//! its chance, so a failing case stays the same when other steps are taken out of it.

use super::client::check;
use super::link::Link;
use super::node::Node;
use super::random::Random;
use crate::history::Want;
use crate::hub::driver;
use crate::id::{Mark, Seq};
use crate::protocol::request::Since;

/// What may happen in a case.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) rooms: usize,
    pub(super) links: usize,
    /// Messages that the history keeps.
    pub(super) limit: usize,
    /// Bytes of the longest text.
    pub(super) pad: usize,
    /// Whether the broker may lose data.
    pub(super) loses_data: bool,
    /// Whether deliveries may be lost, doubled and reordered.
    pub(super) loses_deliveries: bool,
    /// Whether reads may fail.
    pub(super) fails: bool,
    /// Whether the end is mended by one more message, or by a look at the history.
    pub(super) ends_with_a_message: bool,
    /// One word per step.
    pub(super) steps: Vec<u64>,
}

impl Plan {
    pub(super) fn random(random: &mut Random) -> Plan {
        let many = random.one_in(40);
        let large = random.one_in(16);
        let steps = match (many, large) {
            (true, _) => 400,
            (_, true) => 100,
            _ => 10 + random.below(80),
        };
        Plan {
            rooms: if many { 70 } else { 1 + random.below(16) / 13 },
            links: if many { 1 } else { 1 + random.below(3) },
            limit: match random.below(3) {
                0 => 1 + random.below(5),
                1 => 5 + random.below(40),
                _ => 1_000,
            },
            pad: if large && !many { 60_000 } else { 40 },
            loses_data: random.one_in(3),
            loses_deliveries: random.one_in(2),
            fails: random.one_in(3),
            ends_with_a_message: random.one_in(2),
            steps: (0..steps).map(|_| random.next()).collect(),
        }
    }
}

/// What was met, to see that a run met everything.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Met {
    pub(super) cases: usize,
    pub(super) messages: usize,
    pub(super) recovered: usize,
    pub(super) resets: usize,
    pub(super) resets_by_trimming: usize,
    pub(super) unavailable: usize,
}

impl Met {
    pub(super) fn add(&mut self, other: Met) {
        self.cases += other.cases;
        self.messages += other.messages;
        self.recovered += other.recovered;
        self.resets += other.resets;
        self.resets_by_trimming += other.resets_by_trimming;
        self.unavailable += other.unavailable;
    }
}

pub(super) struct World<'p> {
    plan: &'p Plan,
    nodes: Vec<Node>,
    links: Vec<Link>,
}

impl World<'_> {
    /// Carries a case out; an error says what was wrong.
    pub(super) fn run(plan: &Plan) -> Result<Met, String> {
        let mut world = World {
            plan,
            nodes: (0..plan.rooms).map(|n| Node::new(n, plan.limit)).collect(),
            links: (0..plan.links).map(|n| Link::new(n, plan.rooms)).collect(),
        };
        for (n, step) in plan.steps.iter().enumerate() {
            world
                .step(&mut Random(*step))
                .map_err(|why| format!("step {n}: {why}"))?;
        }
        world.end().map_err(|why| format!("end: {why}"))?;
        Ok(world.met())
    }

    fn step(&mut self, random: &mut Random) -> Result<(), String> {
        let number = random.below(self.nodes.len());
        let link = random.below(self.links.len());
        let node = &mut self.nodes[number];
        match random.below(100) {
            0..14 => {
                let (count, pad) = (1 + random.below(4), random.below(self.plan.pad));
                let payload = node.broker.append(count, pad, number, random);
                let own = random.one_in(2);
                if own && random.one_in(2) {
                    node.acked();
                }
                if !(self.plan.loses_deliveries && random.one_in(12)) {
                    node.channel.push_back(payload);
                }
                if own {
                    node.acked();
                }
            }
            14..30 => {
                for _ in 0..1 + random.below(3) {
                    if let Some(payload) = node.channel.pop_front() {
                        node.deliver(payload)?;
                    }
                }
            }
            30..34 => self.disturb(number, random)?,
            34..36 => {
                if self.plan.loses_deliveries {
                    node.channel.clear();
                }
                node.distrust()?;
            }
            36..38 => {
                if self.plan.loses_data && random.one_in(2) {
                    let len = if random.one_in(4) {
                        0
                    } else {
                        random.below(node.broker.len() + 1)
                    };
                    node.broker.roll_back(len);
                }
            }
            38..50 => {
                let want = self.want(number, link, random);
                self.links[link].question(number, &mut self.nodes[number], want);
            }
            50..53 => self.links[link].leave(number),
            53 => self.links[link].users(number),
            54..71 => {
                let write = [200, 2_000, 64 * 1024][random.below(3)];
                let how = random.below(5);
                self.links[link].turn(&mut self.nodes, write, |len| match how {
                    0 => 0,
                    1 => random.below(12),
                    2 => random.below(len + 1),
                    3 => len.saturating_sub(random.below(200)),
                    _ => len,
                })?;
            }
            71..76 => node.typing(random.below(self.plan.pad))?,
            76..79 => {
                node.tell_roster(self.plan.fails && random.one_in(4));
            }
            79..81 => node.elsewhere(random),
            81..88 => node.load(self.plan.fails && random.one_in(4))?,
            88..95 => node.read(self.plan.fails && random.one_in(4))?,
            95..97 => node.watch()?,
            97 => self.links[link].pong(random.below(300)),
            98 if self.plan.fails => node.fail_opening(self.plan.limit),
            _ => node.open_anew(self.plan.limit),
        }
        Ok(())
    }

    /// Something happens to what is on its way.
    fn disturb(&mut self, number: usize, random: &mut Random) -> Result<(), String> {
        let node = &mut self.nodes[number];
        if !self.plan.loses_deliveries {
            return Ok(());
        }
        match random.below(4) {
            0 if !node.channel.is_empty() => {
                let at = random.below(node.channel.len());
                node.channel
                    .remove(at)
                    .map_or(Ok(()), |payload| node.deliver(payload))
            }
            1 if !node.delivered.is_empty() => {
                let payload = node.delivered[random.below(node.delivered.len())].clone();
                node.deliver(payload)
            }
            2 => node.deliver(b"?".to_vec()),
            _ => {
                node.channel.pop_front();
                Ok(())
            }
        }
    }

    fn want(&self, number: usize, link: usize, random: &mut Random) -> Want {
        let broker = &self.nodes[number].broker;
        let limit = 1 + random.below(self.plan.limit.min(8));
        let client = &self.links[link].client;
        if client.views.contains_key(&number) && random.one_in(2) {
            return Want::Before(Seq(random.below(broker.len() + 3) as u64), limit);
        }
        let any = |random: &mut Random| match broker.marks.len() {
            0 => Mark {
                seq: Seq(1),
                id: random.id(),
            },
            len => broker.marks[random.below(len)],
        };
        let since = match random.below(9) {
            0 => return Want::Newest(limit),
            1 => Since::Nothing,
            2 => Since::Unknown,
            3 => Since::After(Mark {
                id: random.id(),
                ..any(random)
            }),
            4 => {
                let seq = Seq((broker.len() + 1 + random.below(5)) as u64);
                Since::After(Mark {
                    seq,
                    id: random.id(),
                })
            }
            5 => Since::After(any(random)),
            6 => broker.head().map_or(Since::Nothing, Since::After),
            _ => match client.left.get(&number).copied().flatten() {
                Some(last) => Since::After(last),
                None => return Want::Newest(limit),
            },
        };
        Want::Since(since, limit)
    }

    /// The faults stop. Everything that is on its way arrives, and everybody must be whole.
    fn end(&mut self) -> Result<(), String> {
        let mut random = Random(self.plan.steps.first().copied().unwrap_or_default());
        for node in &mut self.nodes {
            while let Some(payload) = node.channel.pop_front() {
                node.deliver(payload)?;
            }
        }
        // A read from before the broker lost data may be the last to arrive; only what comes next
        // tells.
        self.come_to_rest()?;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if self.plan.ends_with_a_message {
                let payload = node.broker.append(1, 40, number, &mut random);
                node.deliver(payload)?;
            } else {
                node.distrust()?;
            }
            node.compare_roster();
        }
        self.come_to_rest()?;
        self.links.iter().try_for_each(|link| self.is_whole(link))
    }

    fn come_to_rest(&mut self) -> Result<(), String> {
        for round in 0.. {
            let mut busy = false;
            for node in &mut self.nodes {
                busy |= !node.is_idle();
                node.load(false)?;
                node.read(false)?;
                busy |= node.tell_roster(false);
                while let Some(payload) = node.channel.pop_front() {
                    node.deliver(payload)?;
                }
            }
            for link in &mut self.links {
                if link.is_busy() {
                    busy = true;
                    link.turn(&mut self.nodes, 64 * 1024, |len| len)?;
                }
            }
            check!(round < 2_000, "it doesn't come to rest");
            if !busy {
                break;
            }
        }
        Ok(())
    }

    fn is_whole(&self, link: &Link) -> Result<(), String> {
        check!(link.is_silent(), "something is left unwritten");
        check!(link.client.questions.is_empty(), "a question has no answer");
        for (number, node) in self.nodes.iter().enumerate() {
            let (room, broker) = (driver::head(&node.room), node.broker.head());
            let view = link.client.views.get(&number);
            check!(
                view.is_some() == link.slots[number].is_some(),
                "who is a member isn't agreed"
            );
            let Some(view) = view else { continue };
            check!(
                room == broker,
                "r{number}: the room has {room:?}, the broker {broker:?}"
            );
            check!(
                view.last == broker,
                "r{number}: the client has {:?}, the broker {broker:?}",
                view.last
            );
            // In a room of many, coming and going isn't told.
            if node.room.look(|presence| presence.members().is_quiet()) {
                continue;
            }
            for (user, there) in &view.present {
                let number_of = user.strip_prefix('u').and_then(|n| n.parse::<usize>().ok());
                let really = match number_of {
                    Some(n) => self.links[n].slots[number].is_some(),
                    None => node.roster.has(user),
                };
                check!(
                    *there == really,
                    "r{number}: {user} is there: told {there}, really {really}"
                );
            }
        }
        Ok(())
    }

    fn met(&self) -> Met {
        let mut met = Met {
            cases: 1,
            ..Met::default()
        };
        for link in &self.links {
            met.messages += link.client.messages;
            met.recovered += link.client.recovered;
            met.unavailable += link.client.unavailable;
            for (number, view) in &link.client.views {
                met.resets += view.resets;
                if !self.nodes[*number].broker.lost_data {
                    met.resets_by_trimming += view.resets;
                }
            }
        }
        met
    }
}

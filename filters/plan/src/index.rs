//! Finds the first rule that matches without trying them all.
//!
//! The rules of a plan are mostly keyed: an interface, a method, a tenant, each with a value of its own. The index is a
//! tree that asks for one such attribute at each step, so that a call meets only the rules that agree with it on the
//! way down, whatever the number of the others. Rules that cannot be keyed are tried one by one.
use meltemi_codecs::Head;
use rustc_hash::FxHashMap;

use super::matcher::{Rule, Test};
use super::{map::Map, prefixes::Prefixes, steps};

/// The rules of a service, in the order of the plan, and the tree that leads to them.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: Box<[Rule]>,
    /// For each rule the predicates, by bit, that hold for every call that the tree leads to it.
    known: Box<[u64]>,
    root: Node,
}

/// A set of rules. A rule of the set is in exactly one place: below one of the tables, or in the rest.
#[derive(Debug, Default)]
struct Node {
    tables: Box<[Table]>,
    /// Where the tables of an attribute are, when there may be more of them than attributes in a head.
    directory: Option<Map<Box<[usize]>>>,
    /// Numbers of the rules that are tried one by one, sorted.
    rest: Box<[usize]>,
}

/// The rules of a node that test one attribute in one way.
#[derive(Debug)]
struct Table {
    attribute: Box<str>,
    /// The lowest number of its rules: nothing here can win against one that is lower.
    first: usize,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Exact(Map<Node>),
    Prefix(Prefixes<Node>),
}

/// A set of so many rules is tried one by one: that costs no more than another step would.
const LEAF: usize = 4;

/// Steps of the tree, so that a plan cannot make it deep.
const MAX_DEPTH: usize = 6;

/// With more tables than this the head's attributes are looked up among the tables, not the tables' in the head.
const DIRECTORY: usize = 8;

impl Index {
    /// Indexes rules that are given in the order in which they are tried.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut known = vec![0; rules.len()].into_boxed_slice();
        let root = Builder { rules: &rules, known: &mut known }.node((0..rules.len()).collect(), 0);
        Self { rules: rules.into(), known, root }
    }

    /// The number of the route of the first rule that matches.
    #[inline]
    pub(super) fn find(&self, head: &Head) -> Option<usize> {
        let mut search = Search { index: self, head, best: self.rules.len() };
        search.node(&self.root);
        self.rules.get(search.best).map(|rule| rule.route)
    }

    /// The rules, in the order in which they are tried.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

struct Search<'a> {
    index: &'a Index,
    head: &'a Head,
    /// The first rule that is known to match so far; the number of rules when there is none.
    best: usize,
}

impl Search<'_> {
    #[inline]
    fn node(&mut self, node: &Node) {
        match &node.directory {
            // By whichever there are fewer of, so that a search costs little for each rule that it meets.
            Some(directory) if self.head.len() < node.tables.len() => {
                for (attribute, _) in self.head.iter() {
                    steps::take();
                    let numbers = directory.get(attribute).into_iter().flatten();
                    numbers.filter_map(|number| node.tables.get(*number)).for_each(|table| self.table(table));
                }
            }
            _ => node.tables.iter().for_each(|table| self.table(table)),
        }
        for number in node.rest.iter().take_while(|number| **number < self.best) {
            if self.matches(*number) {
                self.best = *number;
                return;
            }
        }
    }

    #[inline]
    fn table(&mut self, table: &Table) {
        steps::take();
        if table.first >= self.best {
            return;
        }
        let Some(value) = self.head.get(&table.attribute) else { return };
        match &table.keys {
            Keys::Exact(nodes) => nodes.get(value).into_iter().for_each(|node| self.node(node)),
            Keys::Prefix(nodes) => nodes.of(value).for_each(|node| self.node(node)),
        }
    }

    #[inline]
    fn matches(&self, number: usize) -> bool {
        steps::take();
        let rule = self.index.rules.get(number).zip(self.index.known.get(number));
        rule.is_some_and(|(rule, known)| rule.matches_rest(*known, self.head))
    }
}

struct Builder<'a> {
    rules: &'a [Rule],
    known: &'a mut [u64],
}

/// A way to distinguish rules: by one attribute, whole or by its beginning.
struct Candidate<'a> {
    attribute: &'a str,
    exact: bool,
    /// Where the group of a value is.
    values: FxHashMap<&'a str, usize>,
    /// The values, with the rules that go there.
    groups: Vec<(&'a str, Vec<usize>)>,
}

/// A predicate that a table could ask for.
struct Key<'a> {
    /// The number of the predicate in its rule.
    position: usize,
    attribute: &'a str,
    exact: bool,
    value: &'a str,
}

impl<'a> Builder<'a> {
    fn node(&mut self, members: Vec<usize>, depth: usize) -> Node {
        if members.len() <= LEAF || depth >= MAX_DEPTH {
            return Node { rest: members.into(), ..Node::default() };
        }
        let mut candidates = Candidates::default();
        let mut places = Vec::new();
        for number in &members {
            places.extend(self.keys(*number).map(|key| candidates.add(&key)));
        }
        let mut places = places.into_iter();
        let mut rest = Vec::new();
        for number in members {
            // Each rule goes where most values distinguish the rules.
            let keys = self.keys(number).zip(&mut places);
            let best = keys.max_by_key(|(key, place)| (candidates.values(*place), key.exact));
            match best {
                None => rest.push(number),
                Some((key, place)) => {
                    candidates.take(place, number);
                    if let Some(known) = self.known.get_mut(number) {
                        *known |= 1 << key.position;
                    }
                }
            }
        }
        let tables = candidates.list.into_iter().filter_map(|candidate| self.table(candidate, depth));
        let tables: Box<[Table]> = tables.collect();
        Node { directory: (tables.len() > DIRECTORY).then(|| directory(&tables)), tables, rest: rest.into() }
    }

    /// The table of the rules that went to a candidate, if any did.
    fn table(&mut self, candidate: Candidate<'a>, depth: usize) -> Option<Table> {
        let mut first = None;
        let mut nodes = Vec::new();
        for (value, members) in candidate.groups {
            let Some(number) = members.first().copied() else { continue };
            first = Some(first.map_or(number, |first| usize::min(first, number)));
            nodes.push((Box::from(value), self.node(members, depth.saturating_add(1))));
        }
        let keys =
            if candidate.exact { Keys::Exact(Map::new(nodes)) } else { Keys::Prefix(Prefixes::new(nodes)) };
        Some(Table { attribute: candidate.attribute.into(), first: first?, keys })
    }

    /// The predicates of a rule that a table could ask for and none on the way here has.
    fn keys(&self, number: usize) -> impl Iterator<Item = Key<'a>> {
        let known = self.known.get(number).copied().unwrap_or_default();
        let predicates = self.rules.get(number).map_or(&[][..], |rule| &rule.predicates);
        predicates.iter().take(64).enumerate().filter_map(move |(position, predicate)| {
            let (exact, value) = match &predicate.test {
                Test::Exact(value) => (true, value),
                Test::Prefix(value) => (false, value),
                _ => return None,
            };
            let open = !predicate.invert && known & (1 << position) == 0;
            open.then_some(Key { position, attribute: &predicate.attribute, exact, value })
        })
    }
}

#[derive(Default)]
struct Candidates<'a> {
    list: Vec<Candidate<'a>>,
    /// Where the candidates of an attribute are in the list: by prefix, and whole.
    by_prefix: FxHashMap<&'a str, usize>,
    by_whole: FxHashMap<&'a str, usize>,
}

/// Where a key is: the number of its candidate, and of its value among those of that.
#[derive(Clone, Copy)]
struct Place(usize, usize);

impl<'a> Candidates<'a> {
    fn add(&mut self, key: &Key<'a>) -> Place {
        let numbers = if key.exact { &mut self.by_whole } else { &mut self.by_prefix };
        let number = *numbers.entry(key.attribute).or_insert(self.list.len());
        if number == self.list.len() {
            let (values, groups) = Default::default();
            self.list.push(Candidate { attribute: key.attribute, exact: key.exact, values, groups });
        }
        let Some(Candidate { values, groups, .. }) = self.list.get_mut(number) else {
            return Place(number, 0);
        };
        let value = *values.entry(key.value).or_insert(groups.len());
        if value == groups.len() {
            groups.push((key.value, Vec::new()));
        }
        Place(number, value)
    }

    /// How many values the candidate of a place has.
    fn values(&self, Place(number, _): Place) -> usize {
        self.list.get(number).map_or(0, |candidate| candidate.groups.len())
    }

    /// Puts a rule into the group of a place.
    fn take(&mut self, Place(number, value): Place, rule: usize) {
        let group = self.list.get_mut(number).and_then(|candidate| candidate.groups.get_mut(value));
        group.into_iter().for_each(|(_, members)| members.push(rule));
    }
}

fn directory(tables: &[Table]) -> Map<Box<[usize]>> {
    let mut names = FxHashMap::default();
    let mut lists: Vec<(Box<str>, Vec<usize>)> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let place = *names.entry(&*table.attribute).or_insert(lists.len());
        match lists.get_mut(place) {
            Some((_, list)) => list.push(number),
            None => lists.push((table.attribute.clone(), vec![number])),
        }
    }
    Map::new(lists.into_iter().map(|(name, list)| (name, list.into())).collect())
}

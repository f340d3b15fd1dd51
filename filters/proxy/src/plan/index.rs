//! Finds the first rule that matches without trying them all.
//!
//! The rules of a plan are mostly keyed: an interface, a method, a tenant, each with a value of its own. The index is a
//! tree that asks for one such attribute at each step, so that a call meets only the rules that agree with it on the
//! way down, whatever the number of the others. Rules that cannot be keyed are tried one by one.
use meltemi_codecs::Head;
use rustc_hash::{FxHashMap, FxHashSet};

use super::matcher::{Rule, Test};
use super::prefixes::Prefixes;

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
    /// Where the tables of an attribute are, when there are too many of them to ask the head for each.
    directory: Option<FxHashMap<Box<str>, Box<[usize]>>>,
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
    Exact(FxHashMap<Box<str>, Node>),
    Prefix(Prefixes<Node>),
}

/// A set of so many rules is tried one by one: that costs no more than another step would.
const LEAF: usize = 4;

/// Steps of the tree, so that a plan cannot make it deep.
const MAX_DEPTH: usize = 6;

/// With more tables than this the head's attributes are looked up among the tables, not the tables' in the head.
const DIRECTORY: usize = 8;

impl Index {
    /// Indexes rules that stand in the order in which they are tried.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut known = vec![0; rules.len()].into_boxed_slice();
        let root = Builder { rules: &rules, known: &mut known }.node((0..rules.len()).collect(), 0);
        Self { rules: rules.into(), known, root }
    }

    /// The number of the route of the first rule that matches.
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
    fn node(&mut self, node: &Node) {
        match &node.directory {
            None => node.tables.iter().for_each(|table| self.table(table)),
            Some(directory) => {
                for (attribute, _) in self.head.iter() {
                    let numbers = directory.get(attribute).into_iter().flatten();
                    numbers.filter_map(|number| node.tables.get(*number)).for_each(|table| self.table(table));
                }
            }
        }
        for number in node.rest.iter().take_while(|number| **number < self.best) {
            if self.matches(*number) {
                self.best = *number;
                return;
            }
        }
    }

    fn table(&mut self, table: &Table) {
        if table.first >= self.best {
            return;
        }
        let Some(value) = self.head.get(&table.attribute) else { return };
        match &table.keys {
            Keys::Exact(nodes) => nodes.get(value).into_iter().for_each(|node| self.node(node)),
            Keys::Prefix(nodes) => nodes.of(value).for_each(|node| self.node(node)),
        }
    }

    fn matches(&self, number: usize) -> bool {
        let rule = self.index.rules.get(number).zip(self.index.known.get(number));
        rule.is_some_and(|(rule, known)| rule.matches_rest(*known, self.head))
    }
}

struct Builder<'a> {
    rules: &'a [Rule],
    known: &'a mut [u64],
}

/// What a table asks: which attribute, and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    attribute: &'a str,
    exact: bool,
}

impl<'a> Builder<'a> {
    fn node(&mut self, members: Vec<usize>, depth: usize) -> Node {
        if members.len() <= LEAF || depth >= MAX_DEPTH {
            return Node { rest: members.into(), ..Node::default() };
        }
        let mut values: FxHashMap<Key<'a>, FxHashSet<&'a str>> = FxHashMap::default();
        for number in &members {
            for (_, key, value) in self.keys(*number) {
                values.entry(key).or_default().insert(value);
            }
        }
        // Each rule goes where most values tell the rules apart. The position decides between equals, which makes the
        // tree the same for the same plan.
        let mut tables: Vec<(Key<'a>, Vec<(usize, &'a str)>)> = Vec::new();
        let mut places: FxHashMap<Key<'a>, usize> = FxHashMap::default();
        let mut rest = Vec::new();
        for number in members {
            let distinct = |key: &Key<'a>| values.get(key).map_or(0, FxHashSet::len);
            let best = self.keys(number).rev().max_by_key(|(_, key, _)| (distinct(key), key.exact));
            let Some((position, key, value)) = best else {
                rest.push(number);
                continue;
            };
            if let Some(known) = self.known.get_mut(number) {
                *known |= 1 << position;
            }
            let place = *places.entry(key).or_insert_with(|| {
                tables.push((key, Vec::new()));
                tables.len().saturating_sub(1)
            });
            if let Some((_, entries)) = tables.get_mut(place) {
                entries.push((number, value));
            }
        }
        let tables: Box<[Table]> =
            tables.into_iter().map(|(key, entries)| self.table(key, entries, depth)).collect();
        Node { directory: (tables.len() > DIRECTORY).then(|| directory(&tables)), tables, rest: rest.into() }
    }

    fn table(&mut self, key: Key<'a>, entries: Vec<(usize, &'a str)>, depth: usize) -> Table {
        let first = entries.first().map_or(usize::MAX, |(number, _)| *number);
        let mut groups: FxHashMap<&'a str, Vec<usize>> = FxHashMap::default();
        for (number, value) in entries {
            groups.entry(value).or_default().push(number);
        }
        let nodes = groups
            .into_iter()
            .map(|(value, members)| (Box::from(value), self.node(members, depth.saturating_add(1))));
        let keys = if key.exact { Keys::Exact(nodes.collect()) } else { Keys::Prefix(nodes.collect()) };
        Table { attribute: key.attribute.into(), first, keys }
    }

    /// The predicates of a rule that a table could ask for and none on the way here has: position, key, value.
    fn keys(&self, number: usize) -> impl DoubleEndedIterator<Item = (usize, Key<'a>, &'a str)> {
        let known = self.known.get(number).copied().unwrap_or_default();
        let predicates = self.rules.get(number).map_or(&[][..], |rule| &rule.predicates);
        predicates.iter().take(64).enumerate().filter_map(move |(position, predicate)| {
            let (exact, value) = match &predicate.test {
                Test::Exact(value) => (true, value),
                Test::Prefix(value) => (false, value),
                _ => return None,
            };
            let open = !predicate.invert && known & (1 << position) == 0;
            open.then_some((position, Key { attribute: &predicate.attribute, exact }, &**value))
        })
    }
}

fn directory(tables: &[Table]) -> FxHashMap<Box<str>, Box<[usize]>> {
    let mut directory: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
    for (number, table) in tables.iter().enumerate() {
        directory.entry(&table.attribute).or_default().push(number);
    }
    directory.into_iter().map(|(attribute, tables)| (attribute.into(), tables.into())).collect()
}

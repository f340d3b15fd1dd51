use core::ops::Range;

/// What routing reads of a request: names and values, in the order in which the codec found them.
///
/// A `Head` is made once and reused: [`clear`](Head::clear) keeps its memory, so that decoding a request allocates
/// nothing. Names are unique; a second [`push`](Head::push) of a name is kept but never found.
#[derive(Debug, Default, Clone)]
pub struct Head {
    text: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Range<usize>,
    value: Range<usize>,
    attachment: bool,
}

impl Head {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every attribute and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    /// Adds an attribute that the protocol itself names, such as Dubbo's `interface`.
    pub fn push(&mut self, name: &str, value: &str) {
        self.add(name, value, false);
    }

    /// Adds an attribute that the caller of the RPC named: an attachment, a metadata entry.
    pub fn push_attachment(&mut self, name: &str, value: &str) {
        self.add(name, value, true);
    }

    /// Makes `value` all that is known under `name`, whoever said something of it before; `None` leaves nothing.
    pub fn replace(&mut self, name: &str, value: Option<&str>) {
        let Self { text, entries } = self;
        entries.retain(|entry| text.get(entry.name.clone()) != Some(name));
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    fn add(&mut self, name: &str, value: &str, attachment: bool) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.entries.push(Entry { name: start..middle, value: middle..self.text.len(), attachment });
    }

    /// The value of the attribute `name`, the protocol's own before the caller's.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Every attribute as (name, value), in order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|entry| self.resolve(entry))
    }

    /// The attributes that the protocol itself names.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter(|entry| !entry.attachment).filter_map(|entry| self.resolve(entry))
    }

    /// The attributes that the caller named.
    pub fn attachments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter(|entry| entry.attachment).filter_map(|entry| self.resolve(entry))
    }

    fn resolve(&self, entry: &Entry) -> Option<(&str, &str)> {
        Some((self.text.get(entry.name.clone())?, self.text.get(entry.value.clone())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_is_all_that_is_known() {
        let mut head = Head::new();
        head.push("method", "a");
        head.push_attachment("source.ip", "forged");
        head.push("source.ip", "forged too");
        head.push_attachment("tag", "x");
        head.replace("source.ip", Some("10.0.0.1"));
        assert_eq!(
            head.iter().collect::<Vec<_>>(),
            [("method", "a"), ("tag", "x"), ("source.ip", "10.0.0.1")]
        );
        head.replace("source.ip", None);
        head.replace("never", None);
        assert_eq!(head.iter().collect::<Vec<_>>(), [("method", "a"), ("tag", "x")]);
        assert_eq!(head.get("source.ip"), None);
    }
}

//! To whom things are exported: `exportTo`.

/// The namespaces that something is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exports {
    All,
    To(Vec<String>),
}

/// To whom things are exported that do not say it, the widest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsaid {
    All,
    Own,
    Nobody,
}

impl Unsaid {
    /// Reads a default of the mesh, of which Istio honours no more than `*` and `.`.
    pub(super) fn of_mesh(list: &[String]) -> Self {
        let has = |wanted: &str| list.iter().any(|entry| entry == wanted);
        match (has("."), has("*")) {
            (true, _) => Self::Own,
            (false, true) => Self::All,
            (false, false) => Self::Nobody,
        }
    }
}

impl Exports {
    /// Reads a list of namespaces: `.` is its own one, `*` all, `~` none. An empty list means what is `unsaid`.
    pub(super) fn new<'a>(list: impl Iterator<Item = &'a str>, own: &str, unsaid: Unsaid) -> Self {
        let list: Vec<&str> = list.map(str::trim).filter(|entry| !entry.is_empty()).collect();
        match (unsaid, list.is_empty()) {
            (Unsaid::All, true) => return Exports::All,
            (Unsaid::Own, true) => return Exports::To(vec![own.to_owned()]),
            (Unsaid::Nobody, true) => return Exports::To(Vec::new()),
            (_, false) if list.contains(&"*") => return Exports::All,
            (_, false) if list.contains(&"~") => return Exports::To(Vec::new()),
            (_, false) => {}
        }
        Exports::To(list.into_iter().map(|entry| if entry == "." { own } else { entry }.to_owned()).collect())
    }

    /// Whether a namespace is among them.
    pub(super) fn reach(&self, namespace: &str) -> bool {
        match self {
            Exports::All => true,
            Exports::To(list) => list.iter().any(|entry| entry == namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_reach_whom_they_name() {
        let exports = |list: &[&str]| Exports::new(list.iter().copied(), "own", Unsaid::All);
        assert_eq!(exports(&[]), Exports::All);
        assert_eq!(exports(&["a", "*"]), Exports::All);
        let some = exports(&[".", " b"]);
        assert!(some.reach("own") && some.reach("b") && !some.reach("c"));
        assert!(!exports(&["~", "b"]).reach("b"));
        let unsaid = |unsaid| Exports::new(std::iter::empty(), "own", unsaid);
        assert_eq!(unsaid(Unsaid::All), Exports::All);
        assert!(unsaid(Unsaid::Own).reach("own") && !unsaid(Unsaid::Own).reach("b"));
        assert!(!unsaid(Unsaid::Nobody).reach("own"));
    }

    #[test]
    fn defaults_of_the_mesh_are_its_own_namespace_or_all() {
        let of =
            |list: &[&str]| Unsaid::of_mesh(&list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            [of(&["*"]), of(&["."]), of(&["*", "."]), of(&["~"])],
            [Unsaid::All, Unsaid::Own, Unsaid::Own, Unsaid::Nobody]
        );
    }
}

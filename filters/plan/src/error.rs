use core::fmt;

/// Why a plan is refused: where in the document, what is wrong, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PlanError {
    /// Where the fault is, such as `services["demo"].routes[3].match[0].attributes.method.regex`. Empty when the
    /// document is no JSON, or no object.
    pub path: String,
    /// What is wrong and what mends it.
    pub message: String,
    /// Where the text stops being JSON.
    pub position: Option<Position>,
}

/// A place in the text of a plan, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The byte in the line.
    pub column: usize,
}

impl PlanError {
    pub(super) fn at(path: &Path<'_>, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into(), position: None }
    }
}

/// In a box, since whatever compiles a value hands an error on.
pub(super) type Result<T> = core::result::Result<T, Box<PlanError>>;

pub(super) fn fail<T>(path: &Path<'_>, message: impl Into<String>) -> Result<T> {
    Err(error(path, message))
}

pub(super) fn error(path: &Path<'_>, message: impl Into<String>) -> Box<PlanError> {
    Box::new(PlanError::at(path, message))
}

impl From<serde_json::Error> for PlanError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self {
            path: String::new(),
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
            position: Some(Position { line, column }),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.path, self.position) {
            ("", Some(Position { line, column })) => {
                write!(f, "line {line}, column {column}: {}", self.message)
            }
            ("", None) => f.write_str(&self.message),
            (path, _) => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Appends a key. Names of services are always quoted: most have dots, and a path should not change its form with them.
fn push_key(text: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !plain || text == "services" {
        text.push_str(&format!("[{key:?}]"));
        return;
    }
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(key);
}

/// Where the compiler is in the document. Made on the stack as it goes down, written out only when something is wrong.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The document.
    Root,
    /// A member of an object.
    Key(&'a Path<'a>, &'a str),
    /// An element of an array.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// Whether it is of what may be a secret: what a collector of spans is told, wherever in `tracing` that was written.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Path::Root => false,
            Path::Key(_, "tracing") => true,
            Path::Key(parent, _) | Path::Index(parent, _) => parent.is_secret(),
        }
    }

    fn push_to(&self, text: &mut String) {
        match self {
            Path::Root => {}
            Path::Key(parent, key) => {
                parent.push_to(text);
                push_key(text, key);
            }
            Path::Index(parent, index) => {
                parent.push_to(text);
                text.push_str(&format!("[{index}]"));
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

//! Calls: what clients ask for, what endpoints see of it, and what clients get.

/// One call of a client and all that became of it.
#[derive(Debug)]
pub struct Call {
    pub client: usize,
    pub ask: Ask,
    pub sent_at: u64,
    pub deliveries: Vec<Delivery>,
    pub answer: Option<Answer>,
}

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub method: String,
    pub attachments: Vec<(String, String)>,
    pub size: usize,
    pub is_one_way: bool,
}

/// A request as an endpoint saw it.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub at: u64,
    pub endpoint: String,
    pub attachments: Vec<(String, String)>,
}

/// What a client got.
#[derive(Debug, Clone)]
pub struct Answer {
    pub at: u64,
    /// Who answered; or the protocol's status and message where the framework failed.
    pub result: Result<String, (u32, String)>,
    pub attachments: Vec<(String, String)>,
}

/// The value of an attachment, which is there once at most.
pub fn value<'a>(attachments: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut named = attachments.iter().filter(|(known, _)| known == name);
    let value = named.next().map(|(_, value)| value.as_str());
    assert_eq!(named.next(), None, "{name} is there twice");
    value
}

impl Ask {
    pub fn new(method: &str) -> Self {
        Self { method: method.to_owned(), size: 64, ..Self::default() }
    }

    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    pub fn one_way(self) -> Self {
        Self { is_one_way: true, ..self }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attachments.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Call {
    /// The endpoint that answered.
    pub fn endpoint(&self) -> Option<&str> {
        self.answer.as_ref()?.result.as_deref().ok()
    }

    /// The status of the error that answered.
    pub fn error(&self) -> Option<u32> {
        Some(self.answer.as_ref()?.result.as_ref().err()?.0)
    }
}

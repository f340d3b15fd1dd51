//! What servers get, and what they do with it.

use std::time::Duration;

/// A request that a server got.
pub struct Arrival<'a> {
    pub endpoint: &'a str,
    pub method: &'a str,
    /// How often the call has arrived anywhere, this time included.
    pub times: usize,
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub after: Duration,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// The payload comes back, and so many bytes more.
    Echo(usize),
    /// The same with attachments.
    Attach(Vec<(String, String)>),
    /// The framework fails with this status.
    Error(u32),
    Nothing,
    /// As many parts in ten of an answer come at once, the rest much later.
    Halting(usize),
    /// As many parts in ten of an answer come, then the server closes the connection.
    Torn(usize),
    /// The server closes the connection.
    Close,
    /// The server resets the connection.
    Reset,
    /// These bytes come instead of an answer.
    Raw(Vec<u8>),
}

impl Reply {
    pub fn echo() -> Self {
        What::Echo(0).after(Duration::from_millis(1))
    }
}

impl What {
    pub fn after(self, after: Duration) -> Reply {
        Reply { after, what: self }
    }

    /// At once, or as good as.
    pub fn now(self) -> Reply {
        self.after(Duration::from_micros(10))
    }
}

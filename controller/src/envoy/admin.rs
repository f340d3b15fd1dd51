use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;

/// How often a state that is awaited is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long an answer may take: Envoy gives none while it compiles a module, which takes seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Envoy's admin interface.
#[derive(Debug, Clone)]
pub struct Admin {
    address: SocketAddr,
    agent: ureq::Agent,
}

impl Admin {
    /// The interface at `address`. Nothing is asked yet.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { address, agent: config.into() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answer to `GET path`.
    ///
    /// # Errors
    ///
    /// No answer, or one whose status is not 200.
    pub fn fetch(&self, path: &str) -> Result<String, Error> {
        self.read(path, self.agent.get(self.url(path)).call())
    }

    /// The answer to `POST path` with an empty body, as Envoy wants it for what changes something.
    ///
    /// # Errors
    ///
    /// No answer, or one whose status is not 200.
    pub fn post(&self, path: &str) -> Result<String, Error> {
        self.read(path, self.agent.post(self.url(path)).send_empty())
    }

    /// Whether Envoy is ready to serve.
    pub fn ready(&self) -> bool {
        self.fetch("/ready").is_ok_and(|state| state.trim() == "LIVE")
    }

    /// Every counter and gauge whose name matches the regular expression `filter`, by name. Histograms are left out.
    ///
    /// # Errors
    ///
    /// No answer, or `filter` is not a regular expression.
    pub fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, Error> {
        let path = "/stats";
        let text = self.read(path, self.agent.get(self.url(path)).query("filter", filter).call())?;
        let stat = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(stat).collect())
    }

    /// The sum of all counters and gauges whose name matches the regular expression `filter`; 0 if there are none.
    ///
    /// # Errors
    ///
    /// As [`stats`](Self::stats).
    pub fn sum(&self, filter: &str) -> Result<u64, Error> {
        Ok(self.stats(filter)?.values().sum())
    }

    /// The address on which each listener accepts connections, by the listener's name. Internal listeners have none.
    ///
    /// # Errors
    ///
    /// No answer, or one that is not understood.
    pub fn listeners(&self) -> Result<BTreeMap<String, SocketAddr>, Error> {
        let path = "/listeners?format=json";
        let wrong = |why: String| Error::Admin { path: path.to_owned(), why };
        let answer: Value =
            serde_json::from_str(&self.fetch(path)?).map_err(|error| wrong(error.to_string()))?;
        let statuses =
            answer["listener_statuses"].as_array().ok_or_else(|| wrong("no statuses".to_owned()))?;
        let address = |status: &Value| {
            let socket = &status["local_address"]["socket_address"];
            let ip = socket["address"].as_str()?.parse().ok()?;
            let port = socket["port_value"].as_u64()?.try_into().ok()?;
            Some((status["name"].as_str()?.to_owned(), SocketAddr::new(ip, port)))
        };
        Ok(statuses.iter().filter_map(address).collect())
    }

    /// Waits until the sum of the counters and gauges that `filter` matches satisfies `wanted`, and returns it.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] after `limit`; errors of [`sum`](Self::sum).
    pub fn wait(&self, filter: &str, limit: Duration, wanted: impl Fn(u64) -> bool) -> Result<u64, Error> {
        let start = Instant::now();
        loop {
            let sum = self.sum(filter)?;
            if wanted(sum) {
                return Ok(sum);
            }
            if start.elapsed() > limit {
                return Err(Error::Late {
                    what: format!("bring the statistics {filter} to the value awaited"),
                    seconds: limit.as_secs(),
                    why: format!("the last value was {sum}"),
                });
            }
            thread::sleep(POLL);
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn read(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, Error> {
        let wrong = |why: String| Error::Admin { path: path.to_owned(), why };
        let mut answer = answer.map_err(|error| wrong(error.to_string()))?;
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let body = body.map_err(|error| wrong(error.to_string()))?;
        if answer.status() != 200 {
            return Err(wrong(format!("status {}: {}", answer.status().as_u16(), body.trim())));
        }
        Ok(body)
    }
}

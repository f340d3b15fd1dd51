use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::meter::{Meter, Outcome, looked};
use crate::proxies::{Proxy, stats};

/// Looks at proxies again and again, until this is dropped.
#[derive(Debug)]
pub(crate) struct Looks {
    looks: mpsc::Receiver<(usize, Outcome)>,
    _tasks: JoinSet<()>,
}

impl Looks {
    /// What the next look gave, and at the proxy of which number; `None` if there is no proxy.
    pub(crate) async fn next(&mut self) -> Option<(usize, Outcome)> {
        self.looks.recv().await
    }
}

/// Looks at each proxy by itself: one that does not answer holds up no other.
pub(crate) fn watch(proxies: &[Proxy], interval: Duration) -> Looks {
    let (tell, looks) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    for (at, proxy) in proxies.iter().cloned().enumerate() {
        let tell = tell.clone();
        tasks.spawn(async move {
            let mut meter = Meter::default();
            loop {
                let outcome = looked(&mut meter, proxy.get(stats::PATH).await, Instant::now());
                if tell.send((at, outcome)).await.is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        });
    }
    Looks { looks, _tasks: tasks }
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::meter::{Meter, Outcome, looked};
use crate::proxies::{PARALLEL, Proxy, stats};

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

/// Looks at each proxy by itself, a few at a time: one that does not answer holds up those that wait for its place, and no
/// others.
pub(crate) fn watch(proxies: &[Proxy], interval: Duration) -> Looks {
    let (tell, looks) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    let places = Arc::new(Semaphore::new(PARALLEL));
    for (at, proxy) in proxies.iter().cloned().enumerate() {
        let (tell, places) = (tell.clone(), places.clone());
        tasks.spawn(async move {
            let mut meter = Meter::default();
            loop {
                let place = places.acquire().await;
                let outcome = looked(&mut meter, proxy.get(stats::QUESTION).await, Instant::now());
                drop(place);
                if tell.send((at, outcome)).await.is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        });
    }
    Looks { looks, _tasks: tasks }
}

//! `meltemi dashboard`: what goes on in proxies, as a page for a browser on this machine; and the same page served by the
//! controller, in a cluster.

mod ask;
mod cluster;
mod history;
mod serve;
mod traffic;

use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, sleep};

use crate::proxies::{Proxy, Which, block_on};
use crate::traffic::{Meters, watch};
use crate::{screen, words};
pub(crate) use cluster::in_cluster;
use history::History;

/// Serves the page until the user ends it.
#[derive(Debug, Args)]
pub struct Dashboard {
    #[command(flatten)]
    which: Which,
    /// Where the page is. Whoever reaches it sees it: another address than one of this machine's own is for trusted
    /// networks.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15080")]
    listen: SocketAddr,
    /// How long to count before each look.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = crate::top::seconds)]
    interval: Duration,
}

/// How often it is seen which proxies there are.
const RENEWAL: Duration = Duration::from_secs(10);

/// The time between looks that each proxy needs at least: many are looked at less often.
const EACH: Duration = Duration::from_millis(25);

impl Dashboard {
    /// Serves it.
    ///
    /// # Errors
    ///
    /// There is no cluster, or no such proxy in it; or the address cannot be listened at.
    pub fn run(self) -> Result<ExitCode, String> {
        block_on(async move {
            let proxies = self.which.proxies().await?;
            let listener = TcpListener::bind(self.listen).await;
            let listener = listener.map_err(|error| {
                format!(
                    "cannot listen at {}: {}; --listen names another address",
                    self.listen,
                    words::file(&error)
                )
            })?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            if !address.ip().is_loopback() {
                screen::warn(format_args!("everybody who reaches {address} sees the page"));
            }
            crate::command::print(&format!("http://{address}/\n"))?;
            let meters = Meters::of(proxies);
            let history = Arc::new(Mutex::new(History::new(self.interval)));
            let which = Arc::new(self.which);
            tokio::select! {
                () = keep(meters, || which.proxies(), self.interval, &history) => {}
                served = serve::serve(listener, address, which.clone(), history.clone()) => served?,
                _ = tokio::signal::ctrl_c() => {}
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Looks at the proxies, whichever there are by what `proxies` says, for ever. While it says nothing they are those of before.
async fn keep<F: Future<Output = Result<Vec<Proxy>, String>>>(
    mut meters: Meters,
    proxies: impl Fn() -> F,
    interval: Duration,
    history: &Mutex<History>,
) {
    let look = |proxies: &[Proxy]| {
        let count = u32::try_from(proxies.len()).unwrap_or(u32::MAX);
        watch(proxies, interval.max(EACH.saturating_mul(count)))
    };
    let mut looks = look(meters.proxies());
    let mut ticks = tokio::time::interval(interval);
    // What was not seen in time is not made up for by what is seen later.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let renewed = |pause| {
        let proxies = &proxies;
        async move {
            sleep(pause).await;
            proxies().await
        }
    };
    let mut renewal = pin!(renewed(Duration::ZERO));
    loop {
        tokio::select! {
            Some((at, outcome)) = looks.next() => meters.saw(at, outcome),
            _ = ticks.tick() => history::lock(history).tick(meters.seen()),
            known = &mut renewal => {
                history::lock(history).trouble = known.as_ref().err().cloned();
                // What cannot be listed now may be at the next time.
                if let Ok(known) = known
                    && meters.change_to(known)
                {
                    looks = look(meters.proxies());
                }
                renewal.set(renewed(RENEWAL));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::Router;
    use axum::routing::get;
    use clap::Parser;
    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::traffic::Look;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        dashboard: Dashboard,
    }

    /// Of one Envoy, that listens there.
    async fn meters(listener: &TcpListener) -> Meters {
        let address = listener.local_addr().unwrap().to_string();
        let command = Command::parse_from(["dashboard", "--admin", &address]);
        Meters::of(command.dashboard.which.proxies().await.unwrap())
    }

    #[tokio::test]
    async fn a_cluster_that_is_silent_holds_no_look_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let meters = meters(&listener).await;
        let router = Router::new().route("/stats", get(|| async { "" }));
        tokio::spawn(axum::serve(listener, router).into_future());
        let interval = Duration::from_millis(10);
        let history = Mutex::new(History::new(interval));
        let seen = async {
            while history::lock(&history).ticks.len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = keep(meters, pending, interval, &history) => {}
            seen = timeout(Duration::from_secs(30), seen) => seen.expect("looks go on"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_missed_is_not_made_up_for() {
        // It does not answer, for less time than it is given.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut meters = meters(&listener).await;
        meters.saw(0, Ok(Some(Look::default())));
        let interval = Duration::from_secs(1);
        let history = Mutex::new(History::new(interval));
        let mut kept = Box::pin(keep(meters, pending, interval, &history));
        assert!((&mut kept).now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!((&mut kept).now_or_never().is_none());
        assert_eq!(history::lock(&history).ticks.len(), 2);
    }
}

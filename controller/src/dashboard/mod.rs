//! `meltemi dashboard`: what goes on in proxies, as a page for a browser on this machine; and the same page served by the
//! controller, in a cluster.

mod ask;
mod cluster;
mod history;
mod serve;
mod traffic;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

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
                () = keep(meters, which.clone(), self.interval, history.clone()) => {}
                served = serve::serve(listener, address, which, history) => served?,
                _ = tokio::signal::ctrl_c() => {}
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Looks at the proxies, whichever there are, for ever.
async fn keep(mut meters: Meters, which: Arc<Which>, interval: Duration, history: Arc<Mutex<History>>) {
    let look = |proxies: &[Proxy]| {
        let count = u32::try_from(proxies.len()).unwrap_or(u32::MAX);
        watch(proxies, interval.max(EACH.saturating_mul(count)))
    };
    let mut looks = look(meters.proxies());
    let mut ticks = tokio::time::interval(interval);
    let mut renewals = tokio::time::interval(RENEWAL);
    loop {
        tokio::select! {
            Some((at, outcome)) = looks.next() => meters.saw(at, outcome),
            _ = ticks.tick() => history::lock(&history).tick(meters.seen()),
            _ = renewals.tick() => {
                let proxies = which.proxies().await;
                history::lock(&history).trouble = proxies.as_ref().err().cloned();
                // What cannot be listed now may be at the next time; until then the proxies are those of before.
                if let Ok(proxies) = proxies
                    && meters.change_to(proxies)
                {
                    looks = look(meters.proxies());
                }
            }
        }
    }
}

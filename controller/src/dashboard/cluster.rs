//! The page in a cluster: of all its proxies, which are looked at as long as somebody looks at the page.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::timeout;

use super::history::{self, History};
use super::{keep, serve};
use crate::proxies::Which;
use crate::traffic::Meters;

/// How long to count before each look.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long proxies are looked at after the last question of a page.
const LINGER: Duration = Duration::from_secs(300);

/// The page, where `gate` decides who is told anything; and what has to go on for it.
pub(crate) fn in_cluster(gate: impl FnOnce(Router) -> Router) -> (Router, impl Future<Output = ()>) {
    let which = Arc::new(Which::everywhere());
    let history = Arc::new(Mutex::new(History::new(INTERVAL)));
    let (asked, questions) = watch::channel(());
    let router = serve::router(which.clone(), history.clone(), |api| {
        gate(api.route_layer(from_fn_with_state(asked, noted)))
    });
    (router, keep_while(questions, which, history))
}

/// Notes that somebody looks.
async fn noted(State(asked): State<watch::Sender<()>>, request: Request, next: Next) -> Response {
    asked.send_replace(());
    next.run(request).await
}

/// Looks at proxies while there are questions.
async fn keep_while(mut questions: watch::Receiver<()>, which: Arc<Which>, history: Arc<Mutex<History>>) {
    while questions.changed().await.is_ok() {
        let none = Meters::of(Vec::new());
        tokio::select! {
            () = keep(none, || which.proxies(), INTERVAL, &history) => {}
            () = silence(&mut questions) => {}
        }
        *history::lock(&history) = History::new(INTERVAL);
    }
}

/// Waits until nobody has asked for a while.
async fn silence(questions: &mut watch::Receiver<()>) {
    while let Ok(Ok(())) = timeout(LINGER, questions.changed()).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_a_while_after_the_last_question() {
        let (asked, mut questions) = watch::channel(());
        let start = tokio::time::Instant::now();
        let asking = async {
            for _ in 0..3 {
                tokio::time::sleep(LINGER / 2).await;
                asked.send_replace(());
            }
        };
        tokio::join!(asking, silence(&mut questions));
        assert_eq!(start.elapsed(), LINGER / 2 * 3 + LINGER);
    }
}

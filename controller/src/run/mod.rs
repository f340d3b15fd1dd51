//! The controller: watches a cluster, and keeps the generated objects in it as they should be.
//!
//! Each replica keeps what it needs to know of the cluster (`cache`, one `feed` for each kind) and serves the
//! `webhook`; the one that holds the Lease (`lease`) writes. A `pulse` notifies its loop (`reconcile`) of changes:
//! then it makes the objects anew, compares them with those that there are (`changes`), writes the difference
//! (`apply`), and reports to the writers of resources what was found in them (`status`).

mod apply;
mod cache;
mod certificate;
mod changes;
mod conditions;
mod definitions;
mod feed;
mod feeds;
mod installation;
mod istiod;
mod kept;
mod lease;
mod log;
mod metrics;
mod options;
mod pulse;
mod recent;
mod reconcile;
mod secrets;
mod secure;
mod serve;
mod status;
mod taps;
mod viewers;
mod warming;
mod webhook;

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::field::display;
use tracing::{info, warn};

use crate::{dashboard, install, words};
use cache::Cache;
use installation::Installation;
use metrics::Metrics;
use pulse::Pulse;
use reconcile::Reconciler;

pub(crate) use certificate::{SECRET as WEBHOOK_SECRET, WEBHOOK};
pub(crate) use istiod::versions;
pub(crate) use lease::NAME as LEASE;
pub use options::{LogFormat, LogLevel, Options};
pub(crate) use viewers::PATH as DASHBOARD_PATH;
pub(crate) use webhook::PATH as WEBHOOK_PATH;

/// The Service in front of the webhook, in the namespace of the controller.
pub(crate) const SERVICE: &str = "meltemi";
/// The Service in front of the dashboard.
pub(crate) const DASHBOARD_SERVICE: &str = "meltemi-dashboard";

/// How long the last pass may take when the process is asked to end.
const LAST_PASS: Duration = Duration::from_secs(20);

/// Runs the controller until the process is ended by SIGTERM or SIGINT.
///
/// # Errors
///
/// There is no cluster, or an address is taken.
pub fn run(options: &Options) -> Result<(), String> {
    log::start(options.log_level, options.log_format);
    // Several libraries have TLS: all of them use the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let outcome = runtime.block_on(control(options));
    // A generator that is still at work is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn control(options: &Options) -> Result<(), String> {
    // The version of Istio counts if it is given; else it has to be found out.
    let mut generate = options.mesh.objects(&options.module, &options.delivered, options.istio_version)?;
    let config = Config::infer()
        .await
        .map_err(|error| format!("cannot find a cluster: {}", words::no_cluster(&error)))?;
    let client = Client::try_from(config).map_err(|error| format!("cannot find a cluster: {error}"))?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    generate.instance = options.delivered.instance.clone().unwrap_or_else(|| namespace.clone());
    let identity = options.identity.clone().map_or_else(lease::identity, Ok)?;
    let (tell_end, end) = watch::channel(false);
    let (tell_release, release) = watch::channel(false);

    let metrics = Arc::new(Metrics::default());
    let pulse = Arc::new(Pulse::default());
    let shared = feed::Shared {
        definitions: definitions::follow(client.clone(), metrics.clone()),
        pulse: pulse.clone(),
        metrics: metrics.clone(),
    };
    let cache = Arc::new(Cache::start(&client, &options.mesh.root_namespace, &shared));

    let (candidate, leadership) = lease::Candidate::new(
        client.clone(),
        &namespace,
        identity.clone(),
        Duration::from_secs(options.lease_seconds.into()),
        metrics.clone(),
        pulse.clone(),
    );
    let (keeper, tls) = certificate::Keeper::new(
        client.clone(),
        &namespace,
        options.webhook_configuration.clone(),
        certificate_names(options, &namespace),
        leadership.clone(),
    );
    let views = serve::Views {
        metrics: metrics.clone(),
        cache: cache.clone(),
        has_webhook: {
            let tls = tls.clone();
            Arc::new(move || tls.borrow().is_some())
        },
    };
    let reconciler = Reconciler {
        cache,
        pulse,
        leadership,
        installation: Installation::new(generate.instance.clone()),
        options: generate,
        fixed_version: options.istio_version,
        secrets: secrets::Secrets::new(client.clone()),
        applier: apply::Applier::new(
            client.clone(),
            metrics.clone(),
            apply::Pauses {
                warm_up: Duration::from_secs(options.warm_up_seconds.into()),
                linger: Duration::from_secs(options.linger_seconds.into()),
            },
        ),
        teller: status::Teller::new(client.clone(), identity.clone(), metrics.clone()),
        client: client.clone(),
        metrics: metrics.clone(),
        made: None,
        versions: None,
    };

    let (views_listener, views_address) = bind(options.listen)?;
    let views_listener = tokio::net::TcpListener::from_std(views_listener)
        .map_err(|error| format!("cannot listen on {views_address}: {error}"))?;
    let (webhook_listener, webhook_address) = bind(options.webhook_listen)?;
    let page = options.dashboard_listen.map(bind).transpose()?;
    let page_address = page.as_ref().map(|(_, address)| display(address));
    info!(identity, namespace, listen = %views_address, webhook = %webhook_address, dashboard = page_address, "started");

    tokio::spawn(keeper.run());
    let electing = tokio::spawn(candidate.run(release));
    let reviews = webhook::router(metrics);
    let mut servers = vec![
        tokio::spawn(serve::serve(views_listener, views, end.clone())),
        tokio::spawn(secure::serve("webhook", webhook_listener, reviews, tls.clone(), end.clone())),
    ];
    if let Some((listener, _)) = page {
        let role = install::dashboard_role(&namespace);
        let (router, keeping) = dashboard::in_cluster(|api| viewers::guarded(api, client, role));
        tokio::spawn(keeping);
        servers.push(tokio::spawn(secure::serve("dashboard", listener, router, tls, end.clone())));
    }
    let mut reconciling = pin!(reconciler.run(end));

    let outcome = tokio::select! {
        outcome = asked_to_end() => outcome,
        // It does not end before it is asked to.
        () = &mut reconciling => return Err("the loop ended".to_owned()),
    };
    info!("shutting down after the current pass");
    tell_end.send_replace(true);
    if tokio::time::timeout(LAST_PASS, reconciling).await.is_err() {
        warn!("the current pass did not finish in time");
    }
    tell_release.send_replace(true);
    if let Err(error) = electing.await {
        warn!(%error, "the election failed");
    }
    for server in servers {
        if let Ok(Err(error)) = server.await {
            warn!(error, "a server failed");
        }
    }
    info!("ended");
    outcome
}

/// Waits until a switch is on, or nobody can turn it on any more.
async fn turned_on(switch: &mut watch::Receiver<bool>) {
    let _ = switch.wait_for(|is_on| *is_on).await;
}

async fn asked_to_end() -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What the certificate is for: all names of what is served by it.
fn certificate_names(options: &Options, namespace: &str) -> Vec<String> {
    let of_service = |service: &str| {
        let name = format!("{service}.{namespace}.svc");
        [name.clone(), format!("{name}.{}", options.mesh.cluster_domain)]
    };
    let mut names = options.webhook_name.clone();
    if names.is_empty() {
        names.extend(of_service(SERVICE));
    }
    if options.dashboard_listen.is_some() {
        names.extend(of_service(DASHBOARD_SERVICE));
    }
    names
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error| format!("cannot listen on {address}: {error}");
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

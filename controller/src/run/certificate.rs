//! The certificate of the webhook: self-signed, in a Secret that all replicas share, and renewed in time.
//!
//! The leader makes it and has the API server trust it before any replica shows it. The bundle that the API server
//! trusts holds the certificate before as well, so that replicas may follow when they see the new one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use super::apply::{MANAGER, limited};
use super::lease::Leadership;

/// The Secret, in the namespace of the controller.
pub const SECRET: &str = "meltemi-webhook";
/// The configuration that has the API server call the webhook, where no other is named.
pub const WEBHOOK: &str = "meltemi";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";
const RENEW: &str = "meltemi.io/renew-after";

/// How long a certificate is valid.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long before its end it is renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How often all is looked at.
const ROUND: Duration = Duration::from_secs(60);
/// How often while there is no certificate yet.
const IMPATIENT_ROUND: Duration = Duration::from_secs(1);

/// Keeps the certificate.
pub struct Keeper {
    secrets: Api<Secret>,
    webhooks: Api<ValidatingWebhookConfiguration>,
    configuration: String,
    leadership: Leadership,
    names: Vec<String>,
    shown: Option<BTreeMap<String, ByteString>>,
    tls: watch::Sender<Option<RustlsConfig>>,
}

impl Keeper {
    /// Keeps the certificate of a webhook that is called by these names, and reports it when there is one. The API
    /// server knows the webhook by `configuration`.
    pub fn new(
        client: Client,
        namespace: &str,
        configuration: String,
        names: Vec<String>,
        leadership: Leadership,
    ) -> (Self, watch::Receiver<Option<RustlsConfig>>) {
        let (tls, receiver) = watch::channel(None);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), namespace),
            webhooks: Api::all(client),
            configuration,
            leadership,
            names,
            shown: None,
            tls,
        };
        (keeper, receiver)
    }

    /// Keeps it, for ever.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                warn!(error, "cannot maintain the certificate of the webhook; retrying");
            }
            let pause = if self.shown.is_some() { ROUND } else { IMPATIENT_ROUND };
            // A new leader has to see to what the one before left undone.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.leadership.changed() => {}
            }
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let mut secret = limited(self.secrets.get_opt(SECRET)).await?;
        let is_leading = self.leadership.holds();
        if is_leading && !secret.as_ref().is_some_and(|secret| is_good(secret, &self.names)) {
            let new = issue(&self.names, secret.as_ref(), Timestamp::now())?;
            // A replica may show the new one as soon as the Secret has it, so it is trusted before.
            self.trust(&new).await?;
            let params = PatchParams::apply(MANAGER).force();
            secret = Some(limited(self.secrets.patch(SECRET, &params, &Patch::Apply(new))).await?);
            info!(secret = SECRET, names = ?self.names, "made a certificate for the webhook");
        }
        let Some(secret) = secret.filter(|secret| text(secret, CERTIFICATE).is_some()) else { return Ok(()) };
        if is_leading {
            self.trust(&secret).await?;
        }
        self.show(secret).await
    }

    /// Has the API server trust the bundle of `secret`.
    async fn trust(&self, secret: &Secret) -> Result<(), String> {
        let Some(bundle) = text(secret, BUNDLE) else { return Ok(()) };
        let Some(configuration) = limited(self.webhooks.get_opt(&self.configuration)).await? else {
            return Ok(());
        };
        let webhooks = configuration.webhooks.unwrap_or_default();
        let is_trusted =
            |held: &Option<ByteString>| held.as_ref().is_some_and(|held| held.0 == bundle.as_bytes());
        if webhooks.iter().all(|webhook| is_trusted(&webhook.client_config.ca_bundle)) {
            return Ok(());
        }
        let encoded = BASE64_STANDARD.encode(bundle);
        let webhooks: Vec<_> = webhooks
            .iter()
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": encoded}}))
            .collect();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": self.configuration},
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(MANAGER).force();
        limited(self.webhooks.patch(&self.configuration, &params, &Patch::Apply(patch))).await?;
        info!(configuration = self.configuration, "the API server trusts the certificate of the webhook");
        Ok(())
    }

    async fn show(&mut self, secret: Secret) -> Result<(), String> {
        if self.shown == secret.data {
            return Ok(());
        }
        let [certificate, key] = [CERTIFICATE, KEY].map(|name| text(&secret, name).map(Vec::from));
        let (Some(certificate), Some(key)) = (certificate, key) else {
            return Err(format!("the Secret {SECRET} has no {CERTIFICATE} and {KEY}"));
        };
        let current = self.tls.borrow().clone();
        let outcome = match current {
            Some(tls) => tls.reload_from_pem(certificate, key).await,
            None => RustlsConfig::from_pem(certificate, key).await.map(|tls| {
                self.tls.send_replace(Some(tls));
            }),
        };
        outcome.map_err(|error| format!("the Secret {SECRET} has no certificate: {error}"))?;
        self.shown = secret.data;
        Ok(())
    }
}

fn text<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    secret.data.as_ref()?.get(name).and_then(|value| std::str::from_utf8(&value.0).ok())
}

/// Whether there is a certificate for these names that need not be renewed yet.
fn is_good(secret: &Secret, names: &[String]) -> bool {
    let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
    let renewed = annotation(RENEW).and_then(|time| time.parse::<Timestamp>().ok());
    text(secret, CERTIFICATE).is_some()
        && text(secret, KEY).is_some()
        && renewed.is_some_and(|renewed| Timestamp::now() < renewed)
        && annotation(NAMES) == Some(&names.join(","))
}

const NAMES: &str = "meltemi.io/names";

/// A Secret with a new certificate, and with a bundle that holds the one before as well.
fn issue(names: &[String], before: Option<&Secret>, now: Timestamp) -> Result<Secret, String> {
    let failed = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "meltemi webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = Duration::from_secs(now.as_second().unsigned_abs());
    // Clocks differ a little.
    params.not_before = epoch + seconds.saturating_sub(Duration::from_secs(300));
    params.not_after = epoch + seconds + VALID;
    let certificate = params.self_signed(&key).map_err(failed)?.pem();
    let before = before.and_then(|secret| text(secret, CERTIFICATE)).unwrap_or_default();
    let renew = SignedDuration::try_from(VALID - RENEWED_BEFORE)
        .ok()
        .and_then(|after| now.checked_add(after).ok())
        .ok_or("the clock is out of range")?;
    let data =
        [(BUNDLE, format!("{certificate}{before}")), (CERTIFICATE, certificate), (KEY, key.serialize_pem())];
    Ok(Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(SECRET.to_owned()),
            annotations: Some(BTreeMap::from([
                (RENEW.to_owned(), renew.to_string()),
                (NAMES.to_owned(), names.join(",")),
            ])),
            ..Default::default()
        },
        data: Some(
            data.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect(),
        ),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_in_time_and_for_other_names() {
        let names = ["meltemi.meltemi-system.svc".to_owned()];
        let fresh = issue(&names, None, Timestamp::now()).unwrap();
        assert!(is_good(&fresh, &names));
        assert!(!is_good(&fresh, &["127.0.0.1".to_owned()]));
        let then = Timestamp::now() - SignedDuration::try_from(VALID - RENEWED_BEFORE).unwrap();
        let old = issue(&names, None, then).unwrap();
        assert!(!is_good(&old, &names));
        assert!(!is_good(&Secret::default(), &names));
    }

    #[test]
    fn the_bundle_keeps_the_certificate_before() {
        let names = ["meltemi".to_owned()];
        let first = issue(&names, None, Timestamp::now()).unwrap();
        let second = issue(&names, Some(&first), Timestamp::now()).unwrap();
        let [old, new] = [&first, &second].map(|secret| text(secret, CERTIFICATE).unwrap());
        assert_eq!(text(&second, BUNDLE), Some(format!("{new}{old}").as_str()));
        let third = issue(&names, Some(&second), Timestamp::now()).unwrap();
        assert!(!text(&third, BUNDLE).unwrap().contains(old));
    }
}

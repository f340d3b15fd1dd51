//! The version of Istio, as found in the cluster.

use k8s_openapi::api::apps::v1::Deployment;

use crate::generate::IstioVersion;

/// The versions of these istiods, in order. A Deployment that does not state its version is passed over.
pub fn versions<'a>(istiods: impl IntoIterator<Item = &'a Deployment>) -> Vec<IstioVersion> {
    let mut versions: Vec<IstioVersion> = istiods.into_iter().filter_map(version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// The image comes first: a roll-out changes it, and labels are sometimes those of the chart.
fn version(istiod: &Deployment) -> Option<IstioVersion> {
    let pod = istiod.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let images = pod.into_iter().flat_map(|pod| &pod.containers).filter_map(|container| {
        let image = container.image.as_deref()?;
        let image = image.split_once('@').map_or(image, |(tagged, _)| tagged);
        image.rsplit_once('/').map_or(image, |(_, name)| name).split_once(':').map(|(_, tag)| tag)
    });
    let labels = ["app.kubernetes.io/version", "operator.istio.io/version"]
        .into_iter()
        .filter_map(|label| istiod.metadata.labels.as_ref()?.get(label).map(String::as_str));
    images.chain(labels).find_map(|version| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn istiod(image: &str, label: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "istiod", "labels": {"app": "istiod", "app.kubernetes.io/version": label}},
            "spec": {"selector": {}, "template": {
                "spec": {"containers": [{"name": "discovery", "image": image}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn versions_are_read_from_images_and_labels() {
        for (image, label, minor) in [
            ("docker.io/istio/pilot:1.30.2", "1.29.0", 30),
            ("registry:5000/istio/pilot:1.29.1-distroless@sha256:0123", "", 29),
            ("registry:5000/istio/pilot@sha256:0123", "1.28.3", 28),
            ("pilot:latest", "v1.31", 31),
        ] {
            assert_eq!(versions([&istiod(image, label)]), [IstioVersion(minor)], "{image} {label}");
        }
        assert_eq!(versions([&istiod("pilot:latest", "master")]), []);
    }

    #[test]
    fn several_istiods_are_in_order() {
        let [new, old] = ["pilot:1.30.0", "pilot:1.29.4"].map(|image| istiod(image, ""));
        assert_eq!(versions([&new, &old, &new]), [IstioVersion(29), IstioVersion(30)]);
    }
}

//! The world: every object of the mesh that says what Meltemi has to do.

mod addresses;
mod read;

use k8s_openapi::api::apps::v1::Deployment;

use crate::kinds::kinds;

pub use read::{Document, ISTIOD, ReadError, documents};

macro_rules! world {
    (
        kubernetes { $($(#[$of_kubernetes:meta])* $kubernetes:ident: $kubernetes_type:ty,)* }
        few { $($(#[$of_few:meta])* $few:ident: $few_type:ty,)* }
        istio { $($(#[$of_istio:meta])* $istio:ident: $istio_type:ty,)* }
        ours { $($(#[$of_ours:meta])* $ours:ident: $ours_type:ty, $rules:ident;)* }
    ) => {
        /// The objects that Meltemi reads, in no order.
        #[derive(Debug, Clone, Default)]
        pub struct World {
            /// The istiods. Nothing is read of other Deployments.
            pub istiods: Vec<Deployment>,
            $($(#[$of_kubernetes])* pub $kubernetes: Vec<$kubernetes_type>,)*
            $($(#[$of_few])* pub $few: Vec<$few_type>,)*
            $($(#[$of_istio])* pub $istio: Vec<$istio_type>,)*
            $($(#[$of_ours])* pub $ours: Vec<$ours_type>,)*
        }
    };
}

kinds!(world);

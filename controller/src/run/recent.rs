//! What was written a moment ago and the watches may not have seen yet, so that it is not written twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use tokio::time::Instant;

use super::changes::{Key, Surplus};

/// The longest that a watch is thought to be behind. What it shows after that is believed.
const DELAY: Duration = Duration::from_secs(10);

/// The objects that were written a moment ago.
#[derive(Debug, Default)]
pub struct Recent {
    applied: HashMap<Key, (Arc<DynamicObject>, Instant)>,
    deleted: HashMap<Surplus, Instant>,
}

impl Recent {
    /// An object was applied: this is what the server made of it.
    pub fn applied(&mut self, key: Key, object: DynamicObject) {
        self.applied.insert(key, (Arc::new(object), Instant::now()));
    }

    /// An object was deleted.
    pub fn deleted(&mut self, surplus: &Surplus) {
        self.applied.remove(&surplus.key);
        self.deleted.insert(surplus.clone(), Instant::now());
    }

    /// The objects as the watches see them, or as they were written since.
    pub fn over(&mut self, live: Vec<Arc<DynamicObject>>) -> Vec<Arc<DynamicObject>> {
        self.applied.retain(|_, (_, at)| at.elapsed() < DELAY);
        self.deleted.retain(|_, at| at.elapsed() < DELAY);
        if self.applied.is_empty() && self.deleted.is_empty() {
            return live;
        }
        let mut unseen = self.applied.clone();
        let mut now = Vec::with_capacity(live.len());
        for object in live {
            let key = Key::live(&object);
            let uid = object.metadata.uid.clone().unwrap_or_default();
            match unseen.remove(&key) {
                Some((written, _)) if is_behind(&object, &written) => now.push(written),
                // A watch that has caught up knows better: others may have written since.
                Some(_) => {
                    self.applied.remove(&key);
                    now.push(object);
                }
                None if self.deleted.contains_key(&Surplus { key, uid }) => {}
                None => now.push(object),
            }
        }
        now.extend(unseen.into_values().map(|(written, _)| written));
        now
    }

    /// When the first of what the watches have not seen yet is not believed any more.
    pub fn end(&self) -> Option<Instant> {
        self.applied.values().map(|(_, at)| *at + DELAY).min()
    }
}

/// Whether what a watch shows is older than what was written. The generation counts the changes of a spec, but not
/// those of labels.
fn is_behind(shown: &DynamicObject, written: &DynamicObject) -> bool {
    let (shown, written) = (&shown.metadata, &written.metadata);
    shown.uid != written.uid
        || shown.generation < written.generation
        || (shown.generation == written.generation && shown.labels != written.labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(uid: &str, generation: i64) -> Arc<DynamicObject> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
                "metadata": {"name": "meltemi", "namespace": "shop", "uid": uid, "generation": generation},
            }))
            .unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_applied_counts_until_the_watch_shows_it() {
        let mut recent = Recent::default();
        let written = object("a", 2);
        recent.applied(Key::live(&written), (*written).clone());
        assert_eq!(recent.over(Vec::new()), std::slice::from_ref(&written));
        assert_eq!(recent.over(vec![object("a", 1)]), std::slice::from_ref(&written));
        let edited = object("a", 3);
        assert_eq!(recent.over(vec![edited.clone()]), [edited]);
        assert_eq!(recent.over(Vec::new()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_is_not_there_but_what_was_made_anew_is() {
        let mut recent = Recent::default();
        let old = object("a", 1);
        recent.deleted(&Surplus { key: Key::live(&old), uid: "a".to_owned() });
        assert_eq!(recent.over(vec![old]), []);
        let anew = object("b", 1);
        assert_eq!(recent.over(vec![anew.clone()]), [anew]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_believed_in_the_end() {
        let mut recent = Recent::default();
        let written = object("a", 1);
        recent.applied(Key::live(&written), (*written).clone());
        assert_eq!(recent.end(), Some(Instant::now() + DELAY));
        tokio::time::advance(DELAY).await;
        assert_eq!(recent.over(Vec::new()), []);
        assert_eq!(recent.end(), None);
    }
}

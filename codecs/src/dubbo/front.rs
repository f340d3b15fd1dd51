//! The strings at the front of a request's body, in whatever form it is written.
use std::borrow::Cow;

use super::descriptor;
use crate::Head;

/// What the front of a body says of the rest.
pub(super) struct Front<'a> {
    pub(super) path: Option<Cow<'a, str>>,
    pub(super) version: Option<Cow<'a, str>>,
    pub(super) method: Option<Cow<'a, str>>,
    types: Option<Cow<'a, str>>,
}

impl<'a> Front<'a> {
    /// Whether the first argument names the method.
    pub(super) fn is_generic(&self) -> bool {
        matches!(self.method.as_deref(), Some("$invoke" | "$invokeAsync"))
    }

    /// The descriptors of the parameters.
    pub(super) fn types(&self) -> Option<&str> {
        self.types.as_deref()
    }

    /// The number of arguments.
    pub(super) fn arguments(&self) -> Option<usize> {
        descriptor::count(self.types()?.as_bytes())
    }
}

/// Takes the five strings at the front of a body, one call of `next` each, and adds them to `head`. `None` as soon as
/// one cannot be read.
pub(super) fn front<'a, E>(
    mut next: impl FnMut() -> Result<Option<Cow<'a, str>>, E>,
    head: &mut Head,
) -> Result<Front<'a>, E> {
    let mut push = |names: &[&str]| {
        let text = next()?;
        if let Some(text) = &text {
            for name in names {
                head.push(name, text);
            }
        }
        Ok(text)
    };
    push(&["dubboVersion"])?;
    let path = push(&["interface", "path"])?;
    let version = push(&["version"])?;
    let method = push(&["method"])?;
    let types = push(&["parameterTypes"])?;
    Ok(Front { path, version, method, types })
}

//! Where a URL leads, worked out once for all requests to it.
//!
//! Decides how many are remembered. What is refused is not: it is found out each time. The policy
//! of a client never changes, so what it allowed once it allows again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Uri};
use postrider_guard::Policy;
use url::Url;

use crate::ended::Ended;

/// Bytes of those that are kept; at more all are let go, and those that are in use come back.
const BYTES_MAX: usize = 8 << 20;

/// What one takes beside four times its text.
const ENTRY_BYTES: usize = 512;

/// A URL that requests may go to.
pub(crate) struct Target {
    pub(crate) url: Url,
    /// The same.
    pub(crate) uri: Uri,
    /// Its path and query, the way HTTP/1.1 puts it.
    pub(crate) path: Uri,
    /// The value of `host`.
    pub(crate) host: HeaderValue,
    /// Scheme, host and port.
    pub(crate) origin: Arc<str>,
}

impl Target {
    fn new(policy: &Policy, text: &str) -> Result<Self, Ended> {
        let url = policy.check_url(text)?;
        let uri = Uri::try_from(url.as_str()).map_err(http::Error::from)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = uri.authority().map_or("", |authority| authority.as_str());
        Ok(Self {
            path: Uri::try_from(path).map_err(http::Error::from)?,
            host: HeaderValue::from_str(host).map_err(http::Error::from)?,
            origin: url.origin().ascii_serialization().into(),
            uri,
            url,
        })
    }
}

/// Those that were asked for.
#[derive(Default)]
pub(crate) struct Targets(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_text: HashMap<Box<str>, Arc<Target>>,
    bytes: usize,
}

impl Targets {
    /// Where it leads.
    pub(crate) fn of(&self, policy: &Policy, text: &str) -> Result<Arc<Target>, Ended> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = known().by_text.get(text) {
            return Ok(Arc::clone(target));
        }
        let target = Arc::new(Target::new(policy, text)?);
        let mut known = known();
        let bytes = 4 * text.len() + ENTRY_BYTES;
        if known.bytes + bytes > BYTES_MAX {
            *known = Known::default();
        }
        // two that were missing it may both have made it
        if known
            .by_text
            .insert(text.into(), Arc::clone(&target))
            .is_none()
        {
            known.bytes += bytes;
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_refused_again_and_what_is_kept_is_bounded() {
        let (targets, policy) = (Targets::default(), Policy::default());
        let kept = || targets.0.lock().unwrap().by_text.len();
        for _ in 0..2 {
            assert!(targets.of(&policy, "https://10.0.0.1/").is_err());
            assert_eq!(kept(), 0);
        }
        let mut most = 0;
        for number in 10_000..40_000 {
            let url = format!("https://shop.example/{number}?a=b");
            let target = targets
                .of(&policy, &url)
                .unwrap_or_else(|_| panic!("{url}"));
            assert_eq!(target.path.to_string(), format!("/{number}?a=b"));
            assert_eq!(target.host, "shop.example");
            assert_eq!(&*target.origin, "https://shop.example");
            let again = targets.of(&policy, &url).ok();
            assert!(again.is_some_and(|again| Arc::ptr_eq(&again, &target)));
            most = most.max(kept());
        }
        let each = 4 * "https://shop.example/10000?a=b".len() + ENTRY_BYTES;
        assert_eq!(most, BYTES_MAX / each);
        assert_eq!(kept(), 30_000 % most);
    }
}

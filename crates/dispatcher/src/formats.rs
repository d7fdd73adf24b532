//! Templates that were read, for as long as their endpoints are sent to.
//!
//! Decides how many are kept: the rest is read again when it is used again. The engine thread
//! looks them up; the request that comes first reads the template, others of its endpoint wait for
//! that. Leaves what is made of them to `payload`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use postrider_domain::{Endpoint, EndpointId, Format};
use postrider_payload::Renderer;

/// Most bytes of templates' texts that are kept, with [`ENTRY_BYTES`] each. Read, they take about six
/// times that.
const BYTES_MAX: usize = 4 << 20;

/// What an entry takes beside its text, about.
const ENTRY_BYTES: usize = 2 << 10;

/// Renderers by endpoint, the oldest first to go.
#[derive(Default)]
pub(crate) struct Formats {
    kept: HashMap<EndpointId, Kept>,
    /// In the order in which they came.
    order: VecDeque<EndpointId>,
    bytes: usize,
    /// Of all formats that need nothing kept.
    plain: Arc<Renderer>,
}

struct Kept {
    /// That very value: a version number may come again when an endpoint is deleted and made anew.
    endpoint: Arc<Endpoint>,
    renderer: Arc<Renderer>,
}

impl Formats {
    /// What renders for this endpoint.
    pub(crate) fn of(&mut self, endpoint: &Arc<Endpoint>) -> Arc<Renderer> {
        let Format::Template(_) = &endpoint.format else {
            return Arc::clone(&self.plain);
        };
        if let Some(kept) = self.kept.get(&endpoint.id)
            && Arc::ptr_eq(&kept.endpoint, endpoint)
        {
            return Arc::clone(&kept.renderer);
        }
        self.forget(&endpoint.id);
        let kept = Kept {
            endpoint: Arc::clone(endpoint),
            renderer: Arc::default(),
        };
        let renderer = Arc::clone(&kept.renderer);
        self.bytes += bytes_of(endpoint);
        self.kept.insert(endpoint.id.clone(), kept);
        self.order.push_back(endpoint.id.clone());
        while self.bytes > BYTES_MAX {
            let Some(id) = self.order.pop_front() else {
                break;
            };
            self.drop_entry(&id);
        }
        renderer
    }

    /// The endpoint changed or is gone, and with it secrets that its template may use.
    pub(crate) fn forget(&mut self, id: &EndpointId) {
        if self.drop_entry(id) {
            self.order.retain(|other| other != id);
        }
    }

    fn drop_entry(&mut self, id: &EndpointId) -> bool {
        let dropped = self.kept.remove(id);
        if let Some(kept) = &dropped {
            self.bytes -= bytes_of(&kept.endpoint);
        }
        dropped.is_some()
    }
}

fn bytes_of(endpoint: &Endpoint) -> usize {
    match &endpoint.format {
        Format::Template(template) => template.source.len() + ENTRY_BYTES,
        _ => ENTRY_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::{Template, Tenant};

    use super::*;

    fn endpoint(id: &str, bytes: usize) -> Arc<Endpoint> {
        let id = id.parse().unwrap();
        let mut endpoint = Endpoint::new(id, Tenant::default(), "https://a.example/");
        endpoint.format = Format::Template(Template {
            source: "a".repeat(bytes).into(),
            content_type: "text/plain".into(),
        });
        Arc::new(endpoint)
    }

    #[test]
    fn a_template_is_kept_for_one_version_of_its_endpoint() {
        let mut formats = Formats::default();
        let first = endpoint("a", 1);
        let renderer = formats.of(&first);
        assert!(Arc::ptr_eq(&renderer, &formats.of(&first)));
        let again = endpoint("a", 1);
        let other = formats.of(&again);
        assert!(!Arc::ptr_eq(&renderer, &other));
        assert!(Arc::ptr_eq(&other, &formats.of(&again)));
        formats.forget(&again.id);
        assert_eq!(
            (formats.kept.len(), formats.order.len(), formats.bytes),
            (0, 0, 0)
        );
        assert_eq!(Arc::strong_count(&again), 1, "nor are its secrets kept");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut formats = Formats::default();
        for n in 0..200 {
            formats.of(&endpoint(&n.to_string(), Template::SOURCE_BYTES_MAX));
        }
        assert!(formats.bytes <= BYTES_MAX, "{}", formats.bytes);
        assert_eq!(formats.kept.len(), formats.order.len());
        assert!(formats.kept.contains_key(&"199".parse().unwrap()));
        assert!(!formats.kept.contains_key(&"0".parse().unwrap()));
        let mut raw = (*endpoint("raw", 1)).clone();
        raw.format = Format::Raw;
        formats.of(&Arc::new(raw));
        assert!(!formats.kept.contains_key(&"raw".parse().unwrap()));
    }
}

//! The egress proxy as it is written: one URL, its user and password in it.
//!
//! Decides its form, and that neither `show` nor a mistake repeats what may be the password.

use percent_encoding::percent_decode_str;
use postrider_domain::{ProxyServer, Secret};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::kind::{Complaint, Kind, quote};
use crate::reference::HIDDEN;

/// An `http` URL without path, or nothing.
pub(crate) struct ProxyUrl;

impl ProxyUrl {
    fn read(text: &str) -> Option<ProxyServer> {
        let url = Url::parse(text).ok()?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if url.scheme() != "http" || !bare || url.fragment().is_some() {
            return None;
        }
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (name, password) => {
                let decoded =
                    |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
                let (name, password) = (decoded(name), decoded(password.unwrap_or_default()));
                if name.contains(&b':') {
                    return None;
                }
                Some(Secret::new([&name, &b":"[..], &password].concat()))
            }
        };
        Some(ProxyServer {
            host: url.host_str().filter(|host| !host.is_empty())?.into(),
            port: url.port_or_known_default()?,
            credentials,
        })
    }
}

impl Kind for ProxyUrl {
    type Value = Option<ProxyServer>;

    fn name(&self) -> &'static str {
        "proxy"
    }

    fn expected(&self) -> String {
        "a URL such as \"http://proxy.example:3128\", with user:password@ before the host where \
         the proxy asks for them, or nothing"
            .to_owned()
    }

    fn check(&self, path: &str, value: &Value) -> Result<Self::Value, Vec<Complaint>> {
        match value.as_str() {
            Some("") => Ok(None),
            Some(text) => {
                Self::read(text).map_or_else(|| self.refuse(path, value), |p| Ok(Some(p)))
            }
            None => self.refuse(path, value),
        }
    }

    fn shown(&self, value: &Value) -> Value {
        let url = value.as_str().and_then(|text| Url::parse(text).ok());
        let Some(mut url) = url else {
            return value.clone();
        };
        if url.username().is_empty() && url.password().is_none() {
            return value.clone();
        }
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Value::String(HIDDEN.to_owned());
        }
        let rest = url.as_str().replacen("://", &format!("://{HIDDEN}@"), 1);
        Value::String(rest)
    }

    fn refuse<T>(&self, path: &str, value: &Value) -> Result<T, Vec<Complaint>> {
        let may_be_secret = value.as_str().is_some_and(|text| text.contains('@'));
        Err(vec![Complaint {
            path: path.to_owned(),
            found: if may_be_secret {
                HIDDEN.to_owned()
            } else {
                quote(value)
            },
            expected: self.expected(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ProxyServer> {
        ProxyUrl
            .check("egress.proxy", &text.into())
            .expect("a proxy")
    }

    #[test]
    fn host_port_and_credentials_are_taken_from_one_url() {
        assert_eq!(read(""), None);
        let plain = read("http://proxy.example:3128/").expect("one");
        assert_eq!((&*plain.host, plain.port), ("proxy.example", 3128));
        assert!(plain.credentials.is_none());
        let own = read("http://me:s%40crt%3A@[2001:db8::1]").expect("one");
        assert_eq!((&*own.host, own.port), ("[2001:db8::1]", 80));
        assert_eq!(own.credentials.expect("some").expose(), b"me:s@crt:");
    }

    #[test]
    fn nothing_that_may_be_a_password_is_repeated() {
        let shown = ProxyUrl.shown(&"http://me:hunter2@proxy.example:3128".into());
        assert_eq!(shown, "http://[hidden]@proxy.example:3128/");
        for bad in [
            "https://me:hunter2@proxy.example",
            "http://me:hunter2@proxy.example/path",
            "me:hunter2@proxy.example",
            "http://a%3Ab:hunter2@proxy.example",
        ] {
            let complaints = ProxyUrl.check("egress.proxy", &bad.into()).expect_err(bad);
            assert!(!complaints[0].found.contains("hunter2"), "{bad}");
        }
    }
}

//! What a URL must look like before anything is sent to it.
//!
//! Decides the refusals and their order: first the text as written, because the parser silently
//! drops or rewrites what we refuse (CR, LF, tab, backslash), then scheme, host and port as
//! parsed, because only the parser knows that `0x7f.1` is 127.0.0.1. No message repeats the URL:
//! its query and userinfo may hold secrets.

use std::net::IpAddr;

use url::{Host, Url};

use crate::{DeniedAddress, Policy};

/// Bytes a URL may have.
pub const URL_LENGTH_MAX: usize = 2048;

/// Bytes of a name (RFC 1035 section 3.1: 255 with the lengths of its first label and its root).
const NAME_LENGTH_MAX: usize = 253;

/// Bytes between two of its dots (RFC 1035 section 2.3.4).
const LABEL_LENGTH_MAX: usize = 63;

/// Why nothing is sent to a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// More than [`URL_LENGTH_MAX`] bytes.
    #[error("the URL has {length} bytes; at most {URL_LENGTH_MAX} are allowed")]
    TooLong {
        /// Bytes found.
        length: usize,
    },
    /// White space, a control character or a backslash.
    #[error(
        "the URL has {found:?} at byte {at}; \
         white space, control characters and backslashes must be percent-encoded"
    )]
    Character {
        /// The character.
        found: char,
        /// Where it is, counted in bytes from 0.
        at: usize,
    },
    /// `#` and what follows is never sent, so it cannot be meant.
    #[error("the URL has a fragment (#...); remove it")]
    Fragment,
    /// `user:password@` before the host.
    #[error("the URL has a user name or password before the host; send them as a header instead")]
    Userinfo,
    /// Not an absolute URL with a host.
    #[error("not an absolute URL such as https://example.com/hooks: {reason}")]
    Unparsable {
        /// What the parser says.
        reason: &'static str,
    },
    /// Neither `https` nor, where allowed, `http`.
    #[error("the URL's scheme is {found:?}; expected {expected}")]
    Scheme {
        /// The scheme in the URL.
        found: Box<str>,
        /// What is allowed.
        expected: &'static str,
    },
    /// A port that is not on the list.
    #[error("the URL's port is {found}; egress.ports allows {expected}")]
    Port {
        /// The port in the URL, or the scheme's own.
        found: u16,
        /// The list.
        expected: Box<str>,
    },
    /// A name with an empty label, or longer than DNS has them.
    #[error(
        "the URL's host is not a domain name such as example.com, of at most {NAME_LENGTH_MAX} \
         bytes and {LABEL_LENGTH_MAX} between dots: {host:?}"
    )]
    Host {
        /// The host as parsed.
        host: Box<str>,
    },
    /// A name that only means something inside a network.
    #[error("the URL's host {host:?} is {what}; expected a public domain name or address")]
    InnerName {
        /// The host as parsed.
        host: Box<str>,
        /// The rule it falls under.
        what: &'static str,
    },
    /// An address literal on the deny list.
    #[error("the URL's host is denied: {0}")]
    Denied(#[from] DeniedAddress),
}

impl Policy {
    /// The URL parsed and normalised: host in lower-case ASCII without a trailing dot, addresses
    /// in their usual form, the scheme's own port left out. Names are not resolved here.
    ///
    /// # Errors
    /// [`UrlRefusal`] says what was wrong and what is expected.
    pub fn check_url(&self, text: &str) -> Result<Url, UrlRefusal> {
        check_text(text)?;
        let url = normalise(text)?;
        // Its usual form may be longer than what was written, and is what is sent.
        check_length(url.as_str())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefusal::Userinfo);
        }
        self.check_scheme(&url)?;
        let any_port = self.check_host(&url)?;
        self.check_port(&url, any_port)?;
        Ok(url)
    }

    fn check_scheme(&self, url: &Url) -> Result<(), UrlRefusal> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_http => Ok(()),
            found => Err(UrlRefusal::Scheme {
                found: found.into(),
                expected: match (self.allow_http, found) {
                    (true, _) => "https or http",
                    (false, "http") => "https (egress.allow_http allows http)",
                    (false, _) => "https",
                },
            }),
        }
    }

    /// Whether the host is covered by `allow_ranges`, which frees it from the list of ports.
    fn check_host(&self, url: &Url) -> Result<bool, UrlRefusal> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain("localhost")) if self.excepts_loopback() => return Ok(true),
            Some(Host::Domain(name)) => return check_name(name).map(|()| false),
            None => return Err(unparsable(&url::ParseError::EmptyHost)),
        };
        self.check_address(address)?;
        Ok(self.is_excepted(address))
    }

    fn check_port(&self, url: &Url, any_port: bool) -> Result<(), UrlRefusal> {
        let found = url.port_or_known_default().unwrap_or(0);
        if found != 0 && (any_port || self.ports.contains(&found)) {
            return Ok(());
        }
        let listed: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        Err(UrlRefusal::Port {
            found,
            expected: listed.join(", ").into(),
        })
    }
}

fn check_length(text: &str) -> Result<(), UrlRefusal> {
    let length = text.len();
    if length > URL_LENGTH_MAX {
        return Err(UrlRefusal::TooLong { length });
    }
    Ok(())
}

/// The rules for the text as written.
fn check_text(text: &str) -> Result<(), UrlRefusal> {
    check_length(text)?;
    let refused = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    if let Some((at, found)) = text.char_indices().find(|(_, c)| refused(*c)) {
        return Err(UrlRefusal::Character { found, at });
    }
    if text.contains('#') {
        return Err(UrlRefusal::Fragment);
    }
    // The parser takes `https:host`, `https:////host` and the like for `https://host`.
    let rest = text
        .split_once("://")
        .filter(|(scheme, rest)| !scheme.contains('/') && !rest.starts_with('/'))
        .map(|(_, rest)| rest);
    let Some(rest) = rest else {
        return Err(UrlRefusal::Unparsable {
            reason: "a scheme and :// must come before the host",
        });
    };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    if authority.contains('@') {
        return Err(UrlRefusal::Userinfo);
    }
    Ok(())
}

/// A URL in the form in which it is sent: its parts in their usual form, its host without a dot at
/// the end. Nothing is said about where it leads.
///
/// # Errors
/// [`UrlRefusal`] when it is not a URL.
pub fn normalise(text: &str) -> Result<Url, UrlRefusal> {
    let mut url = Url::parse(text).map_err(|error| unparsable(&error))?;
    strip_trailing_dot(&mut url)?;
    Ok(url)
}

/// `example.com.` and `example.com` are the same host to DNS and must be to every rule.
fn strip_trailing_dot(url: &mut Url) -> Result<(), UrlRefusal> {
    let stripped = match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').map(str::to_owned),
        _ => None,
    };
    match stripped {
        Some(name) if name.is_empty() => Err(UrlRefusal::Host { host: ".".into() }),
        Some(name) => url.set_host(Some(&name)).map_err(|e| unparsable(&e)),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), UrlRefusal> {
    let mut labels = name.split('.').map(str::len);
    if name.len() > NAME_LENGTH_MAX
        || labels.any(|length| !(1..=LABEL_LENGTH_MAX).contains(&length))
    {
        return Err(UrlRefusal::Host { host: name.into() });
    }
    let what = match name.rsplit_once('.') {
        None if name == "localhost" => "this machine",
        None => "a name without a dot",
        Some((_, "localhost")) => "this machine (*.localhost)",
        Some((_, "internal")) => "inside a private network (*.internal)",
        Some((_, "local")) => "inside a local network (*.local)",
        Some(_) => return Ok(()),
    };
    Err(UrlRefusal::InnerName {
        host: name.into(),
        what,
    })
}

fn unparsable(error: &url::ParseError) -> UrlRefusal {
    UrlRefusal::Unparsable {
        reason: match error {
            url::ParseError::EmptyHost => "it has no host",
            url::ParseError::InvalidPort => "the port is not a number up to 65535",
            url::ParseError::IdnaError => "the host is not a valid international domain name",
            url::ParseError::InvalidIpv4Address => "the host is not a valid IPv4 address",
            url::ParseError::InvalidIpv6Address => "the host is not a valid IPv6 address",
            url::ParseError::InvalidDomainCharacter => {
                "the host has a character no domain name has"
            }
            url::ParseError::RelativeUrlWithoutBase => "the scheme is missing",
            _ => "it does not parse",
        },
    }
}

#[cfg(test)]
mod tests;

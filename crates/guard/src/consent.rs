//! Whether a receiver agreed to be sent requests, and to how many (ADR 0038).
//!
//! Decides when it has to be asked, what of its answer is consent, by the abuse protection of
//! CloudEvents' webhooks or by the echo of a challenge, and what an allowed rate makes of an
//! endpoint's limit. Leaves asking, the clock and the random challenge to the caller.

use std::time::Duration;

use postrider_domain::{Credentials, Endpoint, Fields, RateLimit};
use subtle::ConstantTimeEq as _;
use url::{Origin, Url};

/// Header that asks: whose requests they would be, a DNS name. Sent with every delivery afterwards.
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
/// Header that answers: whose requests are allowed, or `*`.
pub const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
/// Header that answers: how many requests a minute are allowed, or `*`.
pub const ALLOWED_RATE: &str = "webhook-allowed-rate";

const MINUTE: Duration = Duration::from_secs(60);

/// What a receiver agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Requests a minute; `None` = as many as there are.
    pub per_minute: Option<u32>,
}

/// Why an answer is no consent. No text of the answer is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConsent {
    /// The header is missing, or names somebody else.
    #[error("its answer has no header WebHook-Allowed-Origin with our origin or *")]
    Origin,
    /// A rate that is none.
    #[error(
        "its answer has a header WebHook-Allowed-Rate that is neither a whole number above 0 nor *"
    )]
    Rate,
    /// The body is something else.
    #[error("its answer's body is not the challenge")]
    Echo,
    /// The status is not 2xx.
    #[error("its answer to the challenge is not 2xx")]
    Status,
    /// Tokens are asked for elsewhere.
    #[error(
        "its auth.oauth2.token_url has another scheme, host or port than its url, for which it cannot agree"
    )]
    Token,
}

/// Whether a receiver has to be asked before `wanted` replaces `known`: when it is new, or when
/// scheme, host, port or path of its URL are others, or scheme, host or port of where its access
/// tokens are asked for. With `with_rate` also when a limit there was
/// is changed, which the receiver may have set.
#[must_use]
pub fn is_needed(known: Option<&Endpoint>, wanted: &Endpoint, with_rate: bool) -> bool {
    let Some(known) = known else {
        return true;
    };
    let place = |url: &str| {
        let mut url = Url::parse(url).ok()?;
        url.set_query(None);
        Some(url)
    };
    let moved = known.url != wanted.url && place(&known.url) != place(&wanted.url);
    let limit_changed = known.rate_limit.is_some() && known.rate_limit != wanted.rate_limit;
    let token = token_origin(wanted);
    let asks_elsewhere = token.is_some() && token != token_origin(known);
    moved || asks_elsewhere || (with_rate && limit_changed)
}

/// Whether a receiver's consent can cover all that is sent for an endpoint: access tokens have to
/// be asked for at its own scheme, host and port. Another's token endpoint has no way to agree, and
/// would be sent requests, the asking for consent among them.
///
/// # Errors
/// [`NoConsent::Token`].
pub fn covers(endpoint: &Endpoint) -> Result<(), NoConsent> {
    let own = Url::parse(&endpoint.url).ok().map(|url| url.origin());
    match token_origin(endpoint) {
        Some(token) if own.as_ref() != Some(&token) => Err(NoConsent::Token),
        _ => Ok(()),
    }
}

/// Where access tokens are asked for. One that cannot be read is like no other.
fn token_origin(endpoint: &Endpoint) -> Option<Origin> {
    let Some(Credentials::OAuth2(oauth)) = &endpoint.auth.as_ref()?.credentials else {
        return None;
    };
    let url = Url::parse(&oauth.token_url).ok();
    Some(url.map_or_else(Origin::new_opaque, |url| url.origin()))
}

/// What the answer to `OPTIONS` says, by its headers alone: the status means nothing.
///
/// # Errors
/// [`NoConsent`].
pub fn by_cloudevents(origin: &str, headers: &Fields) -> Result<Consent, NoConsent> {
    let values = |name: &'static str| {
        let of = headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        of.map(|(_, value)| value.trim())
    };
    let allows = |value: &str| value == "*" || value.eq_ignore_ascii_case(origin);
    if !values(ALLOWED_ORIGIN).any(allows) {
        return Err(NoConsent::Origin);
    }
    let mut per_minute = None;
    for value in values(ALLOWED_RATE).filter(|value| *value != "*") {
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        // more than can be counted is more than is ever sent
        let rate = value.parse().unwrap_or(u32::MAX);
        if !digits || rate == 0 {
            return Err(NoConsent::Rate);
        }
        per_minute = Some(per_minute.map_or(rate, |least: u32| least.min(rate)));
    }
    Ok(Consent { per_minute })
}

/// What the answer to a challenge says: 2xx, and the challenge as its body, white space around it
/// apart. Compared in constant time.
///
/// # Errors
/// [`NoConsent`].
pub fn by_echo(challenge: &str, status: u16, body: &[u8]) -> Result<Consent, NoConsent> {
    if !(200..300).contains(&status) {
        return Err(NoConsent::Status);
    }
    let same = body.trim_ascii().ct_eq(challenge.as_bytes());
    if bool::from(same) {
        Ok(Consent { per_minute: None })
    } else {
        Err(NoConsent::Echo)
    }
}

/// The limit of an endpoint whose receiver allows so many requests a minute: the owner's own where
/// it never has more in any minute, else spaced evenly, by the owner's limit or by the receiver's.
/// Never more than either allows. `None` = no limit.
#[must_use]
pub fn bounded(limit: Option<RateLimit>, consent: Consent) -> Option<RateLimit> {
    let most = u64::from(RateLimit::PER_SECOND_MAX) * MINUTE.as_secs();
    let Some(allowed) = consent.per_minute.filter(|rate| u64::from(*rate) < most) else {
        return limit;
    };
    let of_receiver = |smooth| RateLimit {
        attempts: allowed,
        per: MINUTE,
        smooth,
    };
    let Some(own) = limit else {
        return Some(of_receiver(false));
    };
    let smooth = RateLimit {
        smooth: true,
        ..own
    };
    let fits = |limit: &RateLimit| in_a_minute(limit) <= u64::from(allowed);
    Some(match [own, smooth].into_iter().find(fits) {
        Some(limit) => limit,
        None => of_receiver(true),
    })
}

/// Most attempts of a limit that start within a minute, wherever it begins.
fn in_a_minute(limit: &RateLimit) -> u64 {
    let (minute, per) = (MINUTE.as_millis(), limit.per.as_millis().max(1));
    let attempts = u128::from(limit.attempts);
    let bursts = attempts * minute.div_ceil(per);
    let most = if limit.smooth {
        bursts.min((attempts * minute).div_ceil(per))
    } else {
        bursts
    };
    u64::try_from(most).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, limit: Option<RateLimit>) -> Endpoint {
        let id = "ep_1".parse().unwrap();
        Endpoint {
            rate_limit: limit,
            ..Endpoint::new(id, postrider_domain::Tenant::default(), url)
        }
    }

    fn limit(attempts: u32, seconds: u64, smooth: bool) -> RateLimit {
        RateLimit {
            attempts,
            per: Duration::from_secs(seconds),
            smooth,
        }
    }

    fn answer(fields: &[(&str, &str)]) -> Result<Option<u32>, NoConsent> {
        let fields = fields.iter().copied().collect();
        by_cloudevents("Hooks.Psp.example", &fields).map(|consent| consent.per_minute)
    }

    #[test]
    fn who_is_new_or_elsewhere_is_asked() {
        let known = endpoint("https://shop.example/in?v=1", None);
        let asks = |url| is_needed(Some(&known), &endpoint(url, None), true);
        assert!(is_needed(None, &known, false));
        for same in [
            "https://shop.example/in?v=1",
            "https://shop.example/in?v=2",
            "https://shop.example/in",
        ] {
            assert!(!asks(same), "{same}");
        }
        for other in [
            "http://shop.example/in?v=1",
            "https://shop.example:8443/in?v=1",
            "https://shop2.example/in?v=1",
            "https://shop.example/out?v=1",
            "https://shop.example/in/?v=1",
        ] {
            assert!(asks(other), "{other}");
        }
    }

    #[test]
    fn where_tokens_are_asked_for_is_the_receivers_own_and_asked_about() {
        let asking = |token_url: &str| {
            let oauth = postrider_domain::OAuth2 {
                token_url: token_url.into(),
                client_id: "id".into(),
                client_secret: postrider_domain::Secret::new(*b"secret"),
                scopes: Vec::new(),
                audience: None,
            };
            let auth = postrider_domain::Auth {
                credentials: Some(Credentials::OAuth2(oauth)),
                ..postrider_domain::Auth::NONE
            };
            let mut endpoint = endpoint("https://shop.example/in", None);
            endpoint.auth = Some(auth.into());
            endpoint
        };
        let (none, own) = (
            endpoint("https://shop.example/in", None),
            asking("https://shop.example:443/token"),
        );
        assert!(is_needed(Some(&none), &own, false));
        assert!(!is_needed(Some(&own), &none, false));
        let path = asking("https://shop.example/oauth?a=b");
        assert!(!is_needed(Some(&own), &path, false));
        for fine in [&none, &own, &path] {
            assert_eq!(covers(fine), Ok(()));
        }
        for other in [
            "http://shop.example/token",
            "https://shop.example:8443/token",
            "https://id.shop.example/token",
            "https://victim.example/token",
            "none",
        ] {
            let other = asking(other);
            assert!(is_needed(Some(&own), &other, false));
            assert_eq!(covers(&other), Err(NoConsent::Token));
        }
    }

    #[test]
    fn a_limit_that_the_receiver_may_have_set_is_asked_about() {
        let url = "https://shop.example/in";
        let limited = endpoint(url, Some(limit(5, 60, false)));
        let free = endpoint(url, None);
        assert!(is_needed(Some(&limited), &free, true));
        assert!(!is_needed(Some(&limited), &free, false));
        assert!(!is_needed(Some(&limited), &limited, true));
        assert!(!is_needed(Some(&free), &limited, true));
    }

    #[test]
    fn consent_is_our_origin_or_everybody() {
        for allowed in ["hooks.psp.example", " HOOKS.psp.example ", "*"] {
            assert_eq!(
                answer(&[("WebHook-Allowed-Origin", allowed)]),
                Ok(None),
                "{allowed}"
            );
        }
        for other in [
            "",
            "psp.example",
            "hooks.psp.example.evil.example",
            "**",
            "null",
        ] {
            let found = answer(&[("webhook-allowed-origin", other)]);
            assert_eq!(found, Err(NoConsent::Origin), "{other}");
        }
        assert_eq!(answer(&[]), Err(NoConsent::Origin));
        assert_eq!(
            answer(&[("webhook-allowed-rate", "*")]),
            Err(NoConsent::Origin)
        );
    }

    #[test]
    fn a_rate_is_a_number_or_any() {
        let rate = |value| {
            answer(&[
                ("webhook-allowed-origin", "*"),
                ("webhook-allowed-rate", value),
            ])
        };
        assert_eq!(rate("120"), Ok(Some(120)));
        assert_eq!(rate("*"), Ok(None));
        assert_eq!(rate("99999999999999999999"), Ok(Some(u32::MAX)));
        for bad in ["0", "-1", "1.5", "", "many", "+5"] {
            assert_eq!(rate(bad), Err(NoConsent::Rate), "{bad}");
        }
        let twice = [
            ("webhook-allowed-origin", "*"),
            ("webhook-allowed-rate", "9"),
            ("webhook-allowed-rate", "5"),
        ];
        assert_eq!(answer(&twice), Ok(Some(5)), "the least");
    }

    #[test]
    fn an_echo_is_the_challenge_and_nothing_else() {
        let challenge = "0123456789abcdef";
        let echo = |status, body: &[u8]| by_echo(challenge, status, body);
        assert!(echo(200, challenge.as_bytes()).is_ok());
        assert!(echo(204, b"\n0123456789abcdef\r\n").is_ok());
        for other in [
            &b""[..],
            b"0123456789abcde",
            b"0123456789abcdef0",
            b"\"0123456789abcdef\"",
        ] {
            assert_eq!(echo(200, other), Err(NoConsent::Echo));
        }
        for status in [199, 301, 404, 500] {
            assert_eq!(echo(status, challenge.as_bytes()), Err(NoConsent::Status));
        }
    }

    #[test]
    fn a_limit_is_what_both_sides_allow() {
        let of = |own, per_minute| bounded(own, Consent { per_minute });
        let own = limit(10, 1, false);
        assert_eq!(of(Some(own), None), Some(own));
        assert_eq!(of(None, None), None);
        assert_eq!(of(None, Some(90)), Some(limit(90, 60, false)));
        assert_eq!(of(None, Some(u32::MAX)), None, "more than is ever sent");
        assert_eq!(of(Some(own), Some(600)), Some(own));
        assert_eq!(of(Some(own), Some(100)), Some(limit(100, 60, true)));
        let hourly = limit(1_000, 3_600, false);
        assert_eq!(of(Some(hourly), Some(100)), Some(limit(1_000, 3_600, true)));
        assert_eq!(of(Some(hourly), Some(10)), Some(limit(10, 60, true)));
    }

    /// For many pairs: in a minute never more than the receiver allows, in the owner's interval
    /// never more than the owner does.
    #[test]
    fn neither_side_gets_more_than_it_allows() {
        for attempts in [1_u32, 2, 7, 60, 61, 1_000] {
            for seconds in [1, 7, 59, 60, 61, 3_600] {
                for allowed in [1_u32, 2, 59, 60, 61, 5_000] {
                    for smooth in [false, true] {
                        let own = limit(attempts, seconds, smooth);
                        let both = bounded(
                            Some(own),
                            Consent {
                                per_minute: Some(allowed),
                            },
                        )
                        .unwrap();
                        assert!(in_a_minute(&both) <= u64::from(allowed), "{own:?} {both:?}");
                        if both.per != own.per {
                            let in_own = (u64::from(both.attempts) * seconds).div_ceil(60);
                            assert!(in_own <= u64::from(attempts), "{own:?} {both:?}");
                        }
                    }
                }
            }
        }
    }
}

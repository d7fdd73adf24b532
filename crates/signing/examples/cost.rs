//! What one signature costs, by scheme: `cargo run --release -p postrider-signing --example cost`.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use postrider_domain::{Jws, Scheme, Signing, SigningSecret, Timestamp};
use postrider_signing::{Message, generate_key, parse_key, sign};

const BODY_BYTES: usize = 1_024;
/// Of so many rounds the fastest counts: the machine may have other things to do.
const ROUNDS: u32 = 20;
const ROUND: Duration = Duration::from_millis(50);

fn main() {
    let jws = Scheme::Jws(Jws {
        encoded: true,
        open_banking: None,
    });
    let pem = |text: &str| parse_key(&jws, text).expect("a private key");
    let (p256, rsa) = (
        pem(include_str!("../src/tests/p256.pem")),
        pem(include_str!("../src/tests/rsa2048.pem")),
    );
    let made = |scheme: &Scheme| generate_key(scheme, [7; 32]);
    let ed25519 = made(&Scheme::StandardEd25519);
    let cases = [
        ("standard", Scheme::Standard, made(&Scheme::Standard)),
        ("standard-ed25519", Scheme::StandardEd25519, ed25519.clone()),
        ("stripe", Scheme::Stripe, made(&Scheme::Stripe)),
        ("github", Scheme::Github, made(&Scheme::Github)),
        ("shopify", Scheme::Shopify, made(&Scheme::Shopify)),
        ("slack", Scheme::Slack, made(&Scheme::Slack)),
        ("corefy", Scheme::Corefy, made(&Scheme::Corefy)),
        (
            "rfc9421, hmac-sha256",
            Scheme::Rfc9421,
            made(&Scheme::Rfc9421),
        ),
        ("rfc9421, ed25519", Scheme::Rfc9421, ed25519),
        ("rfc9421, ecdsa-p256-sha256", Scheme::Rfc9421, p256.clone()),
        ("rfc9421, rsa-pss-sha512", Scheme::Rfc9421, rsa.clone()),
        ("jws, HS256", jws.clone(), made(&jws)),
        ("jws, ES256", jws.clone(), p256),
        ("jws, PS256", jws, rsa),
    ];
    println!("of a body of {BODY_BYTES} bytes, microseconds");
    for (name, scheme, key) in cases {
        let signing = Signing {
            scheme,
            secrets: vec![SigningSecret {
                id: "s1".into(),
                key,
                not_after: None,
            }],
        };
        println!("{name:30} {:8.2}", microseconds(&signing));
    }
}

fn microseconds(signing: &Signing) -> f64 {
    let body = vec![b'x'; BODY_BYTES];
    let message = Message {
        id: "dlv_0123456789abcdef0123456789abcdef",
        at: Timestamp::from_secs(1_800_000_000),
        url: "https://merchant.example/hooks",
        content_type: "application/json",
        body: &body,
    };
    let round = || {
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < ROUND {
            black_box(sign(black_box(signing), black_box(&message)).expect("a valid key"));
            count += 1;
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

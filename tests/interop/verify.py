"""Verifies requests with libraries that others wrote.

Reads one case as JSON from each line of the input; prints for each library that knows its scheme
whether it accepts the request, and whether it refuses the one with another body.
"""

import base64
import hashlib
import json
import sys

import gidgethub
import gidgethub.sansio
import nacl.exceptions
import nacl.signing
import requests
import standardwebhooks.webhooks
import stripe
import svix.webhooks
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from http_message_signatures import (
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from jwcrypto import jwk, jws
from jwcrypto.common import JWException
from shopify_webhook.helpers import hmac_is_valid
from slack_sdk.signature import SignatureVerifier


def shared_bytes(case):
    return base64.b64decode(case["secret"].removeprefix("whsec_"))


def accepts(exceptions, verify):
    try:
        return verify() is not False
    except exceptions:
        return False


def standard(library, exception):
    def verify(case, body):
        webhook = library(case["secret"])
        return accepts(exception, lambda: webhook.verify(body, case["headers"]) or True)

    return verify


def with_nacl(case, body):
    headers = case["headers"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = nacl.signing.VerifyKey(base64.b64decode(case["public"].removeprefix("whpk_")))
    signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
    return accepts(nacl.exceptions.BadSignatureError, lambda: key.verify(signed, signature))


def with_stripe(case, body):
    header = case["headers"]["stripe-signature"]
    check = stripe.WebhookSignature.verify_header
    return accepts(
        stripe.SignatureVerificationError,
        lambda: check(body.decode(), header, case["secret"], 300),
    )


def with_gidgethub(case, body):
    signature = case["headers"]["x-hub-signature-256"]
    return accepts(
        gidgethub.ValidationFailure,
        lambda: gidgethub.sansio.validate_event(
            body, signature=signature, secret=case["secret"]
        ),
    )


def with_shopify(case, body):
    return hmac_is_valid(body, case["secret"], case["headers"]["x-shopify-hmac-sha256"])


def with_slack_sdk(case, body):
    headers = case["headers"]
    return SignatureVerifier(case["secret"]).is_valid(
        body=body.decode(),
        timestamp=headers["x-slack-request-timestamp"],
        signature=headers["x-slack-signature"],
    )


def by_hand_corefy(case, body):
    secret = case["secret"].encode()
    digest = hashlib.sha1(secret + body + secret).digest()
    return base64.b64encode(digest).decode() == case["headers"]["x-signature"]


MESSAGE_ALGORITHMS = {
    "shared": algorithms.HMAC_SHA256,
    "ed25519": algorithms.ED25519,
    "p256": algorithms.ECDSA_P256_SHA256,
    "rsa": algorithms.RSA_PSS_SHA512,
}


def with_http_message_signatures(case, body):
    class Keys(HTTPSignatureKeyResolver):
        def resolve_public_key(self, key_id):
            assert key_id == case["key_id"], key_id
            if case["kind"] == "shared":
                return shared_bytes(case)
            return load_pem_public_key(case["public"].encode())

    # whoever uses the library has to hold the digest against the body
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    if case["headers"]["content-digest"] != f"sha-256=:{digest}:":
        return False
    request = requests.Request("POST", case["url"], headers=case["headers"]).prepare()
    verifier = HTTPMessageVerifier(
        signature_algorithm=MESSAGE_ALGORITHMS[case["kind"]], key_resolver=Keys()
    )
    return accepts(
        HTTPMessageSignaturesException, lambda: len(verifier.verify(request)) == 1
    )


OPEN_BANKING = [f"http://openbanking.org.uk/{name}" for name in ("iat", "iss", "tan")]


def with_jwcrypto(case, body):
    if case["kind"] == "shared":
        key = jwk.JWK(kty="oct", k=base64.urlsafe_b64encode(shared_bytes(case)).decode())
    else:
        key = jwk.JWK.from_pem(case["public"].encode())
    known = {
        name: jws.JWSEHeaderParameter(name, False, True, lambda token: True)
        for name in OPEN_BANKING
    }
    token = jws.JWS(header_registry=known)
    token.deserialize(case["headers"]["x-jws-signature"])
    return accepts(
        JWException,
        lambda: token.verify(key, detached_payload=body) or True,
    )


def with_joserfc(case, body):
    kinds = {"ed25519": OKPKey, "p256": ECKey, "rsa": RSAKey}
    if case["kind"] == "shared":
        key = OctKey.import_key(shared_bytes(case))
    else:
        key = kinds[case["kind"]].import_key(case["public"])
    names = ["HS256", "EdDSA", "ES256", "PS256"]
    value = case["headers"]["x-jws-signature"]
    return accepts(
        JoseError,
        lambda: joserfc_jws.deserialize_compact(
            value, key, algorithms=names, payload=body
        ),
    )


LIBRARIES = {
    "standard": {
        "standardwebhooks": standard(
            standardwebhooks.webhooks.Webhook,
            standardwebhooks.webhooks.WebhookVerificationError,
        ),
        "svix": standard(svix.webhooks.Webhook, svix.webhooks.WebhookVerificationError),
    },
    "standard-ed25519": {"PyNaCl": with_nacl},
    "stripe": {"stripe": with_stripe},
    "github": {"gidgethub": with_gidgethub},
    "shopify": {"django-shopify-webhook": with_shopify},
    "slack": {"slack_sdk": with_slack_sdk},
    "corefy": {"standard library": by_hand_corefy},
    "rfc9421": {"http-message-signatures": with_http_message_signatures},
    "jws": {"jwcrypto": with_jwcrypto, "joserfc": with_joserfc},
    "jws-unencoded": {"jwcrypto": with_jwcrypto},
    "jws-open-banking": {"jwcrypto": with_jwcrypto},
}


def main():
    for line in sys.stdin:
        case = json.loads(line)
        body, other = (base64.b64decode(case[name]) for name in ("body", "other_body"))
        for name, verify in LIBRARIES[case["scheme"]].items():
            verdict = {
                "case": case["name"],
                "library": f"Python: {name}",
                "accepts": verify(case, body),
                "refuses": not verify(case, other),
            }
            print(json.dumps(verdict))


main()

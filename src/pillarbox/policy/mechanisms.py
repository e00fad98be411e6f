"""Which ways to log in are offered, by profile, network and TLS. What is offered is honoured, and nothing else is.

| network, TLS                 | USER/PASS, PLAIN, LOGIN | APOP, CRAM-MD5          | SCRAM            | SCRAM-...-PLUS |
|------------------------------|-------------------------|-------------------------|------------------|----------------|
| trusted, no TLS              | `policy.plaintext`      | yes, `strict`: as those | as APOP          | no             |
| any other, no TLS            | `policy.plaintext`      | yes, `strict`: as those | as APOP          | no             |
| under TLS                    | yes                     | yes, `strict`: no       | yes              | yes            |

Where mail is handed in and neither TLS nor trust is there, nothing is offered (RFC 8314), whatever the row says.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..terms import Mechanism
from .exposure import plaintext_allowed

PROFILES = {"balanced": "trusted", "strict": "refuse", "classic": "allow"}  # what each says of a password in the clear

_PASSWORD = (Mechanism.PLAIN, Mechanism.LOGIN)
_SCRAM = (Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_1)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client may use; a session's greeting, CAPA and EHLO say so."""

    plaintext: bool = False  # USER and PASS
    apop: bool = False  # and with it the challenge in the greeting
    sasl: tuple[Mechanism, ...] = ()  # the best one first

    def holds(self, mechanism: Mechanism) -> bool:
        if mechanism is Mechanism.USER_PASS:
            return self.plaintext
        return self.apop if mechanism is Mechanism.APOP else mechanism in self.sasl


def plaintext(profile: str, explicit: str) -> str:
    """Where a password may be sent without TLS: "refuse", "trusted" or "allow". `explicit`: "profile", or one of these."""
    return PROFILES[profile] if explicit == "profile" else explicit


def offered(
    profile: str, explicit: str, *, trusted: bool, secured: bool, bound: bool = False, submission: bool = False
) -> Offer:
    """`trusted`: the client's network is. `bound`: the certificate binds a channel (RFC 5929). `submission`: mail is
    handed in, and there is neither USER nor APOP."""
    if submission and not (trusted or secured):
        return Offer()
    password = plaintext_allowed(plaintext(profile, explicit), trusted=trusted, secured=secured)
    strict = profile == "strict"
    digests = not strict or (password and not secured)  # who takes passwords in the clear may take digests
    scram = secured or digests
    sasl = (
        *((Mechanism.SCRAM_SHA_256_PLUS,) if secured and bound else ()),
        *(_SCRAM if scram else ()),
        *((Mechanism.CRAM_MD5,) if digests else ()),
        *(_PASSWORD if password else ()),
    )
    return Offer(password and not submission, digests and not submission, sasl)

"""Credentials are cut out of everything that is written or shown.

They stand in URLs (``user:password@``, signatures in a query) and in settings that go to other
software as they are. The run itself works with the settings as they were given; what it leaves
(manifests, tables, pages, cards, logs, the saved recipe) has ``***`` in their place.
"""

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any

CUT = "***"

_PASSWORD = re.compile(r"://[^\s/?#\"'<>:@]{0,256}:[^\s/?#\"'<>]{0,2048}@")
_USER = re.compile(r"(?<=http)(s?)://[^\s/?#\"'<>@]{1,2048}@")
"""Tokens of code hosts stand alone before the ``@``; elsewhere (``abfs://container@account``)
it is no secret."""
_QUERY = re.compile(r"([?&;])([A-Za-z0-9_.~-]{1,64})=([^&;\s\"'<>#]+)")
_SECRET_PARAMETER = re.compile(
    r"x-(amz|goog|oss|cos|obs|ms)-.*|awsaccesskeyid|googleaccessid|"
    r".*(sig|signature|token|secret|passw|pwd|credential|auth|key|policy|session|jwt|sas).*|"
    r"s[verptio]|sip|spr|sdd|skoid|sktid|ske|skt|sks|skv|code",
    re.IGNORECASE,
)
"""Names of parameters that sign a URL: of S3, Google, Azure (``sv``, ``se``, ``sp`` ...) and
others."""
_WORDS = (
    r"passw(?:or)?d|passphrase|secret|token|api_?key|access_?key|secret_?key|private_?key|"
    r"account_?key|key_?id|credentials?|authorization|signature|sas|connection_?string"
)
_SECRET_KEY = re.compile(rf"(?:.*[_.-])?(?:{_WORDS})", re.IGNORECASE)
_NAMES_OF_SECRETS = {"pull_secret", "token_secret", "password_secret"}
"""Settings that name a secret and hold none."""
_SAID = re.compile(
    rf"(\b[\w.-]{{0,40}}(?:{_WORDS})[\"']?\s{{0,4}}[:=]\s{{0,4}})([\"']?)[^\s\"',&}}\])]{{4,4096}}",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` without credentials in URLs; takes time linear in its length."""
    if "://" in text:
        text = _PASSWORD.sub(f"://{CUT}@", text)
        text = _USER.sub(rf"\1://{CUT}@", text)
    return _QUERY.sub(_parameter, text) if "=" in text else text


def redact_message(text: str) -> str:
    """The same for what errors and other software say, where settings stand as ``key: value``."""
    return _SAID.sub(rf"\1\2{CUT}", redact(text))


def redacted(value: Any) -> Any:
    """``value`` (JSON) without credentials in URLs or under keys that call themselves secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(k): _setting(k, part) for k, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(part) for part in value]
    return value


def is_redacted(value: Any) -> bool:
    """Whether something was cut out of ``value`` (JSON) before it was written."""
    if isinstance(value, Mapping):
        return any(is_redacted(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(map(is_redacted, value))
    return isinstance(value, str) and (value == CUT or f"//{CUT}@" in value or f"={CUT}" in value)


def restored(value: Any, known: Any) -> Any:
    """``value`` with what `redacted` cut out of it put back, as far as the settings ``known`` have
    it: the same text anywhere, or the same key in the same place."""
    return _restore(value, known, dict(_cut_texts(known)))


def identity(path: str) -> str:
    """What a source is called where its URL is written: the path; of one with credentials what
    is left of it, and a digest of the whole, which is slow to compute so that nobody guesses."""
    shown = redact(path)
    return shown if shown == path else f"{shown} ({_slow_digest(path)})"


@functools.cache
def _slow_digest(text: str) -> str:
    return hashlib.scrypt(text.encode(), salt=b"delia source", n=2**14, r=8, p=1, dklen=6).hex()


def _parameter(found: re.Match[str]) -> str:
    start, name, value = found.groups()
    cut = CUT if _SECRET_PARAMETER.fullmatch(name) else value
    return f"{start}{name}={cut}"


def _setting(key: Any, value: Any) -> Any:
    secret = isinstance(key, str) and key not in _NAMES_OF_SECRETS and _SECRET_KEY.fullmatch(key)
    return CUT if secret and isinstance(value, str) and value else redacted(value)


def _cut_texts(known: Any) -> Any:
    parts = known.items() if isinstance(known, Mapping) else ()
    for key, value in parts:
        yield redact(str(key)), key
        yield from _cut_texts(value)
    if isinstance(known, list | tuple):
        for value in known:
            yield from _cut_texts(value)
    if isinstance(known, str):
        yield redact(known), known


def _restore(value: Any, known: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        if value == CUT:
            return known if isinstance(known, str) else value
        return texts.get(value, value)
    if isinstance(value, Mapping):
        others = known if isinstance(known, Mapping) else {}
        return {
            texts.get(k, k): _restore(part, others.get(texts.get(k, k)), texts)
            for k, part in value.items()
        }
    if isinstance(value, list):
        padded = [*(known if isinstance(known, list) else ()), *[None] * len(value)]
        return [_restore(part, padded[i], texts) for i, part in enumerate(value)]
    return value

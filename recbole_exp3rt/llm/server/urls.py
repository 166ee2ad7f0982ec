"""URLs of servers: what can be one, and what of one may be shown. A URL may hold a password."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

DATABASE = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?|postgres(?:ql)?)://[^\s'\"<>]*", re.IGNORECASE)
_OF_A_DATABASE = re.compile(  # scheme, user, hosts, name
    r"(postgres(?:ql)?://)(?:[^\s/?#@]*@)?([^\s/?#@]*)(/[^\s/?#@]*)?(?:\?[^\s#]*)?", re.IGNORECASE
)


def wrong_with(url: str) -> str | None:
    """Why `url` cannot be a server's base URL, in a few words; None: it can."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return "it holds a blank"
    if not re.match(r"https?://", url, re.IGNORECASE):
        return "it does not begin with http:// or https://"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return "its port is none" if "port" in str(error).lower() else "its host cannot be read"
    if not host:
        return "it names no host"
    if port == 0:
        return "its port is none"
    if parts.fragment:
        return "it holds a #"
    try:
        ascii_host = host.encode("idna").decode()
    except UnicodeError:
        return "its host cannot be"
    if ":" not in host and not re.fullmatch(r"[a-z0-9]([\w.-]*[a-z0-9.])?", ascii_host, re.I):
        return "its host cannot be"
    return None


def bare(url: str) -> str:
    """`url` without user, password, query and fragment; of a database's that is none, nothing."""
    if found := DATABASE.match(url):
        parts_of = _OF_A_DATABASE.fullmatch(url)
        return f"{parts_of[1]}{parts_of[2]}{parts_of[3] or ''}" if parts_of else f"{found[0]}***"
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != -1:  # reading a port that is none raises
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
    except ValueError:
        pass  # a URL that cannot be may hold a password nevertheless
    scheme, mark, rest = url.rpartition("://")
    return scheme + mark + re.split(r"[?#]", rest.rpartition("@")[2])[0]


def masked(value: Any) -> Any:
    """`value`, a text or a nest of lists and mappings, with every URL in it `bare`."""
    if isinstance(value, str):
        return _URL.sub(lambda found: bare(found[0]), value)
    if isinstance(value, dict):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner) for inner in value]
    return value


def secrets_of(url: str) -> list[str]:
    """User, password and values of the query, the longest first: what no message may repeat."""
    parts = urlsplit(url)
    secrets = [parts.username or "", parts.password or "", *re.split(r"[&=]", parts.query)[1::2]]
    return sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)

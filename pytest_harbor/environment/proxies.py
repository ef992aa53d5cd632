"""Network proxies: the environment variables that lead programs in environments through them, and around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

# Keys of `proxies` in the docker CLI's config.json, and the variables that the CLI makes of them.
_CONFIG_KEYS = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
_NAMES = tuple(_CONFIG_KEYS.values())
_NO_PROXY = ("NO_PROXY", "no_proxy")


def host_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of this machine that configure proxies."""
    names = {spelled for name in _NAMES for spelled in (name, name.lower())}
    return {name: value for name, value in variables.items() if name in names}


def docker_proxies(config: Mapping[str, Any], host: str) -> dict[str, str]:
    """Return the variables that the docker CLI would set in containers: those for the engine, else the default ones.

    Args:
        config: the content of config.json.
        host: the engine's address.

    """
    proxies = config.get("proxies")
    chosen = proxies.get(host, proxies.get("default")) if isinstance(proxies, dict) else None
    found = {}
    for key, name in _CONFIG_KEYS.items():
        value = chosen.get(key) if isinstance(chosen, dict) else None
        if isinstance(value, str) and value:
            found[name] = found[name.lower()] = value
    return found


def around_proxies(variables: Mapping[str, str], urls: Iterable[str]) -> dict[str, str]:
    """Return NO_PROXY and no_proxy with the hosts of URLs added; nothing if there is no proxy.

    Args:
        variables: the environment variables in effect.
        urls: what must be reached directly; texts that are no URLs are ignored.

    """
    uses_proxy = any(variables.get(name) for name in host_proxies(variables) if name not in _NO_PROXY)
    hosts = dict.fromkeys(urlsplit(url).hostname for url in urls if url.startswith(("http://", "https://")))
    if not uses_proxy or not hosts:
        return {}
    changed = {}
    for name, other in (_NO_PROXY, _NO_PROXY[::-1]):
        listed = [entry.strip() for entry in (variables.get(name) or variables.get(other) or "").split(",")]
        added = [host for host in hosts if host and host not in listed]
        changed[name] = ",".join(filter(None, (*listed, *added)))
    return changed

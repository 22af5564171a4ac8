"""The gateway on its port: what a node is given to serve browsers and scripts."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from ampgrid.errors import ConfigError
from ampgrid.node.config import DEFAULT_WEB_PORT, NodeConfig
from ampgrid.node.core import NodeCore
from ampgrid.node.directory import OWN_SECRET_BYTES, NodeDirectory, write_whole
from ampgrid.web.gateway import Gateway
from ampgrid.web.localfiles import LocalFiles
from ampgrid.web.password import Password
from ampgrid.web.tokens import Tokens
from ampgrid.wire.listening import CANNOT_LISTEN, why_not

_log = Logger()

#: Where it listens if nothing was said and the default port is taken.
_ANY_PORT = "tcp:0:interface=127.0.0.1"
#: Arguments of an endpoint description that name files.
_FILES = re.compile(r"\b(privateKey|certKey|extraCertChain|dhParameters)=([^:]+)")


def web_port(directory: NodeDirectory, config: NodeConfig) -> str:
    """Return where the gateway listens, an endpoint description.

    The file ``webport`` outranks ``node.toml``.

    Raises:
        ConfigError: the file cannot be used.
    """
    return directory.web_port() or config.web_port or DEFAULT_WEB_PORT


class WebFace:
    """The web gateway of one node.

    Args:
        directory: of the node.
        config: what its ``node.toml`` says.
        reactor: Twisted's.

    Attributes:
        gateway: what every request works with, once it was started.
    """

    def __init__(self, directory: NodeDirectory, config: NodeConfig, reactor: Any) -> None:
        self._directory = directory
        self._config = config
        self._reactor = reactor
        self._said = web_port(directory, config)
        self._port: Any = None
        self.gateway: Gateway | None = None

    async def start(self, core: NodeCore) -> None:
        """Listen, and write ``node.url``.

        Raises:
            ConfigError: the port is taken, or something in the node directory cannot be used.
        """
        directory = self._directory
        password = Password.read(directory.web_password_path)
        tokens = Tokens(self._token())
        localfiles = LocalFiles(directory.allow_localfile_path)
        gateway = Gateway(core, tokens, self._config.web_hosts, password, localfiles)
        self._port = await self._listen(gateway)
        self.gateway = gateway
        host = self._port.getHost()
        address = getattr(host, "host", "")
        if not _is_loopback(address) and password is None:
            await self.stop()
            raise ConfigError(
                f"The web gateway would listen on {address or host}, where others reach it, and "
                f"asks for no password: write NAME:PASSWORD into {directory.web_password_path}, "
                f"or listen on 127.0.0.1 ({self._where()})."
            )
        url = url_at(address, getattr(host, "port", 0), secure=self._said.startswith("ssl:"))
        try:
            write_whole(directory.node_url_path, url.encode("ascii") + b"\n")
        except ConfigError as error:
            _log.warn("it is not noted where the web gateway is: {why}", why=str(error))
        _log.info("the web gateway is at {url}", url=url)

    def _token(self) -> bytes:
        """Return the token that is kept; on a full disk, where none was made yet, one for now.

        The node must come up all the same: shares are read from it, and files got through it.
        """
        directory = self._directory
        try:
            return directory.web_token(os.urandom)
        except ConfigError as error:
            if directory.web_token_path.exists():
                raise
            _log.warn("the web gateway has a token for this run only: {why}", why=str(error))
            return os.urandom(OWN_SECRET_BYTES)

    def _where(self) -> str:
        if self._directory.web_port() is not None:
            return str(self._directory.web_port_path)
        return f"[web] port in {self._directory.config_path}"

    async def _listen(self, gateway: Gateway) -> Any:
        said = self._said
        try:
            return await self._endpoint(said).listen(gateway.factory)
        except CANNOT_LISTEN as error:
            if self._config.web_port is None and self._directory.web_port() is None:
                # Nobody asked for this port: another node of this machine has it.
                _log.warn("the port of the web gateway is taken, so it picks another one")
                return await self._endpoint(_ANY_PORT).listen(gateway.factory)
            raise ConfigError(
                f"The web gateway cannot listen on {said}: {why_not(error)}. Choose another port: "
                f"{self._where()}; with 0 the system picks one, and 'none' means no gateway."
            ) from error

    def _endpoint(self, said: str) -> Any:
        root = self._directory.path

        def absolute(match: re.Match[str]) -> str:
            path = (root / match[2]).as_posix().replace("\\", "\\\\").replace(":", "\\:")
            return f"{match[1]}={path}"

        try:
            return serverFromString(self._reactor, _FILES.sub(absolute, said))
        except Exception as error:
            # Twisted raises whatever it meets on a malformed description or a missing file.
            raise ConfigError(
                f"The web gateway cannot listen as {self._where()} says ({said}): {error}"
            ) from error

    async def stop(self) -> None:
        """Listen no more, and close every connection."""
        self._directory.node_url_path.unlink(missing_ok=True)
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        if self.gateway is not None:
            self.gateway.stop()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def url_at(address: str, port: int, *, secure: bool = False) -> str:
    """Return the URL of a gateway that listens at an address.

    >>> url_at("0.0.0.0", 8011), url_at("::1", 443, secure=True)
    ('http://127.0.0.1:8011/', 'https://[::1]:443/')
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address, address)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}/"

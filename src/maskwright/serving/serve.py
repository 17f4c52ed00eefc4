"""`maskwright serve`: models behind HTTP, until the process is told to stop."""

import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError, MissingExtraError
from maskwright.predictor.predictor import Predictor
from maskwright.serving.settings import ServeOptions

PACKAGES = {
    "python_multipart": "python-multipart",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "orjson": "orjson",
    "prometheus_client": "prometheus-client",
}
"""Modules that serving needs, with the packages that have them; fastapi looks for the first one."""


def require_packages() -> None:
    """Raises MissingExtraError where a package of the extra is missing."""
    for module, package in PACKAGES.items():
        try:
            import_module(module)
        except ImportError as error:
            raise MissingExtraError(package, "serve", "`maskwright serve`") from error


def request_names(models: Sequence[str]) -> dict[str, str]:
    """The names by which requests choose models: of a file its name without suffix. Raises ConfigError where two are
    alike."""
    names: dict[str, str] = {}
    for model in models:
        name = Path(model).stem if Path(model).is_file() else model
        if name in names:
            raise ConfigError(
                f"'{names[name]}' and '{model}' would both be called '{name}' in requests. Rename one of the files.",
                options=("model",),
            )
        names[name] = model
    return names


def serve(models: Mapping[str, Predictor], options: ServeOptions, say: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C; requests that were taken are answered before it returns.

    models: by the names that requests use; the first is the default. say: gets the address. Raises ConfigError where
    the address cannot be used, MissingExtraError, and KeyboardInterrupt behind Ctrl-C.
    """
    require_packages()
    import uvicorn

    from maskwright.serving.app import application

    with _listening(options) as listener:
        config = uvicorn.Config(
            application(models, options), log_level="warning", access_log=False, server_header=False, lifespan="on"
        )
        server = uvicorn.Server(config)
        with _stopping(server):
            host, port = listener.getsockname()[:2]
            say(f"serving {', '.join(models)} on http://{f'[{host}]' if ':' in host else host}:{port}")
            if not host.startswith("127.") and host != "::1" and not options.keys:
                say("anyone who reaches this address can use it: there is no API key (--api-key-file)")
            server.run(sockets=[listener])


@contextmanager
def _stopping(server: Any) -> Iterator[None]:
    """SIGTERM and Ctrl-C stop the server, also before it has begun; it sends each once more when it has stopped.

    Raises KeyboardInterrupt at the end where it was Ctrl-C.
    """
    told: list[int] = []

    def stop(number: int, _: object) -> None:
        told.append(number)
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in told:
        raise KeyboardInterrupt


def _listening(options: ServeOptions) -> socket.socket:
    """A socket that listens at the address."""
    host, port = options.host, options.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}:{port} cannot be used: {reason}. Give another port or address.", options=("port", "host")
        ) from error
